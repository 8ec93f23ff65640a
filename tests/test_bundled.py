"""The bundled model: small, described, and better than bicubic at every scale from one file."""

from __future__ import annotations

import pytest
from skimage import data

import polyres
from polyres.data import crop_to_fit, resize
from polyres.data.pairs import inverse
from polyres.evaluation.models import model_upscaler
from polyres.metrics import PROTOCOLS
from polyres.weights import load_card, resolve


def test_it_is_small_and_says_what_it_is() -> None:
    card = load_card("default")
    assert resolve("default").stat().st_size < 6e6
    assert card.licence == "Apache-2.0"
    assert {row.data for row in card.results} == {"Set5", "Set14", "BSD100"}
    assert {"2", "3", "4"} <= {row.scale for row in card.results}
    assert card.training
    assert card.training_data


@pytest.mark.parametrize("scale", ["3/2", "2", "5/2", "3", "4"])
def test_it_beats_bicubic_on_a_photograph_it_never_saw(scale: str) -> None:
    exact, protocol = polyres.Scale.of(scale), PROTOCOLS["paper-y"]
    high = crop_to_fit(data.coffee()[100:340, 150:390], exact)
    low = resize(high, scale=inverse(exact))
    bicubic = resize(low, size=high.shape[:2]) / 255
    ours = model_upscaler(polyres.load("default"))(low, exact)
    gain = protocol.score(ours, high, exact).psnr - protocol.score(bicubic, high, exact).psnr
    assert gain > 1
