"""Fixed-scale heads: sub-pixel convolutions with weights of their own for each scale they were made for.

SPConv is ESPCN's (Shi et al. 2016, arXiv 1609.05158), SPConv+ is EDSR's (Lim et al. 2017, arXiv 1707.02921); the
names are those of the IGConv study.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch.nn.functional as F
from torch import Tensor, nn

from polyres.errors import ScaleError
from polyres.layers.blocks import conv1x1
from polyres.layers.folding import fold
from polyres.layers.phases import PhaseConv
from polyres.scale import Scale, ScaleLike
from polyres.upsamplers.base import Base, FixedUpsampler, Upsampler, add_base


class PerScale(Upsampler):
    """An upsampler that holds one head for each scale it was made for.

    Args:
        in_channels: channels of the features.
        out_channels: channels of the picture.
        heads: the head of each scale.
    """

    def __init__(self, in_channels: int, out_channels: int, heads: Sequence[FixedUpsampler]) -> None:
        super().__init__()
        if not heads:
            raise ValueError("scales must name at least one scale")
        self.in_channels, self.out_channels = in_channels, out_channels
        reaches = [head.context for head in heads]
        self.context = None if None in reaches else max(reach for reach in reaches if reach is not None)
        self.heads = nn.ModuleDict({_key(head.scale): head for head in heads})

    def forward(self, features: Tensor, image: Tensor, scale: ScaleLike) -> Tensor:
        """See :meth:`Upsampler.forward`."""
        return self._head(scale)(features, image)  # type: ignore[no-any-return]

    def at(self, scale: ScaleLike) -> FixedUpsampler:
        """A copy of the head for ``scale``, folded."""
        return fold(self._head(scale))

    def supports(self, scale: Scale) -> bool:
        """Only the scales that there are heads for."""
        return scale in self._by_scale()

    def _by_scale(self) -> dict[Scale, FixedUpsampler]:
        return {head.scale: head for head in self.heads.values() if isinstance(head, FixedUpsampler)}

    def _head(self, scale: ScaleLike) -> FixedUpsampler:
        exact, heads = Scale.of(scale), self._by_scale()
        if exact not in heads:
            known = ", ".join(f"x{known}" for known in heads)
            raise ScaleError(f"this model has weights for {known}, not for x{exact}; choose one of those")
        return heads[exact]


class SPConv(PerScale):
    """One convolution to ``out_channels * p * p`` channels and a pixel shuffle, for each scale.

    Args:
        in_channels: channels of the features.
        out_channels: channels of the picture.
        scales: the scales to hold weights for; rational ones take a strided convolution.
        kernel_size: side of each phase's kernel, odd.
        base: what the generated picture is added to.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 3,
        scales: Sequence[ScaleLike] = (2, 3, 4),
        kernel_size: int = 3,
        base: Base = "none",
    ) -> None:
        heads = [DirectHead(in_channels, out_channels, Scale.of(s), kernel_size, base) for s in scales]
        super().__init__(in_channels, out_channels, heads)


class SPConvPlus(PerScale):
    """Sub-pixel convolutions that keep their width, then one convolution to the picture, for each scale.

    Args:
        in_channels: channels of the features.
        out_channels: channels of the picture.
        scales: the whole-number scales to hold weights for.
        channels: if given, a convolution and a LeakyReLU first bring the features to this width, as in SwinIR.
        stage_channels: width that the stages keep, if not the one they start from, as in RDN.
        kernel_size: side of all kernels, odd.
        colour_map: a learned 1x1 convolution of the picture's colours at the end, as RCAN's mean shift is.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 3,
        scales: Sequence[ScaleLike] = (2, 3, 4),
        channels: int | None = None,
        stage_channels: int | None = None,
        kernel_size: int = 3,
        colour_map: bool = False,
    ) -> None:
        heads = [
            StagedHead(
                in_channels, out_channels, Scale.of(s), channels, stage_channels, kernel_size, colour_map
            )
            for s in scales
        ]
        super().__init__(in_channels, out_channels, heads)


class DirectHead(FixedUpsampler):
    """SPConv at one scale."""

    def __init__(
        self, in_channels: int, out_channels: int, scale: Scale, kernel_size: int, base: Base
    ) -> None:
        super().__init__()
        self.scale, self.base = scale, base
        self.conv = PhaseConv(in_channels, out_channels, scale, kernel_size)
        # Each phase of a rational scale has learned weights for the whole window of its period.
        reach = kernel_size // 2 + max(scale.period) - 1
        self.context = max(reach, 1 if base != "none" else 0)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """See :meth:`FixedUpsampler.forward`."""
        return add_base(self.conv(features), image, self.scale, self.base)


class StagedHead(FixedUpsampler):
    """SPConv+ at one scale: a stage for every prime factor of it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: Scale,
        channels: int | None,
        stage_channels: int | None,
        kernel_size: int,
        colour_map: bool,
    ) -> None:
        super().__init__()
        if not (scale.is_integer and scale.is_uniform):
            raise ScaleError(f"spconv+ makes whole-number scales, the same for both axes; got {scale}")
        self.scale = scale
        self.lead = _conv(in_channels, channels, kernel_size) if channels else None
        self.factors = prime_factors(scale.y.numerator)
        self.stages = nn.ModuleList()
        width = channels or in_channels
        for factor in self.factors:
            kept = stage_channels or width
            self.stages.append(_conv(width, kept * factor**2, kernel_size))
            width = kept
        self.last = _conv(width, out_channels, kernel_size)
        self.colour_map = conv1x1(out_channels, out_channels) if colour_map else None
        self.context = self._reach(kernel_size)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """See :meth:`FixedUpsampler.forward`."""
        if self.lead is not None:
            features = F.leaky_relu(self.lead(features))
        for conv, factor in zip(self.stages, self.factors, strict=True):
            features = F.pixel_shuffle(conv(features), factor)
        picture: Tensor = self.last(features)
        return (picture if self.colour_map is None else self.colour_map(picture)).to(image.dtype)

    def _reach(self, kernel_size: int) -> int:
        """LR pixels that the stack of convolutions looks sideways; later ones count for less."""
        steps, size = Fraction(1 if self.lead is not None else 0), 1
        for factor in self.factors:
            steps, size = steps + Fraction(1, size), size * factor
        return math.ceil((steps + Fraction(1, size)) * (kernel_size // 2))


def _conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


def prime_factors(number: int) -> list[int]:
    """The prime factors of ``number`` in ascending order; none for 1."""
    for factor in range(2, number + 1):
        if number % factor == 0:
            return [factor, *prime_factors(number // factor)]
    return []


def _key(scale: Scale) -> str:
    """The name of a scale's head among the parameters: no dots or slashes."""
    return f"x{scale}".replace("/", "_").replace(".", "p").replace(",", "by")
