"""SAFMN: features modulated by pooled copies of themselves at four sizes (Sun et al., arXiv 2302.13800)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.layers.blocks import conv1x1, conv3x3
from polyres.layers.norms import ChannelNorm
from polyres.layers.pooling import nearest_to, region_maxima
from polyres.registry import Entry

#: Sizes at which a quarter of the channels each is looked at: the picture's, a half, a quarter, an eighth.
_LEVELS = 4


class AdaptiveModulation(nn.Module):
    """A quarter of the channels at each of four sizes, merged, times the input; (N, C, H, W) to the same.

    Args:
        channels: width of the features, a multiple of 4.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        part = channels // _LEVELS
        self.levels = nn.ModuleList(conv3x3(part, part, groups=part) for _ in range(_LEVELS))
        self.merge = conv1x1(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The modulated features; H and W at least 8."""
        size = features.shape[-2:]
        parts = []
        for level, (conv, part) in enumerate(zip(self.levels, features.chunk(_LEVELS, dim=1), strict=True)):
            if level:
                part = region_maxima(part, 1 << level)
            part = conv(part)
            parts.append(nearest_to(part, *size) if level else part)
        return F.gelu(self.merge(torch.cat(parts, dim=1))) * features


class ModulationBlock(nn.Module):
    """Adaptive modulation, then a convolutional mixer, each of the normalised features and with a skip."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.modulation = AdaptiveModulation(channels)
        self.mix = conv3x3(channels, hidden)
        self.project = conv1x1(hidden, channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        features = features + self.modulation(self.norm1(features))
        output: Tensor = features + self.project(F.gelu(self.mix(self.norm2(features))))
        return output


class SAFMN(Encoder):
    """A head, a chain of modulation blocks and a long skip.

    Args:
        channels: width of the features, a multiple of 4.
        blocks: modulation blocks.
        expansion: width of the mixers over that of the features.
        in_channels: channels of the picture.
    """

    minimum_size = 1 << (_LEVELS - 1)

    def __init__(
        self, channels: int = 36, blocks: int = 8, expansion: float = 2.0, in_channels: int = 3
    ) -> None:
        super().__init__()
        if channels % _LEVELS:
            raise ValueError(f"channels must be a multiple of {_LEVELS}; got {channels}")
        self.in_channels, self.out_channels = in_channels, channels
        self.context = None  # where the pooled regions lie depends on the picture's size
        self.head = conv3x3(in_channels, channels)
        self.blocks = nn.Sequential(*(ModulationBlock(channels, expansion) for _ in range(blocks)))

    def forward(self, image: Tensor) -> Tensor:
        """Features (N, ``channels``, H, W); H and W at least 8."""
        shallow: Tensor = self.head(image)
        features: Tensor = self.blocks(shallow)
        return features + shallow


_SOURCE = "Sun et al. 2023, arXiv 2302.13800"

ENTRIES: list[Entry[Encoder]] = [
    Entry(
        "safmn",
        SAFMN,
        summary="8 light blocks of modulation at four sizes, 36 channels",
        source=_SOURCE,
        licence="NOASSERTION",
        tiny={"channels": 8, "blocks": 1},
    ),
    Entry(
        "safmn-l",
        SAFMN,
        summary="16 blocks of modulation at four sizes, 128 channels",
        source=_SOURCE,
        licence="NOASSERTION",
        options={"channels": 128, "blocks": 16},
        tiny={"channels": 8, "blocks": 1},
    ),
]
