"""Losses that compare edges."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from polyres.losses.base import Loss
from polyres.losses.pixel import charbonnier
from polyres.registry import Entry

#: Sobel's horizontal derivative in units of a level a pixel; its transpose is the vertical one.
_SOBEL = ((-0.125, 0.0, 0.125), (-0.25, 0.0, 0.25), (-0.125, 0.0, 0.125))

#: Five taps of a binomial blur.
_BINOMIAL = (0.0625, 0.25, 0.375, 0.25, 0.0625)


def gradient(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the horizontal and vertical Sobel derivatives, in levels a pixel."""
    difference = output - target  # derivatives are linear
    across = torch.tensor(_SOBEL, dtype=difference.dtype, device=difference.device)
    kernels = torch.stack((across, across.mT))[:, None].repeat(difference.shape[1], 1, 1, 1)
    padded = F.pad(difference, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernels, groups=difference.shape[1]).abs().mean()


def edge(output: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Charbonnier of the pictures less their blurred copies: what a Laplacian pyramid keeps in its first level."""
    return charbonnier(_detail(output), _detail(target), epsilon)


def _detail(image: Tensor) -> Tensor:
    """``image`` less its binomial blur, of the same shape."""
    taps = torch.tensor(_BINOMIAL, dtype=image.dtype, device=image.device)
    channels = image.shape[1]
    padded = F.pad(image, (2, 2, 2, 2), mode="replicate")
    rows = F.conv2d(padded, taps.view(1, 1, 5, 1).repeat(channels, 1, 1, 1), groups=channels)
    return image - F.conv2d(rows, taps.view(1, 1, 1, 5).repeat(channels, 1, 1, 1), groups=channels)


def _gradient() -> Loss:
    return gradient


def _edge(epsilon: float = 1e-3) -> Loss:
    return partial(edge, epsilon=epsilon)


ENTRIES: list[Entry[Loss]] = [
    Entry(
        "gradient",
        _gradient,
        "mean absolute difference of Sobel's derivatives",
        "Ma et al. 2020, arXiv 2003.13081",
        "Apache-2.0",
    ),
    Entry(
        "edge",
        _edge,
        "Charbonnier of the finest level of Laplacian pyramids",
        "Zamir et al. 2021, arXiv 2102.02808",
        "Apache-2.0",
    ),
]
