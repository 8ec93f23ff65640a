"""Whether autocast is on, and keeping it away from what must not be rounded to half precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """A context in which autocast is off on the device of ``tensor``; the meta device, which has none, included."""
    if tensor.device.type == "meta":
        return nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)


def is_autocast_to_bfloat16() -> bool:
    """Whether autocast on the CPU is on, and to that."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
