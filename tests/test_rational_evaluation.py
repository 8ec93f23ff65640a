"""Evaluation at rational scales: HR cropped to whole periods, LR exact and aligned, borders of the scale rounded up."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyres.data import find_pairs, resize
from polyres.evaluation import BASELINES, evaluate
from polyres.metrics import find_protocol
from polyres.scale import Scale

RATIONALS = ["3/2", "5/2", "7/2", "4/3", "8/3", "7/4"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    coarse = np.random.default_rng(0).integers(0, 256, (12, 13, 3), np.uint8)
    Image.fromarray(resize(coarse, size=(61, 67))).save(tmp_path / "wall.png")
    return tmp_path


@pytest.mark.parametrize("text", RATIONALS)
def test_low_resolution_is_imresize_of_whole_periods(folder: Path, text: str) -> None:
    scale = Scale.of(text)
    (pair,) = find_pairs(folder, [scale])
    low, high = pair.read()
    p, q = scale.y.numerator, scale.y.denominator
    assert high.shape == (61 // p * p, 67 // p * p, 3)
    assert low.shape == (61 // p * q, 67 // p * q, 3)
    with Image.open(folder / "wall.png") as original:
        np.testing.assert_array_equal(high, np.asarray(original)[: high.shape[0], : high.shape[1]])
    np.testing.assert_array_equal(low, resize(high, scale=Fraction(q, p)))
    np.testing.assert_array_equal(low, resize(high, size=low.shape[:2]))


@pytest.mark.parametrize("text", RATIONALS)
def test_low_resolution_lies_where_the_network_takes_it_to_lie(text: str) -> None:
    """LR pixel n is the mean of the ramp about HR position (n + 1/2) p/q: the geometry of :mod:`polyres.scale`."""
    p, q = Scale.of(text).y.numerator, Scale.of(text).y.denominator
    ramp = np.tile(np.arange(16.0 * p) + 0.5, (8, 1))
    low = resize(ramp, size=(8, 16 * q))
    expected = (np.arange(16 * q) + 0.5) * p / q
    np.testing.assert_allclose(low[0, 3 * q : -3 * q], expected[3 * q : -3 * q], rtol=0, atol=0.05)


@pytest.mark.parametrize("text", RATIONALS)
def test_the_scale_rounded_up_is_shaved(folder: Path, text: str) -> None:
    scale = Scale.of(text)
    border = math.ceil(scale.y)
    assert find_protocol("paper-y").border(scale) == (border, border)
    (pair,) = find_pairs(folder, [scale])
    high = pair.read_high()

    def psnr(wrong: int) -> float:
        """Of a result that is right but for a frame of ``wrong`` pixels."""
        frame = 1 - high / 255
        frame[wrong:-wrong, wrong:-wrong] = high[wrong:-wrong, wrong:-wrong] / 255
        return evaluate(lambda low, scale: frame, [pair], with_ssim=False).rows[0].psnr

    assert psnr(border) == math.inf
    assert psnr(border + 1) < 40


def test_bicubic_rows_at_rational_scales_do_not_change(folder: Path) -> None:
    """Measured here once; a change of crop, kernel, alignment or border would move them."""
    pairs = find_pairs(folder, [Scale.of(text) for text in ("3/2", "5/2", "7/2")])
    means = evaluate(BASELINES["bicubic"], pairs, with_ssim=False).means()
    assert [round(mean.psnr, 2) for mean in means] == [51.67, 39.75, 31.29]
