"""RCAN: residual groups of channel attention blocks (Zhang et al., arXiv 1807.02758)."""

from __future__ import annotations

from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.layers.blocks import conv1x1, conv3x3
from polyres.layers.channel_attention import ChannelAttention
from polyres.layers.native import convolve
from polyres.registry import Entry


class AttentionBlock(nn.Module):
    """``x + residual_scale * attention(conv(relu(conv(x))))``, (N, C, H, W) to the same shape."""

    def __init__(self, channels: int, reduction: int, residual_scale: float) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)
        self.attention = ChannelAttention(channels, reduction)

    def forward(self, features: Tensor) -> Tensor:
        """The block's output."""
        residual: Tensor = self.attention(convolve(self.conv2, convolve(self.conv1, features, slope=0)))
        return features + (residual if self.residual_scale == 1 else residual * self.residual_scale)


class ResidualGroup(nn.Module):
    """A chain of attention blocks, a closing convolution and a skip, (N, C, H, W) to the same shape."""

    def __init__(self, channels: int, blocks: int, reduction: int, residual_scale: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(AttentionBlock(channels, reduction, residual_scale) for _ in range(blocks))
        )
        self.tail = conv3x3(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The group's output."""
        return convolve(self.tail, self.blocks(features), add=features)


class RCAN(Encoder):
    """A head, a chain of residual groups, a closing convolution and a long skip.

    Args:
        channels: width of the features.
        groups: residual groups.
        blocks: attention blocks in each group.
        reduction: how much narrower the inner layer of each channel attention is.
        residual_scale: factor on the residual of each block.
        input_shift: a learned 1x1 convolution of the colours before all else. The released networks hold their
            mean subtraction as such a layer, and it was trained along.
        in_channels: channels of the picture.
    """

    def __init__(
        self,
        channels: int = 64,
        groups: int = 10,
        blocks: int = 20,
        reduction: int = 16,
        residual_scale: float = 1.0,
        input_shift: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, channels
        self.context = None  # the attention averages over the whole picture
        self.input_shift = _identity(in_channels) if input_shift else None
        self.head = conv3x3(in_channels, channels)
        self.groups = nn.Sequential(
            *(ResidualGroup(channels, blocks, reduction, residual_scale) for _ in range(groups))
        )
        self.tail = conv3x3(channels, channels)

    def forward(self, image: Tensor) -> Tensor:
        """Features (N, ``channels``, H, W)."""
        shallow = self.head(image if self.input_shift is None else self.input_shift(image))
        features: Tensor = self.tail(self.groups(shallow)) + shallow
        return features


def _identity(channels: int) -> nn.Conv2d:
    """A 1x1 convolution that starts as the identity."""
    conv = conv1x1(channels, channels)
    nn.init.dirac_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


ENTRIES: list[Entry[Encoder]] = [
    Entry(
        "rcan",
        RCAN,
        summary="10 groups of 20 residual blocks with channel attention",
        source="Zhang et al. 2018, arXiv 1807.02758",
        licence="NOASSERTION",
        tiny={"channels": 8, "groups": 1, "blocks": 1, "reduction": 4, "input_shift": True},
    ),
]
