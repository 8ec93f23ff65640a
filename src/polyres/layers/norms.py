"""Normalisation of feature maps, pixel by pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, (N, C, H, W) to the same shape.

    Args:
        channels: channels of the features.
        eps: added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """The normalised features, each channel scaled and shifted."""
        variance, mean = torch.var_mean(features, dim=1, correction=0, keepdim=True)
        normalised = (features - mean) * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias[:, None, None], normalised, self.weight[:, None, None])
