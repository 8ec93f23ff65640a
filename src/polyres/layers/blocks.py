"""Small convolution helpers that many networks use."""

from __future__ import annotations

from torch import nn


def conv3x3(in_channels: int, out_channels: int, *, groups: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 3x3 convolution, stride 1, zero padding 1: (N, in, H, W) to (N, out, H, W)."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, groups=groups, bias=bias)


def conv1x1(in_channels: int, out_channels: int, *, groups: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 1x1 convolution: a linear map of the channels at each pixel."""
    return nn.Conv2d(in_channels, out_channels, 1, groups=groups, bias=bias)
