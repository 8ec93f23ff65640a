"""Upscalers around upscalers: a picture cut up, or turned and mirrored, before it is enlarged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from polyres.evaluation.pipeline import shared
from polyres.evaluation.routes import Upscale
from polyres.scale import Scale


@dataclass(frozen=True)
class Wrapped:
    """``wrap(inner)`` as an upscaler that threads may share whenever they may share ``inner``."""

    inner: Upscale
    wrap: Callable[[Upscale], Upscale]

    def __call__(self, low: npt.NDArray[np.uint8], scale: Scale) -> npt.NDArray[np.floating[Any]]:
        """``low`` (h, w, 3) enlarged to (H, W, 3)."""
        return self.wrap(self.inner)(low, scale)

    @contextmanager
    def shared(self, workers: int) -> Iterator[Upscale]:
        """Within the block, what ``workers`` threads may call."""
        with shared(self.inner, workers) as call:
            yield self.wrap(call)


def ensemble(upscale: Upscale) -> Upscale:
    """``upscale`` applied to the eight turned and mirrored copies of a picture, turned back and averaged.

    The geometric self-ensemble of EDSR (Lim et al. 2017, "x8", a "+" behind a model's name in tables). The average is
    taken before anything is clamped or rounded, in float64.
    """

    def averaged(low: npt.NDArray[np.uint8], scale: Scale) -> npt.NDArray[np.floating[Any]]:
        total: npt.NDArray[np.float64] | float = 0.0
        for transposed in (False, True):
            factor = Scale(scale.x, scale.y) if transposed else scale
            for rows, columns in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                seen = low.swapaxes(0, 1) if transposed else low
                result = upscale(np.ascontiguousarray(seen[::rows, ::columns]), factor)[::rows, ::columns]
                total = total + (result.swapaxes(0, 1) if transposed else result).astype(np.float64)
        return np.asarray(total) / 8

    return averaged
