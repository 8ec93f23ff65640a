"""Checkpoints without options: the shapes tell the network, and what does not fit is said in groups."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polyres.errors import CheckpointError, PolyresError
from polyres.weights import load
from polyres.weights.compat import READERS
from polyres.weights.compat import _named as named
from polyres.weights.compat.recognise import grouped, recognise
from polyres.weights.compat.shapes import NotThisNetworkError, ratio, root
from polyres.weights.files import read_weights

PARITY = Path(__file__).resolve().parents[2] / "shared" / "parity"
INFERRED = {reader.type for reader in READERS if reader.infer is not None}

#: Arguments that change nothing in what the network computes.
IDLE = {"return_skip", "data_train", "use_checkpoint", "no_upsampling"}
#: The same of networks for every scale.
IDLE_SCALES = {"upscale", "upscaling_factor"}
#: The same of single classes or files: some make nothing of ``img_size``; one release differs in ``max_s`` alone.
IDLE_OF = {
    "MambaIR": {"img_size"},
    "ATD": {"img_size"},
    "SRFormer": {"img_size"},  # rounded up to whole windows
    "HAT": {"squeeze_factor"},  # several give the same width
    **{f"HiT_{kind}": {"img_size", "expansion_factor"} for kind in ("SIR", "SNG", "SRF")},
    "ig_MambaIR_IGConvPlus_DFL_S8": {"max_s"},
}


def records(folder: str) -> list[str]:
    found = [path.stem for path in sorted((PARITY / folder).glob("*.json"))]
    return [stem for stem in found if _class_of(folder, stem) in INFERRED] or ["none recorded here"]


def _class_of(folder: str, stem: str) -> str | None:
    record = json.loads((PARITY / folder / f"{stem}.json").read_text())
    return record.get("cls") if isinstance(record, dict) and record.get("kind") != "unit" else None


def plain(value: object) -> object:
    """Tuples as lists, and one scale as the number that it is."""
    value = list(value) if isinstance(value, tuple) else value
    return value[0] if isinstance(value, list) and len(value) == 1 else value


@pytest.mark.parametrize("stem", records("open"))
def test_shapes_tell_what_the_recorded_options_said(stem: str, shared: Path) -> None:
    path = shared / "parity" / "open" / f"{stem}.safetensors"
    meta = json.loads(path.with_suffix(".json").read_text())
    tensors = {k: v for k, v in load_file(path).items() if not k.startswith("io/")}
    found = recognise(tensors, READERS, path)
    assert found.reader.type == meta["cls"]
    idle = IDLE | IDLE_OF.get(meta["cls"], set()) | found.assumed.keys()
    idle |= IDLE_SCALES if meta["kind"] == "ig" else set()
    told = {k: v for k, v in meta["kwargs"].items() if k not in idle}
    if "RDNconfig" in told:
        told["RDNconfig"] = meta["hard_coded_sizes_patched"]["rdn"][told["RDNconfig"]]
    assert {k: plain(found.arguments[k]) for k in told} == {k: plain(v) for k, v in told.items()}


@pytest.mark.parametrize("stem", records("official"))
def test_released_networks_are_recognised_whole(stem: str, shared: Path) -> None:
    record = json.loads((shared / "parity" / "official" / f"{stem}.json").read_text())
    tensors = {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, (shape, dtype) in record["keys"].items()
    }
    found = recognise(tensors, READERS, Path("released.pth"))
    assert found.reader.type == record["cls"]
    idle = IDLE | IDLE_OF.get(record["cls"], set()) | IDLE_OF.get(stem, set())
    idle |= IDLE_SCALES if stem.startswith("ig_") else set()
    released = {k: plain(v) for k, v in record["kwargs"].items() if k not in idle}
    if "RDNconfig" in released:
        released["RDNconfig"] = [16, 8, 64]
    assert {k: plain(found.arguments[k]) for k in released} == released


def test_files_load_without_options(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = shared / "parity" / "open" / "edsr_x4.safetensors"
    recorded = load_file(path)
    with caplog.at_level(logging.WARNING):
        model = load(path)
    with torch.no_grad():
        output = model(recorded["io/in.1x17x13"], 4)
    torch.testing.assert_close(output, recorded["io/out.1x17x13.x4"], rtol=0, atol=1e-4)
    assert "EDSR" in caplog.text
    assert "shapes cannot tell res_scale=1, img_range=255.0" in caplog.text


def test_the_older_name_of_the_sampler_is_read(shared: Path, tmp_path: Path) -> None:
    recorded = load_file(shared / "parity" / "open" / "rdn_igplus.safetensors")
    older = {key.replace("skip.", "dy_sampler."): tensor for key, tensor in recorded.items()}
    save_file(older, tmp_path / "older.safetensors")
    with torch.no_grad():
        output = load(tmp_path / "older.safetensors")(recorded["io/in.1x17x13"], 3)
    torch.testing.assert_close(output, recorded["io/out.1x17x13.x3"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("start", [b"\x80\x01", b"PK"])
def test_a_header_may_be_as_long_as_the_start_of_another_format(start: bytes, tmp_path: Path) -> None:
    path, length = tmp_path / "m.safetensors", int.from_bytes(start, "little")
    for padding in range(length - 150, length):
        save_file({"weight": torch.ones(2)}, path, metadata={"note": "x" * padding})
        if path.read_bytes()[:2] == start:
            break
    tensors, metadata = read_weights(path)
    assert torch.equal(tensors["weight"], torch.ones(2))
    assert metadata["note"] == "x" * padding


def test_of_two_classes_of_one_name_arguments_decide_then_keys(shared: Path) -> None:
    keys = {
        f: load_file(shared / "parity" / "open" / f"{f}.safetensors") for f in ("rcan_x2", "rcan_basicsr_x2")
    }
    for given, tensors, own in (
        ({"n_feats": 16}, {}, "n_feats"),
        ({"num_feat": 16}, {}, "num_feat"),
        ({"num_feat": 16}, keys["rcan_x2"], "num_feat"),
        ({}, keys["rcan_x2"], "n_feats"),
        ({}, keys["rcan_basicsr_x2"], "num_feat"),
        ({"res_scale": 1}, keys["rcan_basicsr_x2"], "num_feat"),
    ):
        assert own in named({"type": "RCAN", **given}, tensors).defaults


@pytest.mark.parametrize("stem", ["rdn_x3", "rdn_igplus", "rcan_igplus"])
def test_options_that_leave_out_hard_coded_sizes_suffice(stem: str, shared: Path) -> None:
    path = shared / "parity" / "open" / f"{stem}.safetensors"
    meta = json.loads(path.with_suffix(".json").read_text())
    model = load(path, network_g={"type": meta["cls"], **meta["kwargs"]})
    assert sum(parameter.numel() for parameter in model.parameters()) == meta["params"]


def smfanet(shared: Path) -> dict[str, Tensor]:
    tensors = load_file(shared / "parity" / "open" / "smfanet_x2.safetensors")
    return {key: tensor for key, tensor in tensors.items() if not key.startswith("io/")}


def test_what_does_not_fit_is_grouped_and_the_nearest_named(shared: Path, tmp_path: Path) -> None:
    tensors = smfanet(shared)
    for block in range(2):
        del tensors[f"feats.{block}.smfa.dw_conv.bias"]
    tensors["surplus"] = torch.zeros(1)
    tensors["feats.1.smfa.belt"] = torch.zeros(3)
    save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError) as error:
        load(tmp_path / "odd.safetensors")
    for part in (
        "nearest is {'type': 'SMFANet', 'dim': 16, 'n_blocks': 2",
        "2 missing (encoder.blocks.#.modulation.coarse.bias x2)",
        "1 extra (surplus)",
        "1 of another shape (encoder.blocks.#.modulation.variance_weight)",
    ):
        assert part in str(error.value)


def test_a_network_too_incomplete_to_size_is_still_named(shared: Path, tmp_path: Path) -> None:
    tensors = {key: tensor for key, tensor in smfanet(shared).items() if not key.startswith("to_feat")}
    save_file(tensors, tmp_path / "headless.safetensors")
    with pytest.raises(CheckpointError, match=r"46 of its 46 weights are named as those of SMFANet"):
        load(tmp_path / "headless.safetensors")


@pytest.mark.parametrize(
    "given",
    [{"dim": 0}, {"dim": "x"}, {"dim": None}, {"upscaling_factor": -1}, {"n_blocks": 1.5}, {"ffn_scale": []}],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_arguments_of_no_network_are_refused(given: dict, shared: Path) -> None:
    path = shared / "parity" / "open" / "smfanet_x2.safetensors"
    with pytest.raises(PolyresError):
        load(path, network_g={"type": "SMFANet", "dim": 16, "n_blocks": 2, "upscaling_factor": 2, **given})


@pytest.mark.parametrize(
    "stem", ["rcan_basicsr_x3", "rdn_igplus", "smfanet_x4", "plksr_x2", "safmn_x2", "edsr_ig"]
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_damaged_shapes_are_refused(stem: str, shared: Path) -> None:
    tensors = load_file(shared / "parity" / "open" / f"{stem}.safetensors")
    tensors = {k: torch.empty(v.shape, device="meta") for k, v in tensors.items() if not k.startswith("io/")}
    for key in list(tensors)[:: max(1, len(tensors) // 8)]:
        for shape in ((), (0,), (7,), (0, *tensors[key].shape[1:])):
            damaged = {**tensors, key: torch.empty(shape, device="meta")}
            with pytest.raises(CheckpointError):
                recognise(damaged, READERS, Path("damaged.pth"))


def test_weights_of_another_network_say_whose_they_are(shared: Path) -> None:
    path = shared / "parity" / "open" / "smfanet_x2.safetensors"
    with pytest.raises(
        CheckpointError, match=r"does not fit the SAFMN .*those of {'type': 'SMFANet', 'dim': 16"
    ):
        load(path, network_g={"type": "SAFMN", "dim": 16, "n_blocks": 2, "upscaling_factor": 2})


def test_weights_like_no_network_are_refused(tmp_path: Path) -> None:
    save_file(
        {"layer.0.weight": torch.zeros(2), "layer.1.weight": torch.zeros(2)}, tmp_path / "a.safetensors"
    )
    with pytest.raises(
        CheckpointError, match=r"2 weights \(layer\.#\.weight x2\) are like no known network's"
    ):
        load(tmp_path / "a.safetensors")


def test_keys_of_one_kind_are_one_group() -> None:
    assert grouped(["a.0.b", "a.12.b", "c"]) == "a.#.b x2, c"
    assert grouped("abcde", most=2).endswith(", ...")


@pytest.mark.parametrize(("part", "whole"), [(72, 36), (71, 36), (1, 3), (29, 30), (115, 58)])
def test_ratios_give_the_part_back(part: int, whole: int) -> None:
    assert int(whole * ratio(part, whole)) == part


@pytest.mark.parametrize("number", [0, 2, 8])
def test_what_is_no_square_belongs_to_no_network(number: int) -> None:
    with pytest.raises(NotThisNetworkError):
        root(number)


def test_empty_tensors_belong_to_no_network(shared: Path, tmp_path: Path) -> None:
    tensors = {
        key: tensor
        for key, tensor in load_file(shared / "parity" / "open" / "hat_x2.safetensors").items()
        if not key.startswith("io/")
    }
    tensors["layers.0.residual_group.blocks.0.conv_block.cab.0.weight"] = torch.zeros(0, 18, 3, 3)
    save_file(tensors, tmp_path / "empty.safetensors")
    with pytest.raises(CheckpointError):
        load(tmp_path / "empty.safetensors")
