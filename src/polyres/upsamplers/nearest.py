"""Nearest-neighbour enlargement of features with convolutions between: the heads of networks for real photographs.

Wang et al. 2018, arXiv 1809.00219 (ESRGAN); used by the real-world variants of SwinIR, SRFormer and HAT because it
leaves no checkerboard.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch.nn.functional as F
from torch import Tensor, nn

from polyres.errors import ScaleError
from polyres.layers.blocks import conv3x3
from polyres.scale import Scale, ScaleLike
from polyres.upsamplers.base import FixedUpsampler
from polyres.upsamplers.subpixel import PerScale, prime_factors

#: Slope of the LeakyReLU after each enlarging stage; the lead has PyTorch's default, as published.
_SLOPE = 0.2


class NearestConv(PerScale):
    """Stages of nearest-neighbour enlargement and a convolution, then two convolutions, for each scale.

    Args:
        in_channels: channels of the features.
        out_channels: channels of the picture.
        scales: the whole-number scales to hold weights for; a stage for every prime factor.
        channels: width of the head; a convolution first brings the features to it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 3,
        scales: Sequence[ScaleLike] = (2, 3, 4),
        channels: int = 64,
    ) -> None:
        heads = [NearestHead(in_channels, out_channels, Scale.of(s), channels) for s in scales]
        super().__init__(in_channels, out_channels, heads)


class NearestHead(FixedUpsampler):
    """The stages of one scale."""

    def __init__(self, in_channels: int, out_channels: int, scale: Scale, channels: int) -> None:
        super().__init__()
        if not (scale.is_integer and scale.is_uniform):
            raise ScaleError(f"nearest+conv makes whole-number scales, the same for both axes; got {scale}")
        self.scale, self.factors = scale, prime_factors(scale.y.numerator)
        self.lead = conv3x3(in_channels, channels)
        self.stages = nn.ModuleList(conv3x3(channels, channels) for _ in self.factors)
        self.refine = conv3x3(channels, channels)
        self.last = conv3x3(channels, out_channels)
        self.context = self._reach()

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """See :meth:`FixedUpsampler.forward`."""
        features = F.leaky_relu(self.lead(features))
        for conv, factor in zip(self.stages, self.factors, strict=True):
            enlarged = F.interpolate(features, scale_factor=float(factor), mode="nearest")
            features = F.leaky_relu(conv(enlarged), _SLOPE)
        picture: Tensor = self.last(F.leaky_relu(self.refine(features), _SLOPE))
        return picture.to(image.dtype)

    def _reach(self) -> int:
        """LR pixels that the stack of 3x3 convolutions looks sideways; those of larger pictures count for less."""
        reach, size = Fraction(1), 1
        for factor in self.factors:
            size *= factor
            reach += Fraction(1, size)
        return math.ceil(reach + Fraction(2, size))
