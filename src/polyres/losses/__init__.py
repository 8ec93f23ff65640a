"""Losses: small functions of (output, target), both (N, C, H, W) float32, to a scalar."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from polyres.registry import Entry, Table

Loss = Callable[[Tensor, Tensor], Tensor]


def charbonnier(output: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of ``sqrt(d^2 + epsilon^2)``: L1 that is smooth at zero."""
    return torch.sqrt((output - target).square() + epsilon**2).mean()


def fft(output: Tensor, target: Tensor, norm: str = "ortho") -> Tensor:
    """Mean absolute difference of the real and imaginary parts of the two-dimensional spectra.

    Args:
        output: (N, C, H, W).
        target: of the same shape.
        norm: ``"ortho"`` weighs every patch size alike (0.71 of L1 for a white difference); ``"backward"`` is the
            papers' form, which grows with the side of the patch (64 times L1 for 128 pixels and more).
    """
    difference = torch.fft.rfft2(output - target, norm=norm)  # the transform is linear
    return torch.view_as_real(difference).abs().mean()


def _make(loss: Loss) -> Callable[[], Loss]:
    return lambda: loss


def _fft(norm: str = "ortho") -> Loss:
    return partial(fft, norm=norm)


#: Every loss that a run file can name.
LOSSES: Table[Loss] = Table(
    "loss",
    [
        Entry("l1", _make(F.l1_loss), "mean absolute difference", "common", "Apache-2.0"),
        Entry("mse", _make(F.mse_loss), "mean squared difference", "common", "Apache-2.0"),
        Entry(
            "charbonnier",
            _make(charbonnier),
            "L1 made smooth at zero",
            "Lai et al. 2017, arXiv 1704.03915",
            "Apache-2.0",
        ),
        Entry(
            "fft",
            _fft,
            "mean absolute difference of the spectra",
            "Lee, Yun, Ro 2024, arXiv 2408.09674",
            "Apache-2.0",
        ),
    ],
)

__all__ = ["LOSSES", "Loss", "charbonnier", "fft"]
