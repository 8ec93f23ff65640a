"""Training crops: which pictures, where, flipped how, at which scale, as a pure function of seed and step.

Because nothing is remembered between batches, a run that is resumed sees exactly what it would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from polyres.data.files import list_pictures, read_rgb
from polyres.data.resize import resize
from polyres.errors import DataError
from polyres.scale import Scale

Pixels = npt.NDArray[np.uint8]

#: LR pixels around a crop that its LR is made from: half the support of the stretched cubic is two.
_MARGIN = 3


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
    """Random crops of pictures held in memory, with MATLAB-exact LR made on the fly.

    The LR of a crop equals the crop of the whole picture's LR, borders included.

    Args:
        pictures: (H, W, 3) uint8 each.
        scales: the scales to draw from, one for each micro-batch.
        patch: side of the LR crops; a multiple of every scale's period.
        batch_size: crops in a micro-batch.
        seed: together with step and micro-batch it determines everything.
        weights: relative frequency of each scale; equal if not given.

    Raises:
        DataError: no pictures, or none large enough for a crop at every scale.
    """

    def __init__(
        self,
        pictures: Sequence[Pixels],
        scales: Sequence[Scale],
        patch: int,
        batch_size: int,
        seed: int = 0,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.scales, self.patch, self.batch_size, self.seed = tuple(scales), patch, batch_size, seed
        chances = np.ones(len(self.scales)) if weights is None else np.asarray(weights, dtype=float)
        self.chances = chances / chances.sum()
        side = max(max(scale.output_size(patch, patch)) for scale in self.scales)
        self.pictures = [p for p in pictures if min(p.shape[:2]) >= side + max(max(s.phases) for s in scales)]
        if not self.pictures:
            raise DataError(
                f"{len(pictures)} pictures, none of them large enough for crops of {side}x{side} pixels "
                f"(patch {patch} at x{max(scales, key=lambda s: s.y)}): use larger pictures or a smaller patch"
            )

    def batch(self, step: int, micro: int) -> Batch:
        """Micro-batch ``micro`` of ``step``."""
        random = np.random.default_rng((self.seed, step, micro))
        scale = self.scales[random.choice(len(self.scales), p=self.chances)]
        pairs = [self._pair(random, scale) for _ in range(self.batch_size)]
        return Batch(np.stack([low for low, _ in pairs]), np.stack([high for _, high in pairs]), scale)

    def _pair(self, random: np.random.Generator, scale: Scale) -> tuple[Pixels, Pixels]:
        picture = self.pictures[random.integers(len(self.pictures))]
        rows = _span(random, picture.shape[0], self.patch, scale.phases[0], scale.period[0])
        columns = _span(random, picture.shape[1], self.patch, scale.phases[1], scale.period[1])
        wide = picture[rows.outer, columns.outer]
        low = resize(wide, size=(rows.outer_low, columns.outer_low))[rows.inner_low, columns.inner_low]
        high = picture[rows.inner, columns.inner]
        flips = random.integers(2, size=3)
        return _turned(low, flips), _turned(high, flips)


@dataclass(frozen=True)
class _Span:
    """One axis of a crop: in the picture with and without margin, and in the LR of the part with margin."""

    outer: slice
    inner: slice
    outer_low: int
    inner_low: slice


def _span(random: np.random.Generator, size: int, patch: int, p: int, q: int) -> _Span:
    """A random crop of ``patch`` LR pixels; everything lies on the grid of whole periods (q LR, p HR pixels)."""
    periods, wanted, margin = size // p, -(-patch // q), -(-_MARGIN // q)
    start = int(random.integers(periods - wanted + 1))
    first, last = max(0, start - margin), min(periods, start + wanted + margin)
    return _Span(
        outer=slice(first * p, last * p),
        inner=slice(start * p, (start + wanted) * p),
        outer_low=(last - first) * q,
        inner_low=slice((start - first) * q, (start - first + wanted) * q),
    )


def _turned(pixels: Pixels, flips: npt.NDArray[np.int64]) -> Pixels:
    """One of the eight flips and quarter turns."""
    if flips[0]:
        pixels = pixels[::-1]
    if flips[1]:
        pixels = pixels[:, ::-1]
    return pixels.transpose(1, 0, 2) if flips[2] else pixels


def load_pictures(folders: Sequence[Path], at_most: int | None = None) -> list[Pixels]:
    """All pictures of ``folders``, decoded, in the order of their names.

    Args:
        folders: each with pictures directly in it.
        at_most: stop after this many.

    Raises:
        DataError: a folder that is missing or has no pictures.
        PictureError: a picture that cannot be read, named.
    """
    paths: list[Path] = []
    for folder in folders:
        found = list_pictures(folder)
        if not found:
            raise DataError(f"there are no pictures in '{folder}'")
        paths += found
    with ThreadPoolExecutor() as pool:
        return list(pool.map(read_rgb, paths[:at_most]))


class Prefetched:
    """Batches made ahead by threads, in order.

    Args:
        source: where they come from.
        micros: micro-batches in a step.
        ahead: batches kept ready.
    """

    def __init__(self, source: Batches, micros: int, ahead: int = 8) -> None:
        self._source, self._micros, self._ahead = source, micros, ahead
        self._pool = ThreadPoolExecutor(max_workers=2)
        self._ready: dict[tuple[int, int], Any] = {}

    def batch(self, step: int, micro: int) -> Batch:
        """As the source's; the following ones are begun."""
        for offset in range(self._ahead):
            later, index = divmod(step * self._micros + micro + offset, self._micros)
            if (later, index) not in self._ready:
                self._ready[later, index] = self._pool.submit(self._source.batch, later, index)
        result: Batch = self._ready.pop((step, micro)).result()
        return result

    def close(self) -> None:
        """Stop the threads; batches not asked for are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
