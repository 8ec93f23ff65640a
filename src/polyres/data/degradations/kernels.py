"""Blur kernels as small arrays that sum to one, and the filtering with them.

Formulas: Wang et al. 2021, Real-ESRGAN, arXiv 2107.10833, sections 3.1 and 3.3.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from polyres.data.degradations.base import Image

Float: TypeAlias = npt.NDArray[np.float64]

#: Points of the trapezoidal rule for the Bessel function: exact to rounding while they exceed its argument.
_POINTS = 256


def gaussian(
    size: int, sigma: tuple[float, float], angle: float, beta: float = 1.0, plateau: bool = False
) -> Float:
    """A Gaussian blur kernel or one of its relatives.

    Args:
        size: odd side in pixels.
        sigma: standard deviations along the two axes of the ellipse, in pixels.
        angle: of the first axis, in radians.
        beta: shape; 1 is the Gaussian, ``exp(-q^beta / 2)`` in general for the quadratic form ``q``.
        plateau: ``1 / (1 + q^beta)`` instead, flat in the middle.
    """
    y, x = _grid(size)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    form = ((along / sigma[0]) ** 2 + (across / sigma[1]) ** 2) ** beta
    kernel = 1 / (1 + form) if plateau else np.exp(-form / 2)
    return np.asarray(kernel / kernel.sum())


def sinc(size: int, cutoff: float) -> Float:
    """The ideal circular low-pass of ``cutoff`` radians a pixel, cut to ``size``: what makes ringing."""
    y, x = _grid(size)
    radii, place = np.unique(
        np.hypot(y, x), return_inverse=True
    )  # a sixth of the pixels: the rest are mirrored
    with np.errstate(invalid="ignore", divide="ignore"):
        values = cutoff * bessel_j1(cutoff * radii) / (2 * math.pi * radii)
    values[0] = cutoff**2 / (4 * math.pi)  # the limit of the formula at radius 0
    kernel = values[place].reshape(size, size)
    return np.asarray(kernel / kernel.sum())


def bessel_j1(x: Float) -> Float:
    """The Bessel function of the first kind of order 1, for ``|x|`` up to about 200, by its integral."""
    angles = (np.arange(_POINTS) + 0.5) * (math.pi / _POINTS)
    return np.asarray(np.cos(angles - x[..., None] * np.sin(angles)).mean(axis=-1))


def blur(image: Image, kernel: Float) -> Image:
    """``image`` (H, W, 3) correlated with ``kernel``, whose side is odd; borders are mirrored."""
    reach = kernel.shape[0] // 2
    planes = image.transpose(2, 0, 1)
    wide = np.pad(planes, ((0, 0), (reach, reach), (reach, reach)), mode="symmetric")
    # Whatever is added to reach a length that transforms fast wraps around into the margin, which is cut off.
    shape = _fast(wide.shape[1]), _fast(wide.shape[2])
    spectrum = np.fft.rfft2(kernel[::-1, ::-1].astype(np.float32), shape)
    result = np.fft.irfft2(np.fft.rfft2(wide, shape) * spectrum, shape)
    inside = result[:, 2 * reach : wide.shape[1], 2 * reach : wide.shape[2]]
    return np.ascontiguousarray(inside.transpose(1, 2, 0), dtype=np.float32)


def _fast(length: int) -> int:
    """The first length from ``length`` on whose prime factors are 2, 3 and 5."""
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


def _grid(size: int) -> tuple[Float, Float]:
    place = np.arange(size, dtype=np.float64) - size // 2
    return place[:, None] + 0 * place, place + 0 * place[:, None]
