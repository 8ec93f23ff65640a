"""Losses that compare pixel by pixel."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from polyres.losses.base import Loss
from polyres.registry import Entry

#: Parts of red, green and blue in luma, of BT.601.
_LUMA = (0.299, 0.587, 0.114)


def charbonnier(output: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of ``sqrt(d^2 + epsilon^2)``: L1 that is smooth at zero."""
    return torch.sqrt((output - target).square() + epsilon**2).mean()


def luma_of(difference: Tensor) -> Tensor:
    """(N, 1, H, W) of (N, 3, H, W), by BT.601; other than three channels as they are."""
    if difference.shape[1] != len(_LUMA):
        return difference
    weights = torch.tensor(_LUMA, dtype=difference.dtype, device=difference.device)
    return torch.einsum("nchw,c->nhw", difference, weights)[:, None]


def luma(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the luma (BT.601); other than three channels: of all of them.

    The Y that papers measure is this times 219/255, plus a constant.
    """
    return luma_of(output - target).abs().mean()


def _luma() -> Loss:
    return luma


def _l1() -> Loss:
    return F.l1_loss


def _mse() -> Loss:
    return F.mse_loss


def _charbonnier(epsilon: float = 1e-3) -> Loss:
    return partial(charbonnier, epsilon=epsilon)


ENTRIES: list[Entry[Loss]] = [
    Entry("l1", _l1, "mean absolute difference", "common", "Apache-2.0"),
    Entry(
        "luma",
        _luma,
        "mean absolute difference of luma; colours need a little l1 beside it",
        "ITU-R BT.601",
        "Apache-2.0",
    ),
    Entry("mse", _mse, "mean squared difference", "common", "Apache-2.0"),
    Entry(
        "charbonnier",
        _charbonnier,
        "L1 made smooth at zero",
        "Lai et al. 2017, arXiv 1704.03915",
        "Apache-2.0",
    ),
]
