"""Metrics agree with their definitions, with scikit-image, and with the twelve values of the protocol's page."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyres.data import find_pairs, resize
from polyres.errors import DataError, UnknownNameError
from polyres.metrics import PROTOCOLS, Protocol, find_protocol, psnr, quantise, ssim, to_full_range_y, to_y
from polyres.scale import Scale

PAPER = PROTOCOLS["paper-y"]

#: PSNR of Set5 and Set14, MATLAB bicubic x4, LR made with the edge pixel repeated, as in the copies of the papers.
PSNR_VALUES: dict[str, tuple[Protocol, float, float]] = {
    "paper-y": (PAPER, 28.4318, 26.0928),
    "Y rounded": (replace(PAPER, colour="y-rounded"), 28.4189, 26.0885),
    "no shave": (replace(PAPER, shave_scales=0), 28.4358, 25.8795),
    "shave s+6": (replace(PAPER, shave_pixels=6), 28.4498, 26.0879),
    "not quantised": (replace(PAPER, quantise=False), 28.4333, 26.0937),
    "full-range Y": (replace(PAPER, colour="y-full"), 27.1098, 24.7708),
    "RGB": (PROTOCOLS["rgb"], 26.6960, 24.4664),
}
SSIM_VALUES: dict[str, tuple[Protocol, float, float]] = {
    "paper-y": (PAPER, 0.8113, 0.7049),
    "range 219": (replace(PAPER, peak=219.0), 0.7932, 0.6817),
    "RGB": (PROTOCOLS["rgb"], 0.7734, 0.6640),
}
SETS = [("Set5", 0), pytest.param("Set14", 1, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def bicubic(shared: Path) -> Callable[[str], list[tuple[np.ndarray, np.ndarray]]]:
    """A set's pictures enlarged four times by bicubic in double precision, with their originals."""

    def make(group: str) -> list[tuple[np.ndarray, np.ndarray]]:
        highs = [p.read_high() for p in find_pairs(shared / "data" / "bench" / group, [Scale.of(4)])]
        lows = [resize(high, scale="1/4", edge="repeat") for high in highs]
        return [
            (resize(low, scale=4, quantise="never") / 255, high)
            for low, high in zip(lows, highs, strict=True)
        ]

    return make


@pytest.mark.parametrize(("group", "place"), SETS)
def test_the_twelve_values(bicubic, group, place):
    metrics = pytest.importorskip("skimage.metrics")
    scale, pictures = Scale.of(4), bicubic(group)

    def mean(values):
        return round(float(np.mean(list(values))), 4)

    for name, (protocol, *expected) in PSNR_VALUES.items():
        found = mean(protocol.score(up, high, scale, with_ssim=False).psnr for up, high in pictures)
        assert found == expected[place], name
    for name, (protocol, *expected) in SSIM_VALUES.items():
        found = mean(protocol.score(up, high, scale).ssim for up, high in pictures)
        assert found == expected[place], name
    swapped = mean(PAPER.score(u[..., ::-1], h[..., ::-1], scale, with_ssim=False).psnr for u, h in pictures)
    assert swapped == (28.6052, 26.0779)[place]
    inside = (slice(4, -4), slice(4, -4))
    planes = [(to_y(quantise(u * 255))[inside], to_y(h)[inside]) for u, h in pictures]
    default = mean(metrics.structural_similarity(a, b, data_range=255) for a, b in planes)
    assert default == (0.8232, 0.7217)[place]


