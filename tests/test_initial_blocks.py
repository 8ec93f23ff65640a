"""Encoders of a run that begin with some of the blocks of a file's, or with more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_runs import config, save_pictures

import polyres
from polyres.encoders.edsr import EDSR
from polyres.errors import CheckpointError, ConfigError
from polyres.layers.equivariance import symmetric
from polyres.training.start import initial_model
from polyres.training.symmetry import begin_equivariant


def edsr(blocks: int = 2, bias: bool = True, **parts: object) -> dict[str, object]:
    """The model section of a run file."""
    options = {"channels": 16, "blocks": blocks, "normalisation_equivariant": not bias}
    return {
        "encoder": {"name": "edsr-baseline", "options": options},
        "upsampler": {"name": "igconv", "options": {"width": 8, "hidden_layers": 1}},
        **parts,
    }


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_deeper_networks_begin_as_the_shallower_ones(tmp_path: Path) -> None:
    shallow = polyres.build(polyres.ModelConfig.model_validate(edsr(2))).eval()
    polyres.save(shallow, tmp_path / "shallow.safetensors")
    initial = dict.fromkeys(("encoder", "upsampler"), str(tmp_path / "shallow.safetensors"))
    save_pictures(tmp_path)
    begun = initial_model(config(tmp_path, model=edsr(4), initial={**initial, "deepen": True})).eval()
    image = random(1, 3, 9, 8).sigmoid()
    assert torch.equal(begun(image, "5/2"), shallow(image, "5/2"))
    begun.encoder.get_submodule("body.3.conv2").weight.data.fill_(0.1)
    assert not torch.equal(begun(image, "5/2"), shallow(image, "5/2"))
    with pytest.raises(CheckpointError, match=r"the encoder of .* is not the one.*body\.2"):
        initial_model(config(tmp_path, model=edsr(4), initial=initial))
    with pytest.raises(CheckpointError, match="is not the one"):
        initial_model(config(tmp_path, model=edsr(1), initial={**initial, "deepen": True}))
    rdn = {"name": "rdn", "options": {"channels": 8, "growth": 4, "blocks": 1, "layers": 1}}
    with pytest.raises(ConfigError, match=r"deepen is for EDSR"):
        initial_model(config(tmp_path, model=edsr(4, encoder=rdn), initial={**initial, "deepen": True}))


def test_shallower_networks_begin_with_the_blocks_that_are_kept(tmp_path: Path) -> None:
    model = polyres.build(polyres.ModelConfig.model_validate(edsr(4))).eval()
    file = tmp_path / "deep.safetensors"
    polyres.save(model, file)
    initial = {**dict.fromkeys(("encoder", "upsampler"), str(file)), "without": [0, 2]}
    save_pictures(tmp_path)
    begun = initial_model(config(tmp_path, model=edsr(2), initial=initial)).eval()
    image = random(1, 3, 9, 8).sigmoid()
    encoder = polyres.load(file).encoder
    assert isinstance(encoder, EDSR)
    for block in (encoder.body[0], encoder.body[2]):
        nn.init.zeros_(block.conv2.weight)
        nn.init.zeros_(block.conv2.bias)
    torch.testing.assert_close(begun.encoder(image), encoder(image))
    assert torch.equal(begun.encoder(image), encoder.with_blocks([1, 3])(image))
    assert begun.encoder.context == encoder.with_blocks([1, 3]).context == encoder.context - 4
    with pytest.raises(ConfigError, match=r"blocks 0 to 3; got 4"):
        initial_model(config(tmp_path, model=edsr(2), initial={**initial, "without": [1, 4]}))
    with pytest.raises(CheckpointError, match="is not the one"):
        initial_model(config(tmp_path, model=edsr(2), initial={**initial, "without": [1]}))
    rdn = {"name": "rdn", "options": {"channels": 8, "growth": 4, "blocks": 1, "layers": 1}}
    polyres.save(polyres.build(polyres.ModelConfig.model_validate(edsr(encoder=rdn))), file)
    for key in ("without", "twice", "merged"):
        wrong = config(tmp_path, model=edsr(2, encoder=rdn), initial={"encoder": str(file), key: [1]})
        with pytest.raises(ConfigError, match=rf"{key} is for EDSR"):
            initial_model(wrong)


def test_blocks_that_come_twice_add_half_each_time(tmp_path: Path) -> None:
    model = polyres.build(polyres.ModelConfig.model_validate(edsr(3))).eval()
    file = tmp_path / "model.safetensors"
    polyres.save(model, file)
    initial = {**dict.fromkeys(("encoder", "upsampler"), str(file)), "without": [0], "twice": [1]}
    save_pictures(tmp_path)
    begun = initial_model(config(tmp_path, model=edsr(3), initial=initial)).eval()
    assert isinstance(model.encoder, EDSR)
    feature = random(1, 16, 9, 8)
    first, again, last = begun.encoder.body
    # Of the second block, which is now the first two; the third is as it was, and the first is gone.
    torch.testing.assert_close(2 * (first(feature) - feature), model.encoder.body[1](feature) - feature)
    assert torch.equal(first(feature), again(feature))
    assert torch.equal(last(feature), model.encoder.body[2](feature))
    first.conv1.weight.data.zero_()
    assert not torch.equal(first(feature), again(feature))
    assert begun.encoder.context == model.encoder.context
    with pytest.raises(ConfigError, match=r"twice: .* blocks 0 to 2; got 3"):
        initial_model(config(tmp_path, model=edsr(4), initial={**initial, "twice": [3]}))
    with pytest.raises(ConfigError, match="block 0 is in more than one of without, twice and merged"):
        initial_model(config(tmp_path, model=edsr(4), initial={**initial, "twice": [0, 1]}))


@pytest.mark.parametrize("bias", [True, False])
def test_two_blocks_become_one_with_half_of_each(tmp_path: Path, bias: bool) -> None:
    deep, merged = edsr(5, bias), edsr(3, bias)
    model = polyres.build(polyres.ModelConfig.model_validate(deep)).eval()
    for parameter in model.encoder.parameters():
        nn.init.normal_(parameter, std=0.1)
    file = tmp_path / "model.safetensors"
    polyres.save(model, file)
    initial = {**dict.fromkeys(("encoder", "upsampler"), str(file)), "merged": [1], "without": [4]}
    save_pictures(tmp_path)
    begun = initial_model(config(tmp_path, model=merged, initial=initial)).eval()
    assert isinstance(model.encoder, EDSR)
    feature = random(1, 16, 9, 8)
    was, now = model.encoder.body, begun.encoder.body
    for place, block in ((0, 0), (2, 3)):
        assert torch.equal(now[place](feature), was[block](feature))
    added = torch.zeros_like(feature)
    for block, kept in ((was[1], slice(0, None, 2)), (was[2], slice(1, None, 2))):
        hidden = torch.zeros_like(feature)
        hidden[:, kept] = block.conv1(feature).relu()[:, kept]
        both = block.conv2(hidden)
        added += both - block.conv2(torch.zeros_like(hidden)) / 2  # half of the bias
    torch.testing.assert_close(now[1](feature) - feature, added)
    assert begun.encoder.context == model.encoder.context - 4
    for wrong, message in (
        ({"merged": [4], "without": []}, r"merged: .* blocks 0 to 4; got 5"),
        ({"merged": [1, 2]}, "block 2 is in more than one"),
        ({"merged": [3]}, "block 4 is in more than one"),
    ):
        with pytest.raises(ConfigError, match=message):
            initial_model(config(tmp_path, model=merged, initial={**initial, **wrong}))


def test_of_two_blocks_kept_to_turns_one_is_kept_to_flips() -> None:
    encoder = EDSR(16, 3, normalisation_equivariant=True)
    begin_equivariant(encoder, "turns-and-negatives", encoder.state_dict().keys())
    merged = encoder.with_blocks([0, (1, 2)])
    begin_equivariant(merged, "flips-and-negatives", set())  # which raises if they are not
    for conv in (merged.body[1].conv1, merged.body[1].conv2):
        kernel = conv.weight.detach()
        flips, turns = (
            symmetric(kernel, symmetry, (0, 1), [(2, 3)])
            for symmetry in ("flips-and-negatives", "turns-and-negatives")
        )
        torch.testing.assert_close(flips, kernel)
        assert not torch.allclose(turns, kernel, atol=1e-2)
