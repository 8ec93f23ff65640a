"""Exact rational scales: what ``2``, ``"5/2"``, ``1.5`` or ``(3, 2)`` mean, and where pixels fall.

One axis of scale ``s = p/q`` in lowest terms: LR pixel ``n`` covers ``[n, n + 1)`` and the centre of HR pixel
``i`` lies at ``u = (i + 1/2) q/p``. The pattern repeats every ``p`` HR pixels and ``q`` LR pixels, so ``p``
*phases* describe the axis completely. Derivation: section 6.1 of the IGConv specification.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from polyres.errors import ScaleError

#: What callers may pass wherever a scale is wanted. A float means the decimal that it prints as.
ScaleLike: TypeAlias = "int | float | str | Fraction | Scale | tuple[ScaleLike, ScaleLike]"

#: Largest factor per axis that polyres accepts.
MAX_SCALE = 16


@dataclass(frozen=True)
class Scale:
    """An exact scale, one positive rational per axis (``y`` = height, ``x`` = width)."""

    y: Fraction
    x: Fraction

    @classmethod
    def of(cls, value: ScaleLike) -> Scale:
        """The scale that ``value`` means.

        Raises:
            ScaleError: not a number, not positive, not finite, or above ``MAX_SCALE``.
        """
        if isinstance(value, Scale):
            return value
        if isinstance(value, tuple):
            if len(value) != 2:
                raise ScaleError(f"a scale is one number or a pair (height, width), not {len(value)} numbers")
            return cls(cls.of(value[0]).y, cls.of(value[1]).x)
        factor = _fraction(value)
        if not 0 < factor <= MAX_SCALE:
            raise ScaleError(
                f"a scale is above 0 and at most {MAX_SCALE}, such as 2, 2.5 or 5/2; got {value}"
            )
        return cls(factor, factor)

    @classmethod
    def from_text(cls, text: str) -> Scale:
        """The scale that ``str`` wrote as ``text``, which :meth:`of` reads as well unless it is a pair: there, a
        person's ``1,5`` is refused rather than taken for two numbers.

        Raises:
            ScaleError: as of :meth:`of`.
        """
        y, _, x = text.partition(",")
        return cls.of((y, x or y))

    @property
    def is_integer(self) -> bool:
        """Whether both axes are whole numbers."""
        return self.y.denominator == 1 and self.x.denominator == 1

    @property
    def is_uniform(self) -> bool:
        """Whether both axes have the same factor."""
        return self.y == self.x

    @property
    def period(self) -> tuple[int, int]:
        """LR pixels (height, width) after which the pattern of phases repeats: the two denominators."""
        return self.y.denominator, self.x.denominator

    @property
    def phases(self) -> tuple[int, int]:
        """HR pixels (height, width) in one period: the two numerators."""
        return self.y.numerator, self.x.numerator

    @property
    def mean_factor(self) -> float:
        """Geometric mean of the two factors; the factor itself if they are equal."""
        return float(self.y) if self.is_uniform else math.sqrt(self.y * self.x)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """``(round(height * y), round(width * x))``, exact, ties to even as Python rounds, at least 1."""
        return _enlarged(height, self.y), _enlarged(width, self.x)

    def __str__(self) -> str:
        return _text(self.y) if self.is_uniform else f"{_text(self.y)},{_text(self.x)}"


@dataclass(frozen=True)
class Tap:
    """One sub-pixel kernel that contributes to one phase of an axis.

    Attributes:
        phase: index of the HR pixel within the period, ``0 .. p - 1``.
        offset: LR pixel whose neighbourhood the kernel covers, relative to the period's first, ``0 .. q - 1``.
        delta: position of the HR centre in that LR pixel, from -1 (left border) to 1 (right border).
        weight: 1, or 1/2 where the centre lies on the border of two LR pixels and both contribute.
    """

    phase: int
    offset: int
    delta: Fraction
    weight: Fraction


def axis_taps(factor: Fraction) -> tuple[Tap, ...]:
    """The taps of every phase of one axis of scale ``factor``, in the order of the phases.

    For odd ``q`` there is one per phase. For even ``q`` the middle phase lies on a border and has two, the
    left pixel's at ``delta = 1`` and the right pixel's at ``delta = -1``, each with weight 1/2, which keeps the
    operator mirror-symmetric.
    """
    p, q = factor.numerator, factor.denominator
    taps = []
    for phase in range(p):
        doubled = (2 * phase + 1) * q  # 2 p u: twice the centre's position in units of 1/p
        offset, delta = doubled // (2 * p), Fraction(doubled % (2 * p), p) - 1
        if delta == -1:
            taps.append(Tap(phase, offset - 1, Fraction(1), Fraction(1, 2)))
            taps.append(Tap(phase, offset, delta, Fraction(1, 2)))
        else:
            taps.append(Tap(phase, offset, delta, Fraction(1)))
    return tuple(taps)


def _enlarged(size: int, factor: Fraction) -> int:
    """``max(1, round(size * factor))`` in whole numbers alone, for an export calls it with a symbol as ``size``."""
    p, q = factor.numerator, factor.denominator
    if q == 1:
        return size * p
    # They differ at ties. Nothing negative is divided: ONNX rounds quotients towards zero, Python rounds them down.
    upper, lower = (2 * size * p + q) // (2 * q), (2 * size * p + q - 1) // (2 * q)
    nearest = lower + (upper - lower) * (lower % 2)
    return nearest if factor > 1 else max(1, nearest)


def _fraction(value: int | float | str | Fraction) -> Fraction:
    """``value`` as an exact fraction; a float counts as the decimal that it prints as."""
    try:
        if isinstance(value, bool):
            raise ValueError
        return Fraction(str(value).strip()) if isinstance(value, float | str) else Fraction(value)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        raise ScaleError(f"a scale is a number such as 2, 2.5 or 5/2; got {value!r}") from None


def _text(factor: Fraction) -> str:
    """``3``, ``2.5`` or ``7/3``: the shortest exact way to write ``factor``."""
    if factor.denominator == 1:
        return str(factor.numerator)
    decimal = f"{float(factor):.4f}".rstrip("0")
    return decimal if Fraction(decimal) == factor else f"{factor.numerator}/{factor.denominator}"
