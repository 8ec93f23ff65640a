"""Tiles: how a picture is cut so that the enlarged tiles, put together, equal the enlarged whole.

A tile has a *core*, the part of the result that it is for, and a *window* around it, what the network is shown.
If the network looks ``context`` pixels to each side, windows that reach ``overlap >= context`` beyond their cores
give cores that no longer depend on the cut. Cuts lie on multiples of ``align``, where the network's own grid
(attention windows, strides, the phases of a fractional scale) starts anew; the edges of the picture are never cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from polyres.scale import Scale

#: Smallest side of a core that tiles are chosen with; below it nearly all work is overlap.
SMALLEST = 32


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels of the picture: core ``start:stop`` within window ``low:high``."""

    start: int
    stop: int
    low: int
    high: int

    @property
    def window(self) -> slice:
        """What the network is shown."""
        return slice(self.low, self.high)

    def target(self, factor: Fraction) -> slice:
        """Where the core lies in the result."""
        return slice(round(self.start * factor), round(self.stop * factor))

    def crop(self, factor: Fraction) -> slice:
        """Where the core lies in the enlarged window."""
        target, shift = self.target(factor), round(self.low * factor)
        return slice(target.start - shift, target.stop - shift)


@dataclass(frozen=True)
class Axis:
    """The rules for cutting one axis.

    Attributes:
        size: of the picture.
        overlap: of a window beyond its core at least, a multiple of ``align``.
        align: what cores and windows start at multiples of.
    """

    size: int
    overlap: int
    align: int

    def spans(self, tile: int, begin: int = 0) -> list[Span]:
        """The tiles from ``begin`` (a multiple of ``align``) to the end, cores of about ``tile`` pixels.

        All windows have the same size, except that the last is longer by less than ``align`` where the size of
        the picture is no multiple of it: those at the edges reach further inwards instead. Where a window would
        hold the whole axis, there is one tile, for there is nothing to save.
        """
        tile = self._step(tile)
        return [self._span(start, tile) for start in range(begin, self.size, tile)]

    def count(self, tile: int) -> int:
        """Number of tiles with cores of about ``tile`` pixels."""
        return -(-self.size // self._step(tile))

    def window(self, tile: int) -> int:
        """Pixels of the longest window of cores of ``tile`` pixels."""
        longest = round_up(tile, self.align) + 2 * self.overlap + self.align - 1
        return min(self.size, longest)

    def _step(self, tile: int) -> int:
        """Pixels from one core to the next."""
        tile = round_up(tile, self.align)
        return tile if tile + 2 * self.overlap < self.size else round_up(self.size, self.align)

    def _span(self, start: int, tile: int) -> Span:
        window = tile + 2 * self.overlap
        latest = max(0, self.size - window) // self.align * self.align
        low = max(0, min(start - self.overlap, latest))
        high = self.size if low == latest else low + window
        return Span(start, min(start + tile, self.size), low, high)


def axes(
    height: int, width: int, scale: Scale, overlap: int, multiple_of: int = 1, minimum_size: int = 1
) -> tuple[Axis, Axis]:
    """The rules for both axes of a picture.

    Args:
        height: rows of the picture.
        width: its pixels a row.
        scale: of the network.
        overlap: pixels that a window reaches beyond its core; the network's context for an exact result.
        multiple_of: the network pads what it is shown to multiples of this.
        minimum_size: and to this size at least.
    """
    rules = []
    for size, factor in ((height, scale.y), (width, scale.x)):
        period = factor.denominator
        # Half an output pixel is rounded to even, which a cut at an odd output pixel would turn to odd.
        align = math.lcm(multiple_of, 2 * period if period % 2 == 0 else period)
        # Padding at the far edge mirrors pixels that the last window must hold.
        mirrored = max(multiple_of, minimum_size, 1) - 1
        rules.append(Axis(size, round_up(max(overlap, mirrored), align), align))
    return rules[0], rules[1]


def fit(rows: Axis, columns: Axis, max_pixels: float) -> tuple[int, int]:
    """The tile (height, width) that needs the least work while no window has more than ``max_pixels``.

    If even the smallest tiles have larger windows, these are returned.
    """
    best, least = (_smallest(rows), _smallest(columns)), math.inf
    for count in range(1, -(-rows.size // _smallest(rows)) + 1):
        height = _cut(rows, count)
        room = int(max_pixels // rows.window(height))
        width = _widest(columns, room)
        if width is None:
            continue
        work = _work(rows, height) * _work(columns, width)
        if work < least:
            best, least = (height, width), work
    return best


def halve(tile: Sequence[int], rows: Axis, columns: Axis) -> tuple[int, int] | None:
    """A tile of half the area, or None if it is as small as can be."""
    height, width = min(tile[0], rows.size), min(tile[1], columns.size)
    if height >= width and height > _smallest(rows):
        return max(_smallest(rows), round_up(-(-height // 2), rows.align)), width
    if width > _smallest(columns):
        return height, max(_smallest(columns), round_up(-(-width // 2), columns.align))
    return None


def round_up(number: int, multiple_of: int) -> int:
    """The least multiple of ``multiple_of`` that is not below ``number``."""
    return -(-number // multiple_of) * multiple_of


def _smallest(axis: Axis) -> int:
    return round_up(min(SMALLEST, axis.size), axis.align)


def _cut(axis: Axis, count: int) -> int:
    """The core size that cuts ``axis`` into ``count`` tiles."""
    return round_up(-(-axis.size // count), axis.align)


def _widest(axis: Axis, room: int) -> int | None:
    """The largest balanced core whose windows fit into ``room`` pixels; None if there is none."""
    if room >= axis.size:
        return round_up(axis.size, axis.align)
    largest = (room - 2 * axis.overlap - axis.align + 1) // axis.align * axis.align
    if largest < _smallest(axis):
        return None
    return _cut(axis, -(-axis.size // largest))


def _work(axis: Axis, tile: int) -> int:
    """Pixels of all windows along ``axis``."""
    return axis.count(tile) * axis.window(tile)
