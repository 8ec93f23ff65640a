"""Plans: which enlargement the network makes, and what is resampled after it, for any scale or size asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from polyres.errors import PictureError, ScaleError, UsageError
from polyres.scale import Scale, ScaleLike

#: Largest whole factor that the network is asked for; what is wanted beyond it is resampled.
LARGEST = 8

#: Pixels that a result may have unless a caller allows more.
MAX_OUTPUT_PIXELS = 2_000_000_000


@dataclass(frozen=True)
class Plan:
    """How a picture becomes ``width`` x ``height``.

    Attributes:
        width: of the result.
        height: of the result.
        model_scale: what the network makes; None if it has nothing to add, because nothing is enlarged.
        resample_to: (width, height) that a fixed antialiased filter brings that to; None if nothing remains.
    """

    width: int
    height: int
    model_scale: Scale | None
    resample_to: tuple[int, int] | None

    def __str__(self) -> str:
        steps = [] if self.model_scale is None else [f"x{self.model_scale} by the network"]
        if self.resample_to is not None:
            steps.append(f"resampled to {self.width}x{self.height}")
        return ", then ".join(steps) or "copied as it is"


def plan(
    height: int,
    width: int,
    *,
    scale: ScaleLike | None = None,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_OUTPUT_PIXELS,
) -> Plan:
    """The plan for a picture of ``height`` x ``width``: the nearest whole scale at or above, and the remainder.

    Args:
        height: rows of the picture.
        width: its pixels a row.
        scale: exact factor wanted, one number or a pair (height, width).
        size: or the size wanted, (width, height).
        max_pixels: of the result.

    Raises:
        UsageError: neither or both of ``scale`` and ``size``.
        ScaleError: a scale or size that does not exist.
        PictureError: a result of more than ``max_pixels``.
    """
    rows, columns = _target(height, width, scale, size)
    if rows * columns > max_pixels:
        raise PictureError(
            f"the result would be {columns}x{rows} = {rows * columns / 1e6:.0f} megapixels; at most "
            f"{max_pixels / 1e6:g} are made: choose a smaller scale, or enlarge a part"
        )
    factor = min(math.ceil(max(Fraction(rows, height), Fraction(columns, width))), LARGEST)
    enlarged = (height * factor, width * factor)
    return Plan(
        columns,
        rows,
        Scale.of(factor) if factor > 1 else None,
        (columns, rows) if enlarged != (rows, columns) else None,
    )


def _target(
    height: int, width: int, scale: ScaleLike | None, size: tuple[int, int] | None
) -> tuple[int, int]:
    """Rows and columns wanted."""
    if scale is not None and size is None:
        return Scale.of(scale).output_size(height, width)
    if size is None or scale is not None:
        raise UsageError("give either a scale, such as 3, or a size, such as (1920, 1080)")
    if len(size) != 2 or not all(isinstance(side, int) and side >= 1 for side in size):
        raise ScaleError(f"a size is (width, height) in whole pixels, at least 1x1; got {size}")
    return size[1], size[0]
