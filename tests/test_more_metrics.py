"""MS-SSIM against an independent computation, and measuring protocols of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polyres.errors import ConfigError, DataError, PolyresError, UnknownNameError
from polyres.metrics import PROTOCOLS, Protocol, ms_ssim, protocol_from, read_protocol
from polyres.scale import Scale


def slow_ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """The published definition, by scipy's filters."""
    ndimage = pytest.importorskip("scipy.ndimage")
    grid = np.exp(-np.square(np.arange(-5, 6)) / (2 * 1.5**2))
    window = np.outer(grid, grid) / grid.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def mean(x: np.ndarray) -> np.ndarray:
        return ndimage.correlate(x, window)[5:-5, 5:-5]

    value = 1.0
    for level, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if level:
            a, b = (
                ndimage.correlate(x, np.full((2, 2), 0.25), mode="reflect", origin=-1)[::2, ::2]
                for x in (a, b)
            )
        ma, mb = mean(a), mean(b)
        contrast = (2 * (mean(a * b) - ma * mb) + c2) / (mean(a * a) - ma**2 + mean(b * b) - mb**2 + c2)
        luminance = (2 * ma * mb + c1) / (ma**2 + mb**2 + c1)
        value *= np.mean(contrast * luminance if level == 4 else contrast) ** weight
    return float(value)


@pytest.mark.parametrize("size", [(161, 161), (176, 203), (193, 162)])
def test_ms_ssim_is_the_published_formula(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(size))
    a = np.cumsum(rng.normal(0, 6, size), axis=1) + 128
    b = a + rng.normal(0, 12, size)
    assert ms_ssim(a, b) == pytest.approx(slow_ms_ssim(a, b), abs=1e-12)
    both = ms_ssim(np.stack([a, b], 2), np.stack([b, b], 2))
    assert both == pytest.approx((ms_ssim(a, b) + 1) / 2)


def test_ms_ssim_of_opposites_is_zero_and_of_equals_one() -> None:
    a = np.random.default_rng(0).uniform(0, 255, (170, 170))
    assert ms_ssim(a, a) == pytest.approx(1)
    assert ms_ssim(a, 255 - a) == 0


def test_pictures_too_small_for_ms_ssim_are_refused() -> None:
    with pytest.raises(DataError, match="161×161"):
        ms_ssim(np.zeros((160, 200)), np.zeros((160, 200)))


def test_protocols_measure_ms_ssim_on_request() -> None:
    rng = np.random.default_rng(1)
    high = rng.integers(0, 256, (180, 190, 3), dtype=np.uint8)
    protocol, scale = PROTOCOLS["paper-y"], Scale.of(2)
    noisy = high / 255 + rng.normal(0, 0.05, high.shape)
    scores = protocol.score(noisy, high, scale, with_ms_ssim=True)
    planes = [protocol.planes(x)[2:-2, 2:-2] for x in (protocol.prepare(noisy), high)]
    assert scores.ms_ssim == ms_ssim(*planes)
    assert protocol.score(noisy, high, scale).ms_ssim is None


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yml"
    path.write_text(text)
    return str(path)


def test_a_protocol_of_ones_own_comes_from_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, "name: mine\ncolour: y-rounded\nshave_pixels: 6\nquantise: false\npeak: 219\n")
    assert protocol_from(path) == Protocol("mine", "y-rounded", 1, 6, False, 219)
    assert protocol_from("rgb") is PROTOCOLS["rgb"]
    with pytest.raises(UnknownNameError):
        protocol_from("rbg")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("colour: rgb", "name of its own"),
        ("name: paper-y", "something else already"),
        ("name: mine\ncolor: rgb", "Did you mean 'colour'"),
        ("name: mine\ncolour: luma", "no colour is called 'luma'"),
        ("name: mine\nshave_scales: -1", "shave_scales is a whole number"),
        ("name: mine\nshave_pixels: yes", "shave_pixels is a whole number"),
        ("name: mine\nquantise: 8", "true or false"),
        ("name: mine\npeak: .inf", "peak is a number"),
        ("name: [", "not YAML"),
        ("- 1", "holds no protocol"),
    ],
)
def test_protocol_files_that_are_wrong_say_where(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        protocol_from(write(tmp_path, text))
    assert "mine.yml" in str(caught.value)
    assert isinstance(caught.value, PolyresError)


def test_a_protocol_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone"):
        read_protocol(tmp_path / "gone.yml")
