"""Released configurations have the published sizes, key by key: nothing allocated, all on the meta device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from polyres.model import SRModel, build
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


@pytest.fixture(params=cases())
def record(request: pytest.FixtureRequest, shared: Path) -> dict:
    path = shared / "parity" / "official" / f"{request.param}.json"
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
        return build(config), tensors


def test_every_key_and_shape_is_the_published_one(record: dict) -> None:
    model, tensors = translated(record)
    assert sum(parameter.numel() for parameter in model.parameters()) == record["params"]
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == ours
