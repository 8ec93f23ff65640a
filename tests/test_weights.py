"""Files describe themselves, load strictly, and never harm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import polyres
from polyres.errors import CheckpointError, ConfigError, OutputError, UnknownNameError
from polyres.weights import load, load_card, save
from polyres.weights.card import ModelCard


def tiny() -> polyres.SRModel:
    torch.manual_seed(1)
    config = polyres.ModelConfig.model_validate(
        {
            "encoder": {"name": "edsr", "options": {"channels": 8, "blocks": 1}},
            "upsampler": {"name": "igconv+", "options": {"width": 8, "hidden_layers": 1, "sample_width": 4}},
            "mean": [0.4, 0.5, 0.6],
            "value_range": 255,
        }
    )
    return polyres.build(config).eval()


def test_a_saved_model_loads_as_it_was(tmp_path: Path) -> None:
    model, card = tiny(), ModelCard(name="tiny", licence="Apache-2.0", scales=("2", "5/2"))
    save(model, tmp_path / "m.safetensors", card)
    loaded = load(tmp_path / "m.safetensors")
    image = torch.rand(1, 3, 5, 7)
    with torch.no_grad():
        assert torch.equal(loaded(image, "5/2"), model(image, "5/2"))
    assert (loaded.config, loaded.mean, loaded.value_range) == (model.config, (0.4, 0.5, 0.6), 255)
    assert load_card(tmp_path / "m.safetensors") == card
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_nothing_is_left_where_saving_fails(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        save(tiny(), tmp_path / "missing" / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_missing_extra_and_misshaped_weights_are_told_together(tmp_path: Path) -> None:
    model = tiny()
    save(model, path := tmp_path / "m.safetensors")
    tensors, metadata = polyres.weights.files.read_weights(path)
    del tensors["encoder.head.weight"]
    tensors["surplus"] = torch.zeros(1)
    tensors["encoder.head.bias"] = torch.zeros(9)
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError) as error:
        load(path)
    for part in (
        "1 missing (encoder.head.weight)",
        "1 extra (surplus)",
        "encoder.head.bias (9,) instead of (8,)",
    ):
        assert part in str(error.value)


def test_names_that_do_not_exist_suggest_one() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'default'"):
        load("defualt")


def test_options_that_do_not_exist_suggest_one() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'edsr'"):
        polyres.ENCODERS.make("edsrr")
    with pytest.raises(ConfigError, match="Did you mean 'channels'"):
        polyres.ENCODERS.make("edsr", chanels=3)


@pytest.mark.parametrize("wrapper", ["params_ema", "params", "state_dict", None])
def test_wrapped_checkpoints_load(wrapper: str | None, tmp_path: Path, shared: Path) -> None:
    from safetensors.torch import load_file

    tensors = load_file(shared / "parity" / "open" / "edsr_x2.safetensors")
    weights = {f"module.{key}": value for key, value in tensors.items() if not key.startswith("io/")}
    content = {wrapper: weights, "params_old": 3} if wrapper else weights
    torch.save(content, tmp_path / "x2_edsr.pth")
    network_g = {"type": "EDSR", "num_feat": 16, "num_block": 2, "upscale": 2}
    model = load(tmp_path / "x2_edsr.pth", network_g=network_g)
    with torch.no_grad():
        output = model(tensors["io/in.1x17x13"], 2)
    assert (output - tensors["io/out.1x17x13.x2"]).abs().max() < 2e-5


def test_an_unknown_argument_of_an_original_is_named(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, path := tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="Did you mean 'num_feat'"):
        load(path, network_g={"type": "EDSR", "num_feats": 64})
    with pytest.raises(UnknownNameError, match="Did you mean 'EDSRIG"):
        load(path, network_g={"type": "EDSRIGplus"})


def test_sizes_that_an_original_hard_codes_are_read_from_the_weights(shared: Path) -> None:
    # RCANIGPlus writes 10 groups of 20 blocks into its code; the recording has 2 of 2, which no argument can say.
    path = shared / "parity" / "open" / "rcan_igplus.safetensors"
    network_g = {"type": "RCANIGPlus", "implicit_dim": 32, "n_layers": 4, "geo_ensemble": True, "max_s": 4}
    model = load(path, network_g=network_g)
    assert model.config.encoder.options["groups"] == 2
    with pytest.raises(CheckpointError, match="does not fit"):
        load(path, network_g={**network_g, "implicit_dim": 64})
