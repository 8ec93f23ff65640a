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

#: Outputs along an axis filtered by one matrix product: a banded matrix in a BLAS beats a loop over the taps.
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
    height, width = (side - SSIM_WINDOW + 1 for side in a.shape)
    # Strip by strip, in the same memory: it stays in the cache, which whole planes of moments would not.
    reach, moments = _BLOCK + SSIM_WINDOW - 1, _Moments(width)
    strips = [
        _sums(*moments(a[top : top + reach], b[top : top + reach]), peak) for top in range(0, height, _BLOCK)
    ]
    full, structure = (math.fsum(sums) / (height * width) for sums in zip(*strips, strict=True))
    return full, structure


def _sums(mean_a: Float, mean_b: Float, squares: Float, product: Float, peak: float) -> tuple[float, float]:
    """What :func:`similarity` averages, added over the positions of a strip, whose moments are overwritten."""
    c1, c2 = ((k * peak) ** 2 for k in SSIM_K)
    cross = mean_a * mean_b
    mean_a *= mean_a
    mean_b *= mean_b
    means = np.add(mean_a, mean_b, out=mean_a)
    product -= cross
    product *= 2
    product += c2
    squares -= means
    squares += c2
    structure = np.divide(product, squares, out=product)
    total = float(structure.sum())
    cross *= 2
    cross += c1
    means += c1
    cross /= means
    structure *= cross
    return float(structure.sum()), total


class _Moments:
    """Gaussian means of strips (H, W) of two planes: of either, of the sum of squares, of the product.

    The four are (H - 10, ``width``), where the window lies inside, and hold until the next call.
    """

    def __init__(self, width: int) -> None:
        across = width + SSIM_WINDOW - 1
        self._planes = np.empty((4, _BLOCK + SSIM_WINDOW - 1, across))
        self._rows, self._smooth = np.empty((4, _BLOCK, across)), np.empty((4, _BLOCK, width))

    def __call__(self, a: Float, b: Float) -> tuple[Float, Float, Float, Float]:
        height = len(a) - SSIM_WINDOW + 1
        planes, rows, smooth = self._planes[:, : len(a)], self._rows[:, :height], self._smooth[:, :height]
        planes[0], planes[1] = a, b
        np.multiply(a, a, out=planes[2])
        planes[2] += np.multiply(b, b, out=planes[3])
        np.multiply(a, b, out=planes[3])
        band = _band()
        np.matmul(band[:height, : len(a)], planes, out=rows)
        for left in range(0, smooth.shape[2], _BLOCK):
            part = smooth[..., left : left + _BLOCK]
            columns, reach = part.shape[2], part.shape[2] + SSIM_WINDOW - 1
            np.matmul(rows[..., left : left + reach], band[:columns, :reach].T, out=part)
        mean_a, mean_b, squares, product = smooth
        return mean_a, mean_b, squares, product


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
