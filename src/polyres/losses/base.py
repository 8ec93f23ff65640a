"""The contract of losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

#: A loss of (output, target), both (N, C, H, W) float32, the target in [0, 1]; to a scalar, 0 where they are equal.
#: One that is a module is moved to the device of the run.
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
