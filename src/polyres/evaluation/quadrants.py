"""Pictures upscaled in four overlapping quadrants, as EDSR's repository and its descendants do by ``--chop``.

Networks that look at the whole picture see only a quadrant then, so results differ from those of the whole picture.
Published numbers of such networks, CFGN's and KRGN's among them, were measured this way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from polyres.errors import UsageError
from polyres.evaluation.routes import Upscale
from polyres.scale import Scale

#: LR pixels by which quadrants reach beyond the middle.
SHAVE = 10

#: A picture of four times as many LR pixels or more has its quadrants cut into quadrants again.
MOST_PIXELS = 160_000


def in_quadrants(upscale: Upscale, shave: int = SHAVE, most_pixels: int = MOST_PIXELS) -> Upscale:
    """``upscale`` applied to quadrants; its result is put together without blending.

    Args:
        upscale: takes (h, w, 3) and a whole-number scale.
        shave: LR pixels by which quadrants reach beyond the middle of the picture, at least one.
        most_pixels: a quarter of the picture size from which quadrants are cut again.

    Raises:
        UsageError: when called with a scale that is no whole number.
    """

    def quartered(low: npt.NDArray[np.uint8], scale: Scale) -> npt.NDArray[np.floating[Any]]:
        if not scale.is_integer:
            raise UsageError(f"quadrants are cut for whole-number scales only, not for x{scale}")
        rows, columns = low.shape[:2]
        part = quartered if rows * columns >= 4 * most_pixels else upscale
        bands = []
        for window, kept in _halves(rows, scale.y.numerator, shave):
            across = [
                part(low[window, side], scale)[kept, place]
                for side, place in _halves(columns, scale.x.numerator, shave)
            ]
            bands.append(np.concatenate(across, axis=1))
        return np.concatenate(bands)

    return quartered


def _halves(size: int, factor: int, shave: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Of one axis, for either half: what the network sees, and which part of its result is kept."""
    half, enlarged = size // 2, size * factor
    first = slice(0, min(size, half + shave)), slice(0, enlarged // 2)
    begin = max(0, size - half - shave)
    return first, (slice(begin, size), slice(enlarged // 2 - begin * factor, None))
