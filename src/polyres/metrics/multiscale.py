"""MS-SSIM: structural similarity at five resolutions, each half of the one before.

Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment", 2003.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from polyres.errors import DataError
from polyres.metrics.colour import Float
from polyres.metrics.fidelity import SSIM_WINDOW, same_shape, similarity

#: Exponents of the five resolutions, finest first; they sum to 1.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

#: Pixels that a side needs so that the window fits into the coarsest resolution.
MIN_SIDE = (SSIM_WINDOW - 1) * 2 ** (len(WEIGHTS) - 1) + 1


def ms_ssim(result: npt.NDArray[Any], reference: npt.NDArray[Any], peak: float = 255.0) -> float:
    """Multi-scale structural similarity of (H, W) or (H, W, C) pictures, the mean over channels.

    The contrast and structure terms of every resolution, and the luminance term of the coarsest, each averaged over
    the picture, raised to :data:`WEIGHTS` and multiplied. A resolution is halved by the means of 2×2 pixels, an odd
    last row or column repeated, as in the authors' code. A negative average, of which there is no real power, counts
    as 0.

    Args:
        result: values in [0, peak].
        reference: as ``result``, of the same shape.
        peak: range of the values.

    Raises:
        DataError: shapes that differ, or a side shorter than 161 pixels.
    """
    a, b = same_shape(result, reference)
    if min(a.shape[:2]) < MIN_SIDE:
        raise DataError(
            f"MS-SSIM needs at least {MIN_SIDE}×{MIN_SIDE} pixels; got {a.shape[1]}×{a.shape[0]}: leave it out"
        )
    if a.ndim == 2:
        return _plane(a, b, peak)
    return float(np.mean([_plane(a[..., c], b[..., c], peak) for c in range(a.shape[2])]))


def _plane(a: Float, b: Float, peak: float) -> float:
    product = 1.0
    for weight in WEIGHTS[:-1]:
        product *= max(0.0, similarity(a, b, peak)[1]) ** weight
        a, b = _halved(a), _halved(b)
    return float(product * max(0.0, similarity(a, b, peak)[0]) ** WEIGHTS[-1])


def _halved(plane: Float) -> Float:
    height, width = plane.shape
    even = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    return np.asarray((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4)
