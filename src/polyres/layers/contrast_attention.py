"""Contrast-aware channel attention: each channel weighted by what all channels average and how much they vary."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.layers.blocks import conv1x1


class ContrastAttention(nn.Module):
    """``x * sigmoid(excite(leaky(squeeze(mean of x + deviation of x))))``, (N, C, H, W) to the same shape.

    Both are over the whole picture, so no finite context describes a network with this block (IMDN, arXiv
    1909.11856).

    Args:
        channels: of the features.
        reduction: factor by which the inner layer is narrower.
        slope: of the LeakyReLU below zero.
    """

    def __init__(self, channels: int, reduction: int = 8, slope: float = 0.05) -> None:
        super().__init__()
        self.slope = slope
        self.squeeze = conv1x1(channels, channels // reduction)
        self.excite = conv1x1(channels // reduction, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The weighted features."""
        mean = features.mean(dim=(-2, -1), keepdim=True)
        # Plain sums are faster than torch.var_mean on a CPU; squares of half precision would overflow above 255.
        centred = (features - mean).to(torch.promote_types(features.dtype, torch.float32))
        variance = centred.square().mean(dim=(-2, -1), keepdim=True)
        return features * self.factors(mean, variance)

    def factors(self, mean: Tensor, variance: Tensor) -> Tensor:
        """What each channel is multiplied by, (N, C, 1, 1), from the mean and variance of each."""
        # A channel without contrast, such as any of a picture of one pixel, has no gradient of its deviation.
        deviation = variance.clamp_min(1e-12).sqrt().to(mean.dtype)
        inner = F.leaky_relu(self.squeeze(mean + deviation), self.slope)
        return torch.sigmoid(self.excite(inner))
