"""MambaIR: state-space scans of the picture and convolutions (Guo et al., "MambaIR", 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.encoders.grouped import GroupedEncoder
from polyres.layers.blocks import conv1x1, conv3x3
from polyres.layers.channel_attention import ChannelAttention
from polyres.layers.conv_attention import ConvAttention
from polyres.layers.drop_path import DropPath, rising_rates
from polyres.layers.groups import Closing, ResidualGroup, to_first, to_last
from polyres.layers.state_space import SelectiveScan2d
from polyres.registry import Entry

#: The convolutions of a block: two dense ones, or cheap depthwise ones of a wider reach.
Convolution = Literal["dense", "depthwise"]


class StateSpaceBlock(nn.Module):
    """``x * skip1 + scan(norm(x))``, then ``x * skip2 + convolution(norm(x))``; (N, H, W, C) to the same shape.

    Args:
        scan: a module of (N, H, W, C) to the same shape.
        convolution: a module of (N, C, H, W) to the same shape.
        channels: of the features.
        drop_rate: stochastic depth of the scan.
    """

    def __init__(self, scan: nn.Module, convolution: nn.Module, channels: int, drop_rate: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.skip1, self.skip2 = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.ones(channels))
        self.scan, self.convolution = scan, convolution
        self.drop = DropPath(drop_rate)

    def forward(self, features: Tensor) -> Tensor:
        """The block's output."""
        features = features * self.skip1 + self.drop(self.scan(self.norm1(features)))
        local = to_last(self.convolution(to_first(self.norm2(features))))
        mapped: Tensor = features * self.skip2 + local
        return mapped


class DepthwiseAttention(nn.Sequential):
    """Narrow, depthwise 3x3, GELU, widen, dilated depthwise 3x3, channel attention; (N, C, H, W) to the same shape.

    Args:
        channels: of the features.
        compression: factor by which the middle is narrower.
        reduction: factor by which the channel attention's inner layer is narrower.
    """

    def __init__(self, channels: int, compression: int = 2, reduction: int = 30) -> None:
        middle = channels // compression
        super().__init__(
            conv1x1(channels, middle),
            conv3x3(middle, middle, groups=middle),
            nn.GELU(),
            conv1x1(middle, channels),
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2, groups=channels),
            ChannelAttention(channels, reduction),
        )


class MambaIR(GroupedEncoder):
    """Residual groups of state-space blocks.

    Args:
        channels: width of the features (180, light 60).
        blocks: state-space blocks in each group.
        states: that each inner channel keeps along a path.
        expansion: channels inside the scans as a multiple of ``channels``.
        convolution: the convolutions of each block, see :data:`Convolution`.
        compression: factor by which they are narrower in the middle.
        reduction: factor by which their channel attention is narrower inside.
        closing: the convolutions after each group and after all.
        drop_path: stochastic depth of the last block's scan in training; rises linearly from 0 at the first.
        input_norm: whether pixels are normalised before the first group.
        in_channels: channels of the picture.
    """

    def __init__(
        self,
        channels: int = 180,
        blocks: Sequence[int] = (6,) * 6,
        states: int = 16,
        expansion: float = 2.0,
        convolution: Convolution = "dense",
        compression: int = 3,
        reduction: int = 30,
        closing: Closing = "conv",
        drop_path: float = 0.1,
        input_norm: bool = True,
        in_channels: int = 3,
    ) -> None:
        kinds: dict[str, type[nn.Module]] = {"dense": ConvAttention, "depthwise": DepthwiseAttention}
        if convolution not in kinds:
            raise ValueError(f"convolution must be 'dense' or 'depthwise'; got {convolution!r}")
        if channels < max(compression, reduction):
            raise ValueError(
                f"channels must be at least compression and reduction; got {channels}, {compression}, {reduction}"
            )

        def block(rate: float) -> nn.Module:
            local = kinds[convolution](channels, compression, reduction)
            return StateSpaceBlock(SelectiveScan2d(channels, states, expansion), local, channels, rate)

        groups = [
            ResidualGroup([block(rate) for rate in rates], channels, closing)
            for rates in rising_rates(drop_path, blocks)
        ]
        super().__init__(groups, channels, in_channels, closing, input_norm)
        self.context = None  # the scans run through the whole picture


_SOURCE = "Guo et al. 2024, arXiv 2402.15648"
_TINY = {"channels": 8, "blocks": [2], "states": 3, "reduction": 4}

ENTRIES: list[Entry[Encoder]] = [
    Entry(
        "mambair",
        MambaIR,
        summary="6 groups of 6 state-space blocks: selective scans along four paths",
        source=_SOURCE,
        licence="Apache-2.0",
        tiny=_TINY,
    ),
    Entry(
        "mambair-light",
        MambaIR,
        summary="MambaIR with 60 channels, 4 groups and depthwise convolutions",
        source=_SOURCE,
        licence="Apache-2.0",
        options={
            "channels": 60,
            "blocks": [6] * 4,
            "states": 10,
            "expansion": 1.2,
            "convolution": "depthwise",
            "compression": 2,
        },
        tiny=_TINY,
    ),
    Entry(
        "mambair-light-dense",
        MambaIR,
        summary="light MambaIR as the IGConv study trained it, with the large one's dense convolutions",
        source=f"{_SOURCE}; Lee, Yun, Ro 2024, arXiv 2408.09674",
        licence="Apache-2.0",
        options={"channels": 60, "blocks": [6] * 4, "expansion": 1.5},
        tiny=_TINY,
    ),
]
