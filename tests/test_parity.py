"""Networks reproduce what the original implementations computed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from polyres.layers.padding import pad_to
from polyres.weights import load
from polyres.weights.compat import FOREIGN

OPEN = Path(__file__).resolve().parents[2] / "shared" / "parity" / "open"


def cases() -> list[str]:
    """The recorded networks whose class is in our list."""
    found = []
    for path in sorted(OPEN.glob("*.json")):
        meta = json.loads(path.read_text())
        if meta.get("cls") in FOREIGN and meta["kind"] != "unit":
            found.append(path.stem)
    return found or ["none recorded here"]


def tolerance(meta: dict, expected: Tensor) -> float:
    return max(2e-5, 10 * meta["max_abs_f32_minus_f64"]) * max(1.0, float(expected.std()))


@pytest.fixture(params=cases())
def case(request: pytest.FixtureRequest, shared: Path) -> tuple[dict, dict[str, Tensor], Path]:
    if not OPEN.is_dir():
        pytest.skip(f"no recordings in {OPEN}")
    path = OPEN / f"{request.param}.safetensors"
    return json.loads(path.with_suffix(".json").read_text()), load_file(path), path


def test_outputs_equal_the_recorded_ones(case: tuple[dict, dict[str, Tensor], Path]) -> None:
    meta, recorded, path = case
    network_g = {"type": meta["cls"], **meta["kwargs"], **patched_sizes(meta)}
    model = load(path, network_g=network_g)
    assert sum(p.numel() for p in model.parameters()) == meta["params"]
    checked = 0
    for key, expected in recorded.items():
        match = re.fullmatch(r"io/out(64)?(pad)?\.(\d+x\d+x\d+)\.x(\d+)(\.sub3)?", key)
        if match is None:
            continue
        image = recorded[f"io/in.{match[3]}"].double() / meta["input_multiplier"]
        scale, (height, width) = int(match[4]), image.shape[-2:]
        if match[2] and meta["pad"] == "internal":  # padded by the caller although the network would do it
            image = pad_to(image, meta["window"])
        precise = match[1] is not None
        # A copy for float64: weights stay the recorded float32 values.
        network, image = (
            (load(path, network_g=network_g).double(), image) if precise else (model, image.float())
        )
        with torch.no_grad():
            output = network(image, scale) * meta["input_multiplier"]
        output = output[:, :, : height * scale, : width * scale]
        output = output[:, :, ::3, ::3] if match[5] else output
        limit = 1e-8 * max(1.0, float(expected.std())) if precise else tolerance(meta, expected)
        assert (output - expected).abs().max() <= limit, key
        checked += 1
    assert checked


def patched_sizes(meta: dict) -> dict:
    """Sizes that the original hard-codes and the recording changed; our readers take them as arguments."""
    return {k: v for sizes in meta["hard_coded_sizes_patched"].values() for k, v in sizes.items()}
