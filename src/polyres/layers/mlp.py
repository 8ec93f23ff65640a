"""Pointwise networks of transformers, plain or with a depthwise convolution: (N, H, W, C) to the same shape."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Mlp(nn.Module):
    """Linear, GELU, linear.

    Args:
        channels: in and out.
        hidden_channels: in between.
    """

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, hidden_channels)
        self.reduce = nn.Linear(hidden_channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The mapped features."""
        mapped: Tensor = self.reduce(F.gelu(self.expand(features)))
        return mapped


class ConvMlp(nn.Module):
    """Linear, GELU, plus the GELU of a depthwise convolution, linear.

    Args:
        channels: in and out.
        hidden_channels: in between.
        kernel_size: of the convolution, odd.
    """

    def __init__(self, channels: int, hidden_channels: int, kernel_size: int = 5) -> None:
        super().__init__()
        if not kernel_size % 2:
            raise ValueError(f"the kernels of pointwise networks must have an odd side; got {kernel_size}")
        self.expand = nn.Linear(channels, hidden_channels)
        self.depthwise = nn.Conv2d(
            hidden_channels, hidden_channels, kernel_size, padding=kernel_size // 2, groups=hidden_channels
        )
        self.reduce = nn.Linear(hidden_channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The mapped features."""
        hidden = F.gelu(self.expand(features))
        neighbours = F.gelu(self.depthwise(hidden.permute(0, 3, 1, 2)))
        mapped: Tensor = self.reduce(hidden + neighbours.permute(0, 2, 3, 1))
        return mapped
