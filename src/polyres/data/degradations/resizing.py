"""Resizing with random factors and kernels, and the step to the size of LR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from polyres.data.degradations.base import Image, interval
from polyres.data.resampling import find_kernel
from polyres.data.resize import resize

_KERNELS = ("bicubic", "bilinear", "box")
#: No side grows beyond this many times the crop's, however many steps follow each other.
_LARGEST = 4


class RandomResize:
    """Up, down, or not at all, by a random factor and kernel.

    Args:
        factor: range of the factor; downwards it is drawn below 1, upwards above.
        chances: how often up, down and neither, relatively.
        kernels: names of :data:`polyres.data.KERNELS` to draw from; shrinking is antialiased.
        relative_to: what a factor of 1 is: the ``image`` as it comes, or the ``low`` size of the chain.
    """

    def __init__(
        self,
        factor: Sequence[float] = (0.15, 1.5),
        chances: Sequence[float] = (0.2, 0.7, 0.1),
        kernels: Sequence[str] = _KERNELS,
        relative_to: Literal["image", "low"] = "image",
    ) -> None:
        self.factor = interval("factor", factor, 0.05, _LARGEST)
        self.kernels = _known(kernels)
        if relative_to not in ("image", "low"):
            raise ValueError(f"relative_to is 'image' or 'low'; got '{relative_to}'")
        if len(chances) != 3 or min(chances) < 0 or sum(chances) <= 0:
            raise ValueError(f"chances are of up, down and neither, such as [1, 1, 0]; got {list(chances)}")
        if (chances[0] and self.factor[1] < 1) or (chances[1] and self.factor[0] > 1):
            raise ValueError(f"factor {list(factor)} leaves nothing to draw for chances {list(chances)}")
        self.chances = np.asarray(chances, dtype=float) / sum(chances)
        self.relative_to = relative_to

    def __call__(self, image: Image, random: np.random.Generator, low: tuple[int, int]) -> Image:
        """``image`` in a random size."""
        kind = random.choice(3, p=self.chances)
        drawn = random.uniform(*((1, self.factor[1]) if kind == 0 else (self.factor[0], 1)))
        kernel = self.kernels[random.integers(len(self.kernels))]
        base = low if self.relative_to == "low" else image.shape[:2]
        size = _times(base, 1.0 if kind == 2 else drawn)
        return image if size == image.shape[:2] else resize(image, size=size, kernel=kernel)


class ToLow:
    """To the size of LR, by a kernel drawn from a list: what follows acts on LR pixels.

    Args:
        kernels: names of :data:`polyres.data.KERNELS` to draw from.
    """

    def __init__(self, kernels: Sequence[str] = ("bicubic",)) -> None:
        self.kernels = _known(kernels)

    def __call__(self, image: Image, random: np.random.Generator, low: tuple[int, int]) -> Image:
        """``image`` in the size ``low``."""
        kernel = self.kernels[random.integers(len(self.kernels))]
        return image if image.shape[:2] == low else resize(image, size=low, kernel=kernel)


def _times(size: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _known(kernels: Sequence[str]) -> tuple[str, ...]:
    if not kernels:
        raise ValueError("kernels names at least one, such as [bicubic]")
    for name in kernels:
        find_kernel(name)
    return tuple(kernels)
