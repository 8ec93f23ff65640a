"""The bundled models: small, described, the same as ever, and better than bicubic at every scale from one file."""

from __future__ import annotations

import zlib

import golden
import numpy as np
import pytest
import torch
from skimage import data

import polyres
from polyres.data import crop_to_fit, resize
from polyres.data.pairs import inverse
from polyres.deploy.cost import parameters
from polyres.evaluation.models import model_upscaler
from polyres.metrics import PROTOCOLS
from polyres.weights import BUNDLED, load_card, resolve

NAMES = sorted(set(BUNDLED) - {"default"})
#: Weights that a model has at most, fused at x4.
MOST = {"tiny": 1e5, "small": 6.2e5, "base": 1.5e6, "small-real": 6e5}


def test_the_default_is_small() -> None:
    assert resolve("default") == resolve("small")
    assert set(MOST) == set(NAMES)
    # As the wheel holds them, which stays under 20 MB.
    assert sum(len(zlib.compress(resolve(name).read_bytes(), 1)) for name in NAMES) < 10e6


@pytest.mark.parametrize("name", NAMES)
def test_they_are_small_and_say_what_they_are(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    assert parameters(polyres.fuse(polyres.load(name), 4)) < MOST[name]
    assert card.licence == "Apache-2.0"
    assert {row.data for row in card.results} == {"Set5", "Set14", "BSD100"}
    assert {"2", "3", "4"} <= {row.scale for row in card.results}
    assert card.summary
    assert card.training
    assert card.training_data


@pytest.mark.parametrize("name", NAMES)
def test_they_compute_what_they_did_when_they_were_bundled(name: str) -> None:
    kept = golden.expected()
    assert sorted(kept) == NAMES
    made = golden.outputs(name)
    for scale in golden.SCALES:
        torch.testing.assert_close(
            torch.tensor(made[scale]), torch.tensor(kept[name][scale]), rtol=0, atol=1e-4
        )


def gain(name: str, low: np.ndarray, high: np.ndarray, scale: polyres.Scale) -> float:
    """PSNR above bicubic's, in dB."""
    bicubic = resize(low, size=high.shape[:2]) / 255
    ours = model_upscaler(polyres.load(name))(low, scale)
    score = PROTOCOLS["paper-y"].score
    return score(ours, high, scale).psnr - score(bicubic, high, scale).psnr


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"small-real"}))
@pytest.mark.parametrize("scale", ["3/2", "2", "5/2", "3", "4"])
def test_they_beat_bicubic_on_a_photograph_they_never_saw(name: str, scale: str) -> None:
    exact = polyres.Scale.of(scale)
    high = crop_to_fit(data.coffee()[100:340, 150:390], exact)
    assert gain(name, resize(high, scale=inverse(exact)), high, exact) > 1
