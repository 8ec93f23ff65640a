"""The contracts of losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

#: A loss of (output, target), both (N, C, H, W) float32, the target in [0, 1]; to a scalar, 0 where they are equal.
#: One that is a module is moved to the device of the run.
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class BaseLoss(ABC):
    """A loss that judges the upsampler's learned base beside the output."""

    @abstractmethod
    def __call__(self, output: Tensor, target: Tensor, base: Tensor) -> Tensor:
        """A scalar, 0 where ``output`` and ``base`` equal ``target``; all (N, C, H, W) float32."""
