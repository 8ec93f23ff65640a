"""DySample: features enlarged by sampling them at learned positions (Liu et al. 2023, arXiv 2308.15085).

The paper enlarges features inside a network; here a convolution then makes the picture of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polyres.layers.interpolate import sample_at
from polyres.layers.phases import PhaseConv
from polyres.scale import Scale, ScaleLike
from polyres.upsamplers.base import Base, FixedUpsampler, add_base
from polyres.upsamplers.subpixel import PerScale


class DySample(PerScale):
    """Sampling at learned positions and a convolution, for each scale.

    Args:
        in_channels: channels of the features.
        out_channels: channels of the picture.
        scales: the scales to hold weights for, whole or not.
        groups: groups of channels, each sampled at positions of its own. Where the channels cannot be divided so,
            the greatest common divisor of the two.
        dynamic_scope: whether a second branch learns how far the positions may move (the paper's DySample+).
        kernel_size: side of the convolution that makes the picture, odd.
        base: what the generated picture is added to.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 3,
        scales: Sequence[ScaleLike] = (2, 3, 4),
        groups: int = 4,
        dynamic_scope: bool = True,
        kernel_size: int = 3,
        base: Base = "none",
    ) -> None:
        shared = math.gcd(groups, in_channels)
        heads = [
            SamplingHead(in_channels, out_channels, Scale.of(s), shared, dynamic_scope, kernel_size, base)
            for s in scales
        ]
        super().__init__(in_channels, out_channels, heads)


class SamplingHead(FixedUpsampler):
    """The offsets, the sampling and the convolution of one scale. At first it samples bilinearly."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: Scale,
        groups: int,
        dynamic_scope: bool,
        kernel_size: int,
        base: Base,
    ) -> None:
        super().__init__()
        self.scale, self.base = scale, base
        self.context = None  # learned offsets have no bound
        self.offset = PhaseConv(in_channels, 2 * groups, scale, kernel_size=1)
        self.scope = PhaseConv(in_channels, 2 * groups, scale, kernel_size=1) if dynamic_scope else None
        self.last = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self._initialise()

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """See :meth:`FixedUpsampler.forward`."""
        gate = 0.25 if self.scope is None else torch.sigmoid(self.scope(features)) * 0.5
        picture: Tensor = self.last(sample_at(features, self.offset(features) * gate, self.scale))
        return add_base(picture, image, self.scale, self.base)

    def _initialise(self) -> None:
        """Offsets of nearly nothing, and scopes half open, as published."""
        nn.init.normal_(self.offset.weight, std=0.001)
        for conv in (self.offset, self.scope):
            if conv is not None and conv.bias is not None:
                nn.init.zeros_(conv.bias)
        if self.scope is not None:
            nn.init.zeros_(self.scope.weight)
