"""Residual groups of blocks on (N, H, W, C), each closed by a convolution: the trunk of SwinIR and its successors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn

from polyres.layers.blocks import conv1x1, conv3x3

#: What closes a group: a 3x3 convolution, a cheaper bottleneck of three, or nothing.
Closing = Literal["conv", "bottleneck", "none"]


def closing_layers(kind: Closing, channels: int) -> nn.Module:
    """The layers that ``kind`` means, (N, C, H, W) to the same shape."""
    if kind == "none":
        return nn.Identity()
    if kind == "conv":
        return conv3x3(channels, channels)
    if kind != "bottleneck":
        raise ValueError(f"closing must be 'conv', 'bottleneck' or 'none'; got {kind!r}")
    narrow = channels // 4
    return nn.Sequential(
        conv3x3(channels, narrow),
        nn.LeakyReLU(0.2),
        conv1x1(narrow, narrow),
        nn.LeakyReLU(0.2),
        conv3x3(narrow, channels),
    )


class ResidualGroup(nn.Module):
    """``x + closing(blocks(x))``, (N, H, W, C) to the same shape.

    Args:
        blocks: modules of (N, H, W, C) to the same shape.
        channels: of the features.
        closing: see :data:`Closing`.
    """

    def __init__(self, blocks: Iterable[nn.Module], channels: int, closing: Closing = "conv") -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.closing = closing_layers(closing, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The group's output."""
        return features + to_last(self.closing(to_first(self.blocks(features))))


def to_first(features: Tensor) -> Tensor:
    """(N, H, W, C) as (N, C, H, W), a view."""
    return features.permute(0, 3, 1, 2)


def to_last(features: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H, W, C), a view."""
    return features.permute(0, 2, 3, 1)
