"""The contract of a degradation, and the helper that checks the ranges they draw from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Image: TypeAlias = npt.NDArray[np.float32]


class Degradation(Protocol):
    """One step from a clean picture towards a poor one."""

    def __call__(self, image: Image, random: np.random.Generator, low: tuple[int, int]) -> Image:
        """A new, worse picture; ``image`` is left as it is.

        Args:
            image: (H, W, 3) float32, about [0, 1]; steps may overshoot a little, the end of the chain clamps.
            random: the only source of chance, so that equal generators give equal pictures.
            low: (height, width) of the LR picture that the chain ends in.
        """
        ...


def interval(name: str, value: Sequence[float], least: float, most: float) -> tuple[float, float]:
    """``value`` as (low, high).

    Raises:
        ValueError: not two numbers in order from ``least`` to ``most``.
    """
    if len(value) != 2 or not least <= value[0] <= value[1] <= most:
        raise ValueError(f"{name} is [low, high] from {least:g} to {most:g}; got {list(value)}")
    return float(value[0]), float(value[1])


def chance(name: str, value: float) -> float:
    """``value`` as a probability; ValueError unless it is from 0 to 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a probability from 0 to 1; got {value}")
    return float(value)
