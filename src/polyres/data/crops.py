"""Training crops: which pictures, where, flipped how, at which scale, as a pure function of seed and step.

Because nothing is remembered between batches, a run that is resumed sees exactly what it would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from polyres.data.choosing import MEASURES, Measure
from polyres.data.lowering import Bicubic, Lowering
from polyres.data.sources import Memory, Pixels, Source
from polyres.errors import DataError
from polyres.scale import Scale

#: Small pictures that an error names before it only counts.
_NAMED = 5


@dataclass(frozen=True)
class Batch:
    """Crops of one scale: ``low`` (N, h, w, 3) and ``high`` (N, H, W, 3), uint8."""

    low: Pixels
    high: Pixels
    scale: Scale


class Batches(Protocol):
    """What the training loop draws from."""

    def batch(self, step: int, micro: int) -> Batch:
        """Micro-batch ``micro`` of ``step``; the same call gives the same crops."""
        ...


class CropSampler:
    """Random crops of pictures, with LR made on the fly.

    With MATLAB's kernel on pictures, the default, the LR of a crop equals the crop of the whole picture's LR, borders
    included.

    Args:
        pictures: a source, or (H, W, 3) uint8 arrays.
        scales: the scales to draw from, one for each micro-batch.
        patch: side of the LR crops; a multiple of every scale's period.
        batch_size: crops in a micro-batch.
        seed: together with step and micro-batch it determines everything.
        weights: relative frequency of each scale; equal if not given.
        lower: how LR is made; MATLAB's bicubic on the picture if not given.
        skip_small: leave out pictures that are too small for a crop instead of refusing them.
        choose_from: places that are drawn for each crop; that one is taken which has most of ``choose_by``.
        choose_by: what counts (:data:`polyres.data.choosing.MEASURES`). ``detail``: edges are more frequent than in the
            pictures, flat sky is rarer. ``coherence``: edges and stripes are more frequent, foliage and gravel rarer.

    Raises:
        DataError: no pictures, or some too small for a crop at every scale; they are named.
    """

    def __init__(
        self,
        pictures: Source | Sequence[Pixels],
        scales: Sequence[Scale],
        patch: int,
        batch_size: int,
        seed: int = 0,
        weights: Sequence[float] | None = None,
        lower: Lowering | None = None,
        skip_small: bool = False,
        choose_from: int = 1,
        choose_by: Measure = "detail",
    ) -> None:
        self.source = Memory(pictures) if isinstance(pictures, Sequence) else pictures
        self.scales, self.patch, self.batch_size, self.seed = tuple(scales), patch, batch_size, seed
        self.lower = lower or Bicubic()
        chances = np.ones(len(self.scales)) if weights is None else np.asarray(weights, dtype=float)
        self.chances = chances / chances.sum()
        self.choose_from, self._measure = choose_from, MEASURES[choose_by]
        self._usable = self._large_enough(skip_small)

    def batch(self, step: int, micro: int) -> Batch:
        """Micro-batch ``micro`` of ``step``."""
        random = np.random.default_rng((self.seed, step, micro))
        scale = self.scales[random.choice(len(self.scales), p=self.chances)]
        # What makes LR draws from a stream of its own for each crop: the crops do not depend on it. The index counts
        # from 1, because a key that ends in zeros gives the same stream as the key without them.
        streams = [np.random.default_rng((self.seed, step, micro, 1 + i)) for i in range(self.batch_size)]
        pairs = [self._pair(random, scale, stream) for stream in streams]
        return Batch(np.stack([low for low, _ in pairs]), np.stack([high for _, high in pairs]), scale)

    def _pair(
        self, random: np.random.Generator, scale: Scale, stream: np.random.Generator
    ) -> tuple[Pixels, Pixels]:
        places = [self._place(random, scale) for _ in range(self.choose_from)]
        wide, rows, columns = (
            places[0] if len(places) == 1 else max(places, key=lambda place: self._measure(place.grey, scale))
        )
        low = self.lower(wide, (rows.outer_low, columns.outer_low), stream)
        flips = random.integers(2, size=3)
        return (
            _turned(low[rows.inner_low, columns.inner_low], flips),
            _turned(wide[rows.inner, columns.inner], flips),
        )

    def _place(self, random: np.random.Generator, scale: Scale) -> _Place:
        """A crop with its margin, anywhere in any picture."""
        index = self._usable[random.integers(len(self._usable))]
        height, width = self.source.sizes[index]
        margin, (p, q) = self.lower.margin, (scale.phases, scale.period)
        rows = _span(random, height, self.patch, margin, p[0], q[0])
        columns = _span(random, width, self.patch, margin, p[1], q[1])
        return _Place(self.source.crop(index, rows.outer, columns.outer), rows, columns)

    def _large_enough(self, skip_small: bool) -> list[int]:
        """The pictures that a crop of every scale fits into."""
        side, least = _side(self.scales, self.patch), least_side(self.scales, self.patch)
        sizes = self.source.sizes
        small = [i for i, size in enumerate(sizes) if min(size) < least]
        crops = (
            f"crops of {side}x{side} pixels (patch {self.patch} at x{max(self.scales, key=lambda s: s.y)})"
        )
        if len(small) == len(sizes):
            raise DataError(
                f"{len(sizes)} pictures, none of them large enough for {crops}: use larger pictures or a smaller patch"
            )
        if small and not skip_small:
            named = [f"{self.source.names[i]} ({sizes[i][1]}x{sizes[i][0]})" for i in small[:_NAMED]]
            more = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
            raise DataError(
                f"{len(small)} of {len(sizes)} pictures are too small for {crops}, which need {least} pixels a side: "
                f"{', '.join(named)}{more}. Remove them, use a smaller patch, or set data.skip_small: true"
            )
        return [i for i, size in enumerate(sizes) if min(size) >= least]


def least_side(scales: Sequence[Scale], patch: int) -> int:
    """Pixels a side that a picture needs for crops at every one of ``scales``."""
    return _side(scales, patch) + max(max(scale.phases) for scale in scales)


def _side(scales: Sequence[Scale], patch: int) -> int:
    """Of the largest crop in HR."""
    return max(max(scale.output_size(patch, patch)) for scale in scales)


@dataclass(frozen=True)
class _Span:
    """One axis of a crop.

    Attributes:
        outer: the crop with its margin, in the picture.
        inner: the crop, in the part with margin.
        outer_low: length of the LR of the part with margin.
        inner_low: the crop in that LR.
    """

    outer: slice
    inner: slice
    outer_low: int
    inner_low: slice


def _span(random: np.random.Generator, size: int, patch: int, around: int, p: int, q: int) -> _Span:
    """A random crop of ``patch`` LR pixels; everything lies on the grid of whole periods (q LR, p HR pixels)."""
    periods, wanted, margin = size // p, -(-patch // q), -(-around // q)
    start = int(random.integers(periods - wanted + 1))
    first, last = max(0, start - margin), min(periods, start + wanted + margin)
    return _Span(
        outer=slice(first * p, last * p),
        inner=slice((start - first) * p, (start - first + wanted) * p),
        outer_low=(last - first) * q,
        inner_low=slice((start - first) * q, (start - first + wanted) * q),
    )


class _Place(NamedTuple):
    """A crop with its margin, and where it lies in it."""

    pixels: Pixels
    rows: _Span
    columns: _Span

    @property
    def grey(self) -> npt.NDArray[np.float32]:
        """The mean of the colours, without the margin."""
        made: npt.NDArray[np.float32] = self.pixels[self.rows.inner, self.columns.inner].mean(
            2, dtype=np.float32
        )
        return made


def _turned(pixels: Pixels, flips: npt.NDArray[np.int64]) -> Pixels:
    """One of the eight flips and quarter turns."""
    if flips[0]:
        pixels = pixels[::-1]
    if flips[1]:
        pixels = pixels[:, ::-1]
    return pixels.transpose(1, 0, 2) if flips[2] else pixels
