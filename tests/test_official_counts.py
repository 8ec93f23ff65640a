"""Released configurations have the published sizes and work: nothing allocated, all on the meta device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from polyres.deploy.cost import multiply_adds
from polyres.deploy.fuse import FusedModel
from polyres.layers.folding import fold
from polyres.model import SRModel, build
from polyres.scale import Scale
from polyres.upsamplers import FixedUpsampler
from polyres.upsamplers.igconv import IGConv
from polyres.weights.compat import FOREIGN, convert

OFFICIAL = Path(__file__).resolve().parents[2] / "shared" / "parity" / "official"


def cases() -> list[str]:
    """The released configurations whose class is in our list."""
    found = []
    for path in sorted(OFFICIAL.glob("*.json")):
        record = json.loads(path.read_text())
        if isinstance(record, dict) and record.get("cls") in FOREIGN:
            found.append(path.stem)
    return found or ["none recorded here"]


#: Work of these is counted in every run, of the others in slow ones.
QUICK = (
    "fixed_BasicSR_options_test_EDSR_test_EDSR_Mx2",
    "fixed_SMFANet_options_test_SMFANet_DF2K_x4SR",
    "fixed_SwinIR_main_test_swinir.py_lightweight_x4",
    "ig_SMFANet_IGConvPlus_DF2K",
)


def worked_cases() -> list[object]:
    return [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in cases()]


def read(shared: Path, name: str) -> dict:
    path = shared / "parity" / "official" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"no recording {path}")
    return json.loads(path.read_text())


def translated(record: dict) -> tuple[SRModel, dict[str, Tensor]]:
    """Our network for a released configuration, and its checkpoint's tensors under our keys, without values."""
    network_g = {"type": record["cls"], **record["kwargs"]}
    theirs = {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, (shape, dtype) in record["keys"].items()
    }
    with torch.device("meta"):
        config, tensors = convert(theirs, network_g, Path("official.pth"))
        return build(config).eval(), tensors


@pytest.mark.parametrize("name", cases())
def test_every_key_and_shape_is_the_published_one(name: str, shared: Path) -> None:
    record = read(shared, name)
    model, tensors = translated(record)
    assert sum(parameter.numel() for parameter in model.parameters()) == record["params"]
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == ours


def at_scale(upsampler: nn.Module, scale: int) -> tuple[FixedUpsampler, int]:
    """The upsampler of one scale without values, and what generating the sampler's kernels takes.

    The original generates these anew for each picture, even in the form that is fixed to one scale.
    """
    if not isinstance(upsampler, IGConv):
        return upsampler.at(scale), 0
    upsampler = upsampler.to_empty(device="cpu")
    for parameter in upsampler.parameters():
        nn.init.zeros_(parameter)
    sampler = upsampler.sampler
    generation = multiply_adds(lambda: sampler.kernels(Scale.of(scale))) if sampler is not None else 0
    return upsampler.at(scale).to("meta"), generation


@torch.no_grad()
@pytest.mark.parametrize("name", worked_cases())
def test_multiply_adds_are_the_published_ones(name: str, shared: Path) -> None:
    record = read(shared, name)
    published, scale, kind = record["macs"], record.get("scale", 3), "macs"
    if f"x{scale}" in published:
        published, kind = published[f"x{scale}"], "macs_instantiated"
    model, _ = translated(record)
    upsampler, generation = at_scale(model.upsampler, scale)
    with torch.device("meta"):
        network = FusedModel(fold(model.encoder), upsampler, model.mean, model.value_range)
        image = torch.empty(1, 3, *published["lr"])
        counted = multiply_adds(lambda: network(image)) + generation
    assert counted == pytest.approx(published[kind], rel=0.001)
