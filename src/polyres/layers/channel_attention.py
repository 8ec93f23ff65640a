"""Channel attention: each channel weighted by what all channels hold on average over the picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyres.layers.blocks import conv1x1


class ChannelAttention(nn.Module):
    """``x * sigmoid(excite(relu(squeeze(mean of x))))``, (N, C, H, W) to the same shape (RCAN, arXiv 1807.02758).

    The mean is over the whole picture, so no finite context describes a network with this block.

    Args:
        channels: channels of the features.
        reduction: factor by which the inner layer is narrower.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        if not 1 <= reduction <= channels:
            raise ValueError(f"reduction must be from 1 to the {channels} channels; got {reduction}")
        self.squeeze = conv1x1(channels, channels // reduction)
        self.excite = conv1x1(channels // reduction, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The weighted features."""
        mean = features.mean(dim=(-2, -1), keepdim=True)
        return features * torch.sigmoid(self.excite(torch.relu(self.squeeze(mean))))
