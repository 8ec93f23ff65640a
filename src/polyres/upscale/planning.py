"""Plans: which enlargement the network makes, and what is resampled after it, for any scale or size asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from polyres.errors import PictureError, ScaleError, UsageError
from polyres.scale import Scale, ScaleLike

#: Largest factor that the network is asked for; what is wanted beyond it is resampled.
LARGEST = 8

#: Longest period, in pixels of the picture and of the result, that the network is asked for as it is. Longer ones
#: cost more than the detour over a near scale, and no training saw them.
LONGEST_PERIOD = 8, 32

#: Scales that the network is asked for when the one wanted has too long a period, ascending.
NEAR = sorted({Fraction(p, q) for q in (1, 2, 3) for p in range(q + 1, LARGEST * q + 1)})

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
    supports: Callable[[Scale], bool] = lambda scale: True,
) -> Plan:
    """The plan for a picture of ``height`` x ``width``.

    The network makes the scale itself where it can and the period is short. Otherwise it makes the nearest good
    scale at or above, the same for both axes, and a fixed antialiased filter does the rest. Where nothing is
    enlarged, the filter does everything; beyond the largest scale that the network makes, it enlarges further.

    Args:
        height: rows of the picture.
        width: its pixels a row.
        scale: exact factor wanted, one number or a pair (height, width).
        size: or the size wanted, (width, height).
        max_pixels: of the result.
        supports: which scales the network can make.

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
    chosen = _model_scale(Fraction(rows, height), Fraction(columns, width), scale, supports)
    made = chosen.output_size(height, width) if chosen else (height, width)
    return Plan(columns, rows, chosen, None if made == (rows, columns) else (columns, rows))


def _model_scale(
    down: Fraction, across: Fraction, scale: ScaleLike | None, supports: Callable[[Scale], bool]
) -> Scale | None:
    """What the network makes for the factors ``down`` and ``across``, or for ``scale`` if that was asked for."""
    wanted = Scale(down, across) if scale is None else Scale.of(scale)
    if max(down, across) <= 1 and max(wanted.y, wanted.x) <= 1:
        return None
    longest, most = LONGEST_PERIOD
    short = (
        max(wanted.period) <= longest and max(wanted.phases) <= most and max(wanted.y, wanted.x) <= LARGEST
    )
    if short and wanted.is_uniform and supports(wanted):
        return wanted
    factor = min(max(wanted.y, wanted.x), Fraction(LARGEST))
    near = (Scale(candidate, candidate) for candidate in NEAR if candidate >= factor)
    # A network that can make nothing this large is asked all the same, and says what it can.
    return next(filter(supports, near), wanted)


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
