"""Plans: which enlargement the network makes, and what is resampled after it, for any scale or size asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from fractions import Fraction

from polyres.errors import ScaleError, TooLargeError, UsageError
from polyres.scale import Scale, ScaleLike
from polyres.upscale.targets import MAX_OUTPUT_PIXELS, Target

#: Largest factor that the network is asked for; what is wanted beyond it is resampled.
LARGEST = 8

#: Longest period, in pixels of the picture and of the result, that the network is asked for as it is. Longer ones
#: cost more than the detour over a near scale, and no training saw them.
LONGEST_PERIOD = 8, 32

#: Scales that the network is asked for when the one wanted has too long a period, ascending.
NEAR = sorted({Fraction(p, q) for q in (1, 2, 3) for p in range(q + 1, LARGEST * q + 1)})


@dataclass(frozen=True)
class Plan:
    """How a picture becomes ``width`` x ``height``.

    Attributes:
        width: of the result.
        height: of the result.
        model_scale: what the network makes; None if it has nothing to add, because nothing is enlarged.
        resample_to: (width, height) that a fixed antialiased filter brings that to; None if nothing remains.
        cut_from: (width, height) of the enlarged whole whose centre is kept; None if all of it is.
    """

    width: int
    height: int
    model_scale: Scale | None
    resample_to: tuple[int, int] | None
    cut_from: tuple[int, int] | None = None

    def __str__(self) -> str:
        steps = [] if self.model_scale is None else [f"x{self.model_scale} by the network"]
        if self.resample_to is not None:
            only = "" if steps else "only "
            steps.append(f"{only}resampled to {self.resample_to[0]}x{self.resample_to[1]}")
        if self.cut_from is not None:
            steps.append(f"cut to {self.width}x{self.height} about its centre")
        return ", then ".join(steps) or "copied as it is"

    @property
    def kept(self) -> tuple[slice, slice]:
        """The rows and columns of the enlarged whole that are the result."""
        across, down = self.cut_from or (self.width, self.height)
        left, top = (across - self.width) // 2, (down - self.height) // 2
        return slice(top, top + self.height), slice(left, left + self.width)


def plan(
    height: int,
    width: int,
    *,
    scale: ScaleLike | None = None,
    size: tuple[int, int] | None = None,
    target: Target | None = None,
    max_pixels: int = MAX_OUTPUT_PIXELS,
    supports: Callable[[Scale], bool] = lambda scale: True,
) -> Plan:
    """The plan for a picture of ``height`` x ``width``.

    The network makes the scale itself where it can and the period is short, and a size where such a scale rounds
    to it. Otherwise it makes the nearest good scale at or above that comes to whole pixels, the same for both axes,
    and a fixed antialiased filter does the rest. Where nothing is enlarged, the filter does everything; beyond the
    largest scale that the network makes, it enlarges further.

    Args:
        height: rows of the picture.
        width: its pixels a row.
        scale: exact factor wanted, one number or a pair (height, width).
        size: or the size wanted, (width, height), whatever becomes of the aspect.
        target: or any other way of asking for a size.
        max_pixels: of the result.
        supports: which scales the network can make.

    Raises:
        UsageError: none or several of ``scale``, ``size`` and ``target``.
        ScaleError: a scale or size that does not exist.
        TooLargeError: a result of more than ``max_pixels``.
    """
    wanted = _target(scale, size, target)
    fitted = wanted.of(width, height)
    columns, rows = fitted.whole or (fitted.width, fitted.height)
    if rows * columns > max_pixels:
        raise TooLargeError(
            f"the result would be {columns}x{rows} = {rows * columns / 1e6:.0f} megapixels; at most "
            f"{max_pixels / 1e6:g} are made: choose a smaller scale, or enlarge a part"
        )
    exact = Scale(Fraction(rows, height), Fraction(columns, width))
    if wanted.scale is not None and Scale.of(wanted.scale).output_size(height, width) == (rows, columns):
        exact = Scale.of(wanted.scale)
    chosen = _model_scale(height, width, (rows, columns), exact, supports)
    made = chosen.output_size(height, width) if chosen else (height, width)
    resample_to = None if made == (rows, columns) else (columns, rows)
    cut_from = None if (columns, rows) == (fitted.width, fitted.height) else fitted.whole
    return Plan(fitted.width, fitted.height, chosen, resample_to, cut_from)


def remarks(work: Plan, height: int, width: int, trained: Collection[Scale] = ()) -> list[str]:
    """What a person should know of a plan: that no network is used, or that it is used beyond what it has learned.

    Args:
        work: the plan.
        height: rows of the picture.
        width: its pixels a row.
        trained: scales that the model was trained at; none if that is not known.
    """
    made = work.model_scale
    if made is None:
        return [] if work.resample_to is None else ["nothing is enlarged, so no network is used"]
    told = []
    least, most = (pick(trained, key=_factor, default=made) for pick in (min, max))
    if not _factor(least) <= _factor(made) <= _factor(most):
        told.append(f"x{made} is beyond the scales that this model was trained at (x{least} to x{most})")
    rows, columns = made.output_size(height, width)
    if work.resample_to is not None and (rows < work.resample_to[1] or columns < work.resample_to[0]):
        told.append(f"the network makes x{made} at most, and a fixed filter the rest")
    return told


def _factor(scale: Scale) -> float:
    return scale.mean_factor


def _model_scale(
    height: int, width: int, made: tuple[int, int], wanted: Scale, supports: Callable[[Scale], bool]
) -> Scale | None:
    """What the network makes of ``height`` x ``width`` for ``wanted``, which comes to the size ``made``."""
    if max(wanted.y, wanted.x) <= 1 and made[0] <= height and made[1] <= width:
        return None
    longest, most = LONGEST_PERIOD
    short = (
        max(wanted.period) <= longest and max(wanted.phases) <= most and max(wanted.y, wanted.x) <= LARGEST
    )
    if short and wanted.is_uniform and supports(wanted):
        return wanted
    factor: Fraction = max(wanted.y, wanted.x)
    good = [scale for scale in map(Scale.of, NEAR) if supports(scale)]
    same = [scale for scale in good if scale.output_size(height, width) == made]
    if same:
        return min(same, key=lambda scale: abs(scale.y - factor))
    near = [scale for scale in good if scale.y >= min(factor, Fraction(LARGEST))]
    # A size that was rounded would be stretched by the filter: the shift costs decibels, a larger scale only time.
    whole = (s for s in near if (height * s.y).denominator == 1 == (width * s.x).denominator)
    # A network that can make nothing this large is asked all the same, and says what it can.
    return next(whole, near[0] if near else wanted)


def _target(scale: ScaleLike | None, size: tuple[int, int] | None, target: Target | None) -> Target:
    """What is wanted, whichever way it was said."""
    if (scale is not None) + (size is not None) + (target is not None) != 1:
        raise UsageError("give either a scale, such as 3, or a size, such as (1920, 1080)")
    if target is not None:
        return target
    if size is None:
        return Target(scale=scale)
    if len(size) != 2 or not all(isinstance(side, int) and side >= 1 for side in size):
        raise ScaleError(f"a size is (width, height) in whole pixels, at least 1x1; got {size}")
    return Target(width=size[0], height=size[1], mode="stretch")