@settings(max_examples=25, deadline=None)
@given(st.integers(11, 90), st.integers(11, 90), st.floats(0, 60), st.integers(0, 2**32 - 1))
def test_ssim_is_scikit_images_with_the_protocols_settings(height, width, noise, seed):
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(seed)
    a = rng.uniform(0, 255, (height, width, 3))
    b = np.clip(a + rng.normal(0, noise, a.shape), 0, 255)
    options = {"data_range": 255, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    grey = metrics.structural_similarity(a[..., 0], b[..., 0], **options)
    assert ssim(a[..., 0], b[..., 0]) == pytest.approx(grey, abs=1e-10)
    colour = metrics.structural_similarity(a, b, channel_axis=2, **options)
    assert ssim(a, b) == pytest.approx(colour, abs=1e-10)


def test_identical_pictures_have_infinite_psnr_and_ssim_one():
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    assert psnr(picture, picture) == math.inf
    assert ssim(picture, picture) == pytest.approx(1)
    assert PAPER.score(picture / 255, picture, Scale.of(2)).psnr == math.inf


def test_psnr_of_a_known_error():
    assert psnr(np.zeros((4, 4), dtype=np.uint8), np.full((4, 4), 255, dtype=np.uint8)) == 0
    assert psnr(np.zeros((4, 4)), np.ones((4, 4))) == pytest.approx(20 * math.log10(255))
    assert psnr(np.zeros((4, 4)), np.full((4, 4), 0.1), peak=1) == pytest.approx(20)


def test_luma_is_matlabs():
    primaries = np.array(
        [[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8
    )
    np.testing.assert_allclose(to_y(primaries), [[235, 16, 81.481, 144.553, 40.966]])
    np.testing.assert_allclose(to_full_range_y(primaries), [[255, 0, 76.245, 149.685, 29.07]])
    with pytest.raises(DataError, match="RGB"):
        to_y(np.zeros((4, 4)))


def test_halves_are_rounded_up_and_the_range_is_clamped():
    np.testing.assert_array_equal(
        quantise(np.array([-3, 0.49, 0.5, 1.5, 2.5, 254.5, 300])), [0, 0, 1, 2, 3, 255, 255]
    )


@pytest.mark.parametrize(
    ("name", "scale", "border"),
    [
        ("paper-y", 4, (4, 4)),
        ("paper-y", Fraction(5, 2), (3, 3)),
        ("paper-y", (2, Fraction(7, 3)), (2, 3)),
        ("edsr-div2k", 3, (9, 9)),
        ("rgb", 2, (2, 2)),
    ],
)
def test_the_border_follows_the_scale(name, scale, border):
    assert find_protocol(name).border(Scale.of(scale)) == border


def test_shaving_hides_exactly_the_border():
    high = np.random.default_rng(1).integers(0, 256, (40, 44, 3), dtype=np.uint8)
    spoilt = high / 255
    spoilt[:3], spoilt[-3:], spoilt[:, :3], spoilt[:, -3:] = 0, 0, 0, 0
    assert PAPER.score(spoilt, high, Scale.of(3)).psnr == math.inf
    assert PAPER.score(spoilt, high, Scale.of(2)).psnr < 60
    for scale in ((2, 3), (3, 2)):
        assert PAPER.score(spoilt, high, Scale.of(scale)).psnr < 60
    spoilt[:, 3:-3] = high[:, 3:-3] / 255
    assert PAPER.score(spoilt, high, Scale.of((2, 3))).psnr == math.inf


def test_results_are_clamped_whatever_the_protocol():
    high = np.full((20, 20, 3), 255, dtype=np.uint8)
    for protocol in (PAPER, replace(PAPER, quantise=False)):
        assert protocol.score(np.full(high.shape, 1.7), high, Scale.of(2)).psnr == math.inf


def test_every_choice_shows_in_the_definition():
    variants = [PAPER, *(p for p, *_ in [*PSNR_VALUES.values(), *SSIM_VALUES.values()] if p is not PAPER)]
    assert len({protocol.definition for protocol in variants}) == len(set(variants))
    assert PROTOCOLS["edsr-div2k"].definition.count("s + 6 pixels shaved") == 1


@pytest.mark.parametrize(
    ("result", "reference", "what"),
    [
        (np.zeros((20, 20, 3)), np.zeros((20, 21, 3)), "shape"),
        (np.full((20, 20, 3), np.nan), np.zeros((20, 20, 3)), "finite"),
        (np.zeros((4, 20, 3)), np.zeros((4, 20, 3)), "shaving"),
        (np.zeros((12, 20, 3)), np.zeros((12, 20, 3)), "11×11"),
    ],
)
def test_what_cannot_be_measured_is_refused(result, reference, what):
    with pytest.raises(DataError, match=what):
        PAPER.score(result, reference, Scale.of(2))


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'paper-y'"):
        find_protocol("paper_y")
    with pytest.raises(UnknownNameError, match="colour"):
        Protocol("mine", colour="luma")  # type: ignore[arg-type]
