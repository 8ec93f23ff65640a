"""SMFANet: convolutions for detail beside coarse self-modulation (Zheng et al., ECCV 2024)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.layers.blocks import conv1x1, conv3x3
from polyres.layers.norms import spatial_variance, unit_length
from polyres.layers.pooling import nearest_to, region_maxima
from polyres.registry import Entry

#: The coarse branch works on a picture this many times smaller.
_REDUCTION = 8


class DetailBranch(nn.Module):
    """A depthwise and two pointwise convolutions, (N, C, H, W) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = conv3x3(channels, 2 * channels, groups=channels)
        self.expand = conv1x1(2 * channels, 2 * channels)
        self.project = conv1x1(2 * channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The branch's output."""
        output: Tensor = self.project(F.gelu(self.expand(self.spatial(features))))
        return output


class SelfModulation(nn.Module):
    """Features weighted by a coarse picture of themselves and by their variance, plus a branch for detail.

    The maxima are taken over an eighth of the picture's size and the variance over all of it, so the block sees the
    whole picture.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.split = conv1x1(channels, 2 * channels)
        self.coarse = conv3x3(channels, channels, groups=channels)
        self.modulate = conv1x1(channels, channels)
        self.merge = conv1x1(channels, channels)
        self.detail = DetailBranch(channels)
        self.coarse_weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.variance_weight = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape; H and W at least 8."""
        size = features.shape[-2:]
        fine, smooth = self.split(features).chunk(2, dim=1)
        maxima = region_maxima(smooth, _REDUCTION)
        variance = spatial_variance(smooth)
        weight = F.gelu(
            self.modulate(self.coarse(maxima) * self.coarse_weight + variance * self.variance_weight)
        )
        modulated = smooth * nearest_to(weight, *size)
        output: Tensor = self.merge(modulated + self.detail(fine))
        return output


class PartialFeedForward(nn.Module):
    """Pointwise, a 3x3 convolution of the first quarter of the channels, pointwise; (N, C, H, W) to the same."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.spatial_channels = hidden // 4
        self.expand = conv1x1(channels, hidden)
        self.spatial = conv3x3(self.spatial_channels, self.spatial_channels)
        self.project = conv1x1(hidden, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The layer's output."""
        hidden = F.gelu(self.expand(features))
        first = F.gelu(self.spatial(hidden[:, : self.spatial_channels]))
        output: Tensor = self.project(torch.cat((first, hidden[:, self.spatial_channels :]), dim=1))
        return output


class ModulationBlock(nn.Module):
    """Self-modulation, then a partial feed-forward layer, each of the normalised features and with a skip."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        self.modulation = SelfModulation(channels)
        self.feed_forward = PartialFeedForward(channels, expansion)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        features = features + self.modulation(unit_length(features))
        output: Tensor = features + self.feed_forward(unit_length(features))
        return output


class SMFANet(Encoder):
    """A head, a chain of modulation blocks and a long skip.

    Args:
        channels: width of the features (36, or 48 in SMFANet+).
        blocks: modulation blocks (8, or 12 in SMFANet+).
        expansion: width of the feed-forward layers over that of the features.
        in_channels: channels of the picture.
    """

    minimum_size = _REDUCTION

    def __init__(
        self, channels: int = 36, blocks: int = 8, expansion: float = 2.0, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, channels
        self.context = None  # variances are over the whole picture
        self.head = conv3x3(in_channels, channels)
        self.blocks = nn.Sequential(*(ModulationBlock(channels, expansion) for _ in range(blocks)))

    def forward(self, image: Tensor) -> Tensor:
        """Features (N, ``channels``, H, W); H and W at least 8."""
        shallow: Tensor = self.head(image)
        features: Tensor = self.blocks(shallow)
        return features + shallow


_SOURCE = "Zheng et al. 2024, github.com/Zheng-MJ/SMFANet"

ENTRIES: list[Entry[Encoder]] = [
    Entry(
        "smfanet",
        SMFANet,
        summary="8 light blocks of self-modulation, 36 channels",
        source=_SOURCE,
        licence="Apache-2.0",
        tiny={"channels": 8, "blocks": 1},
    ),
    Entry(
        "smfanet+",
        SMFANet,
        summary="12 light blocks of self-modulation, 48 channels",
        source=_SOURCE,
        licence="Apache-2.0",
        options={"channels": 48, "blocks": 12},
        tiny={"channels": 8, "blocks": 1},
    ),
]
