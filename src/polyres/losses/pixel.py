"""Losses that compare pixel by pixel."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from polyres.losses.base import Loss
from polyres.registry import Entry


def charbonnier(output: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of ``sqrt(d^2 + epsilon^2)``: L1 that is smooth at zero."""
    return torch.sqrt((output - target).square() + epsilon**2).mean()


def _l1() -> Loss:
    return F.l1_loss


def _mse() -> Loss:
    return F.mse_loss


def _charbonnier(epsilon: float = 1e-3) -> Loss:
    return partial(charbonnier, epsilon=epsilon)


ENTRIES: list[Entry[Loss]] = [
    Entry("l1", _l1, "mean absolute difference", "common", "Apache-2.0"),
    Entry("mse", _mse, "mean squared difference", "common", "Apache-2.0"),
    Entry(
        "charbonnier",
        _charbonnier,
        "L1 made smooth at zero",
        "Lai et al. 2017, arXiv 1704.03915",
        "Apache-2.0",
    ),
]
