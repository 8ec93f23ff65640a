"""Spectral normalisation: a weight divided by its largest singular value, so that no layer magnifies by more than one.

Miyato et al. 2018, arXiv 1802.05957. The singular vectors are followed when they are told to, not in each forward
pass: then the same weights give the same numbers however many passes a step takes, and on however many processes.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

M = TypeVar("M", bound=nn.Module)

#: Power iterations at the beginning; one for each change of the weights keeps up with them.
_FIRST = 15


class SpectralNorm(nn.Module):
    """The map from a weight (O, ...), taken for a matrix of O rows, to itself over its largest singular value.

    Args:
        weight: as it is at the beginning.
    """

    left: Tensor
    right: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.register_buffer("left", F.normalize(torch.randn_like(matrix[:, 0]), dim=0))
        self.register_buffer("right", F.normalize(torch.randn_like(matrix[0]), dim=0))
        for _ in range(_FIRST):
            self.follow(weight)

    def forward(self, weight: Tensor) -> Tensor:
        """``weight`` over its largest singular value, whose gradient takes part."""
        # Copies, because following them changes what a backward pass may still need.
        return weight / torch.vdot(self.left.clone(), weight.flatten(1) @ self.right.clone())

    @torch.no_grad()
    def follow(self, weight: Tensor) -> None:
        """One power iteration: bring the singular vectors nearer to those of ``weight``."""
        matrix = weight.flatten(1)
        self.right.copy_(F.normalize(matrix.mT @ self.left, dim=0))
        self.left.copy_(F.normalize(matrix @ self.right, dim=0))


def spectral_norm(module: M) -> M:
    """``module`` itself, its weight normalised."""
    weight = module.get_parameter("weight")
    parametrize.register_parametrization(module, "weight", SpectralNorm(weight))
    return module


def follow_weights(network: nn.Module) -> None:
    """Let every :class:`SpectralNorm` in ``network`` follow its weight; call it after each change of the weights."""
    for part in network.modules():
        if isinstance(part, parametrize.ParametrizationList) and isinstance(part[0], SpectralNorm):
            part[0].follow(part.original)
