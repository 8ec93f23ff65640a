"""PSNR and SSIM of two planes, in float64, to the last digit that a paper prints and beyond."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from polyres.errors import DataError
from polyres.metrics.colour import Float

#: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity", 2004.
SSIM_WINDOW, SSIM_SIGMA, SSIM_K = 11, 1.5, (0.01, 0.03)

#: Outputs filtered by one matrix product: a banded matrix in a BLAS beats a loop over the taps.
_BLOCK = 32


def psnr(result: npt.NDArray[Any], reference: npt.NDArray[Any], peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB over every value of two arrays of one shape; ``inf`` if they are equal.

    Raises:
        DataError: shapes that differ, or nothing to compare.
    """
    a, b = same_shape(result, reference)
    error = float(np.mean(np.square(a - b)))
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def ssim(result: npt.NDArray[Any], reference: npt.NDArray[Any], peak: float = 255.0) -> float:
    """Structural similarity of (H, W) or (H, W, C) pictures, the mean over channels.

    An 11×11 Gaussian window of sigma 1.5 with biased (population) moments, K = (0.01, 0.03), averaged over the
    positions where the window lies inside the picture.

    Args:
        result: values in [0, peak].
        reference: as ``result``, of the same shape.
        peak: range of the values, 255 for 8 bits also on limited-range luma.

    Raises:
        DataError: shapes that differ, or a side shorter than the window.
    """
    a, b = same_shape(result, reference)
    if min(a.shape[:2]) < SSIM_WINDOW:
        raise DataError(
            f"SSIM needs at least {SSIM_WINDOW}×{SSIM_WINDOW} pixels; got {a.shape[1]}×{a.shape[0]}"
        )
    if a.ndim == 2:
        return similarity(a, b, peak)[0]
    return float(np.mean([similarity(a[..., c], b[..., c], peak)[0] for c in range(a.shape[2])]))


def similarity(a: Float, b: Float, peak: float) -> tuple[float, float]:
    """SSIM of two planes (H, W), and the mean of its contrast and structure terms alone (without luminance)."""
    c1, c2 = ((k * peak) ** 2 for k in SSIM_K)
    mean_a, mean_b, square_a, square_b, product = _smooth(np.stack([a, b, a * a, b * b, a * b]))
    means, cross = mean_a * mean_a + mean_b * mean_b, mean_a * mean_b
    structure = (2 * (product - cross) + c2) / (square_a + square_b - means + c2)
    return float(np.mean((2 * cross + c1) / (means + c1) * structure)), float(np.mean(structure))


def _smooth(planes: Float) -> Float:
    """Gaussian mean of (N, H, W) at the positions inside: (N, H - 10, W - 10)."""
    across = _smooth_rows(planes).swapaxes(1, 2)
    return np.swapaxes(_smooth_rows(across), 1, 2)


def _smooth_rows(planes: Float) -> Float:
    band, parts = _band(), []
    for start in range(0, planes.shape[1] - SSIM_WINDOW + 1, _BLOCK):
        inputs = planes[:, start : start + _BLOCK + SSIM_WINDOW - 1]
        reach = inputs.shape[1]
        parts.append(np.matmul(band[: reach - SSIM_WINDOW + 1, :reach], inputs))
    return np.concatenate(parts, axis=1)


@lru_cache(maxsize=1)
def _band() -> Float:
    """The window's profile along the diagonals of a matrix (_BLOCK, _BLOCK + 10)."""
    distance = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    profile = np.exp(-0.5 * (distance / SSIM_SIGMA) ** 2)
    band = np.zeros((_BLOCK, _BLOCK + SSIM_WINDOW - 1))
    for row in range(_BLOCK):
        band[row, row : row + SSIM_WINDOW] = profile / profile.sum()
    return band


def same_shape(result: npt.NDArray[Any], reference: npt.NDArray[Any]) -> tuple[Float, Float]:
    """Both as float64, refused unless of one shape and not empty."""
    if result.shape != reference.shape or not result.size:
        raise DataError(
            f"a metric compares two pictures of one shape; got {result.shape} and {reference.shape}"
        )
    return np.asarray(result, dtype=np.float64), np.asarray(reference, dtype=np.float64)
