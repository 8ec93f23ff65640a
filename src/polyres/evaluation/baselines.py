"""Upscalers without a network: the rows that every table starts with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polyres.data import resize
from polyres.scale import Scale


@dataclass(frozen=True)
class Baseline:
    """MATLAB's imresize with one kernel.

    Attributes:
        name: the kernel, one of :data:`polyres.data.KERNELS`.
    """

    name: str

    def __call__(self, low: npt.NDArray[np.uint8], scale: Scale) -> npt.NDArray[np.float64]:
        """``low`` (h, w, 3) uint8 -> (H, W, 3) in [0, 1], in the steps of 1/255 that MATLAB gives 8-bit pictures."""
        size = scale.output_size(*low.shape[:2])
        return np.asarray(resize(low, scale=scale, size=size, kernel=self.name) / 255)

    def shared(self, workers: int) -> AbstractContextManager[Baseline]:
        """Itself: any number of threads may call it."""
        return nullcontext(self)


BASELINES: dict[str, Baseline] = {name: Baseline(name) for name in ("bicubic", "lanczos", "nearest")}
