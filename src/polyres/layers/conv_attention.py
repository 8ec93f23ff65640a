"""Two convolutions and channel attention: the convolutional branch that HAT and MambaIR add to their blocks."""

from __future__ import annotations

from torch import nn

from polyres.layers.blocks import conv3x3
from polyres.layers.channel_attention import ChannelAttention


class ConvAttention(nn.Sequential):
    """Convolution to fewer channels, GELU, convolution back, channel attention; (N, C, H, W) to the same shape.

    Args:
        channels: of the features.
        compression: factor by which the middle is narrower.
        reduction: factor by which the channel attention's inner layer is narrower.
    """

    def __init__(self, channels: int, compression: int = 3, reduction: int = 30) -> None:
        if not 1 <= compression <= channels:
            raise ValueError(f"compression must be from 1 to the {channels} channels; got {compression}")
        middle = channels // compression
        super().__init__(
            conv3x3(channels, middle),
            nn.GELU(),
            conv3x3(middle, channels),
            ChannelAttention(channels, reduction),
        )
