"""Targets: what size a result should have, in the ways that people ask for it, worked out for any picture."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias, get_args

from polyres.errors import ScaleError, UsageError
from polyres.scale import Scale, ScaleLike

#: Pixels that a result may have unless a caller allows more.
MAX_OUTPUT_PIXELS = 2_000_000_000

#: Largest number that a target may hold, which keeps what is worked out from it small.
_MOST = 10**12

#: What becomes of the aspect where both sides are given. ``fit``: kept, the result lies within the two sides.
#: ``fill``: kept, the result covers them, and what is beyond is cut off, as much on either side. ``stretch``: not kept.
Mode: TypeAlias = Literal["fit", "fill", "stretch"]


@dataclass(frozen=True)
class Fitted:
    """The size that a target means for one picture.

    Attributes:
        width: of the result.
        height: of the result.
        whole: (width, height) of the enlarged whole whose centre is the result; None if the result is the whole.
    """

    width: int
    height: int
    whole: tuple[int, int] | None = None


@dataclass(frozen=True)
class Target:
    """What is asked for: a scale, one or both sides, or the short or the long side, and perhaps a limit.

    Sides that follow from the aspect are rounded to the nearest pixel, halves up, and are at least 1.

    Attributes:
        scale: exact factor, one number or a pair (height, width); rounded as :meth:`Scale.output_size` does.
        width: pixels a row.
        height: rows.
        short_side: pixels of the shorter side.
        long_side: pixels of the longer side.
        mode: what becomes of the aspect where ``width`` and ``height`` are both given.
        max_pixels: a result of more pixels is made smaller instead, in the same aspect, as large as this allows.

    Raises:
        UsageError: none or several of scale, sides, short side and long side; exact sides beyond ``max_pixels``.
        ScaleError: a number that is not a whole one of at least 1, or sides that no result can have.
    """

    scale: ScaleLike | None = None
    width: int | None = None
    height: int | None = None
    short_side: int | None = None
    long_side: int | None = None
    mode: Mode = "fit"
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        for name in ("width", "height", "short_side", "long_side", "max_pixels"):
            _check_count(name.replace("_", " "), getattr(self, name))
        if self.mode not in get_args(Mode):
            raise UsageError(f"a mode is one of {', '.join(get_args(Mode))}; got {self.mode!r}")
        sides = (self.width or self.height) is not None
        if (self.scale is not None) + sides + (self.short_side is not None) + (
            self.long_side is not None
        ) != 1:
            raise UsageError("give one of a scale, sides, a short side and a long side")
        if self.scale is not None:
            Scale.of(self.scale)
        self._check_exact_sides()

    @property
    def exact_sides(self) -> bool:
        """Whether every result has ``width`` and ``height``, whatever the picture."""
        return self.width is not None and self.height is not None and self.mode != "fit"

    @property
    def label(self) -> str:
        """What a file name can say of it: ``x2.5``, ``1920x1080``, ``w3840``, ``h2160``, ``short1080``, ``long99``."""
        if self.scale is not None:
            return f"x{Scale.of(self.scale)}".replace("/", "-").replace(",", "-")
        if self.width and self.height:
            return f"{self.width}x{self.height}"
        letters = {"w": self.width, "h": self.height, "short": self.short_side, "long": self.long_side}
        return next(f"{letter}{pixels}" for letter, pixels in letters.items() if pixels)

    def of(self, width: int, height: int) -> Fitted:
        """The size for an upright picture of ``width`` x ``height``."""
        factor = self._factor(width, height)
        if factor is None:  # both sides are given, and the aspect is not kept
            return Fitted(self.width or 1, self.height or 1)
        if isinstance(factor, Scale):
            rows, columns = factor.output_size(height, width)
            across, down = width * factor.x, height * factor.y
        else:
            across, down = width * factor, height * factor
            columns, rows = _nearest(across), _nearest(down)
        if self.exact_sides:
            return Fitted(self.width or 1, self.height or 1, (columns, rows))
        if self.max_pixels is not None and columns * rows > self.max_pixels:
            columns, rows = _largest(across / down, self.max_pixels)
        return Fitted(columns, rows)

    def _factor(self, width: int, height: int) -> Scale | Fraction | None:
        """What both sides are multiplied by; None where each has a factor of its own."""
        if self.scale is not None:
            return Scale.of(self.scale)
        if self.short_side is not None:
            return Fraction(self.short_side, min(width, height))
        if self.long_side is not None:
            return Fraction(self.long_side, max(width, height))
        factors = [
            Fraction(side, own)
            for side, own in ((self.width, width), (self.height, height))
            if side is not None
        ]
        if self.exact_sides:
            return max(factors) if self.mode == "fill" else None
        return min(factors)

    def _check_exact_sides(self) -> None:
        """Refuse, before any picture is known, what no picture can have."""
        area = (self.width or 1) * (self.height or 1) * (self.short_side or 1) ** 2 * (self.long_side or 1)
        limited = self.max_pixels is not None or (self.width and self.height and self.mode == "fit")
        if not limited and area > MAX_OUTPUT_PIXELS:
            raise ScaleError(
                f"a result of {self.label} would have more than {MAX_OUTPUT_PIXELS / 1e6:g} megapixels; "
                "choose a smaller size"
            )
        if self.exact_sides and self.max_pixels is not None and area > self.max_pixels:
            raise UsageError(
                f"{self.label} has {area} pixels, but at most {self.max_pixels} are asked for; "
                "drop one of the two, or let the result fit within the size"
            )


def _check_count(name: str, value: object) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (whole and 1 <= value <= _MOST):  # type: ignore[operator]
        raise ScaleError(f"{name} is a whole number of pixels, at least 1 and at most {_MOST}; got {value!r}")


def _nearest(length: Fraction) -> int:
    """The nearest whole number, halves up, at least 1."""
    return max(1, (2 * length.numerator + length.denominator) // (2 * length.denominator))


def _largest(aspect: Fraction, max_pixels: int) -> tuple[int, int]:
    """(width, height) of the largest picture of ``aspect`` (width by height) with at most ``max_pixels``."""
    if aspect < 1:
        height, width = _largest(1 / aspect, max_pixels)
        return width, height
    widths = range(1, max_pixels + 1)
    width = bisect_right(widths, max_pixels, key=lambda width: width * _nearest(width / aspect))
    return width, _nearest(width / aspect)
