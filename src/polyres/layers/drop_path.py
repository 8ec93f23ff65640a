"""Stochastic depth: whole residual branches left out at random in training (Huang et al. 2016, arXiv 1603.09382)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Zeroes a branch for some pictures of a training batch and scales it up for the others; nothing in eval mode.

    Args:
        rate: probability of leaving the branch out, below 1.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """``branch`` (N, ...), each picture's dropped or kept."""
        if not self.training or self.rate == 0:
            return branch
        kept = torch.rand(branch.shape[0], *[1] * (branch.ndim - 1), device=branch.device) >= self.rate
        return branch * (kept / (1 - self.rate)).to(branch.dtype)

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate}"


def rising_rates(highest: float, depths: Sequence[int]) -> list[list[float]]:
    """Drop rates for groups of ``depths`` blocks, rising linearly from 0 at the first block to ``highest``."""
    step = highest / max(sum(depths) - 1, 1)
    starts = [sum(depths[:group]) for group in range(len(depths))]
    return [
        [step * (start + block) for block in range(depth)]
        for start, depth in zip(starts, depths, strict=True)
    ]
