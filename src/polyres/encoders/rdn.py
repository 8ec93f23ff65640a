"""RDN: residual dense blocks whose outputs are all fused at the end (Zhang et al., arXiv 1802.08797)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.layers.blocks import conv1x1, conv3x3
from polyres.registry import Entry


class DenseBlock(nn.Module):
    """Convolutions that each see all before them, fused by a 1x1 convolution; ``x`` is added.

    Args:
        channels: width of input and output.
        layers: convolutions.
        growth: channels that each of them adds.
    """

    def __init__(self, channels: int, layers: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv3x3(channels + i * growth, growth) for i in range(layers))
        self.fusion = conv1x1(channels + layers * growth, channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        known = features
        for layer in self.layers:
            known = torch.cat((known, torch.relu(layer(known))), dim=1)
        output: Tensor = features + self.fusion(known)
        return output


class RDN(Encoder):
    """Two shallow convolutions, dense blocks, the fusion of all their outputs, and a long skip.

    Args:
        channels: width of the features.
        blocks: dense blocks (16 in configuration B, 20 in A).
        layers: convolutions in each block (8 in B, 6 in A).
        growth: channels that each of them adds (64 in B, 32 in A).
        kernel_size: side of the kernels outside the dense blocks, odd.
        in_channels: channels of the picture.
    """

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 16,
        layers: int = 8,
        growth: int = 64,
        kernel_size: int = 3,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if not kernel_size % 2:
            raise ValueError(f"kernel_size must be odd; got {kernel_size}")
        self.in_channels, self.out_channels = in_channels, channels
        reach = kernel_size // 2
        self.context = 3 * reach + blocks * layers
        self.head = nn.Conv2d(in_channels, channels, kernel_size, padding=reach)
        self.shallow = nn.Conv2d(channels, channels, kernel_size, padding=reach)
        self.blocks = nn.ModuleList(DenseBlock(channels, layers, growth) for _ in range(blocks))
        self.fusion = conv1x1(blocks * channels, channels)
        self.tail = nn.Conv2d(channels, channels, kernel_size, padding=reach)

    def forward(self, image: Tensor) -> Tensor:
        """Features (N, ``channels``, H, W)."""
        first = self.head(image)
        features, outputs = self.shallow(first), []
        for block in self.blocks:
            features = block(features)
            outputs.append(features)
        fused: Tensor = self.tail(self.fusion(torch.cat(outputs, dim=1))) + first
        return fused


_SOURCE = "Zhang et al. 2018, arXiv 1802.08797; code of EDSR-PyTorch"

ENTRIES: list[Entry[Encoder]] = [
    Entry(
        "rdn",
        RDN,
        summary="16 residual dense blocks of 8 convolutions (configuration B)",
        source=_SOURCE,
        licence="MIT",
        tiny={"channels": 8, "blocks": 2, "layers": 2, "growth": 6},
    ),
    Entry(
        "rdn-a",
        RDN,
        summary="20 residual dense blocks of 6 narrow convolutions (configuration A)",
        source=_SOURCE,
        licence="MIT",
        options={"blocks": 20, "layers": 6, "growth": 32},
        tiny={"channels": 8, "blocks": 1, "layers": 3, "growth": 4},
    ),
]
