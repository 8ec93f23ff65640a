"""The upsampler contract: features and a picture in, a picture of any scale out; no upsampler knows encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from polyres.errors import ConfigError
from polyres.layers.interpolate import bilinear
from polyres.scale import Scale, ScaleLike

#: A picture, enlarged in a fixed way, that what the network makes is added to.
Base = Literal["none", "bilinear", "nearest"]


class FixedUpsampler(nn.Module, ABC):
    """An upsampler at one scale: (features, image) to the picture.

    Attributes:
        scale: the one scale.
        context: radius in LR pixels that an output pixel looks at in features and image; None if unbounded.
    """

    scale: Scale
    context: int | None

    @abstractmethod
    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """The picture (N, C, round(H * scale), round(W * scale)), not clamped."""


class Upsampler(nn.Module, ABC):
    """Maps (features, image, scale) to a picture of ``scale`` times the size.

    Units: ``image`` is the picture times the model's value range, without the mean subtracted. The result is in
    the same range; the model divides by the range and then adds its mean. This is the published composition: the
    generated part predicts a mean-free picture, and an image skip is added unshifted.

    Attributes:
        in_channels: channels of the features.
        out_channels: channels of the picture.
        context: radius in LR pixels that an output pixel looks at in features and image; None if unbounded.
        learns_base: whether the picture that the generated part is added to is learned, so that losses can judge it.
    """

    in_channels: int
    out_channels: int
    context: int | None
    learns_base: bool = False

    @abstractmethod
    def forward(self, features: Tensor, image: Tensor, scale: ScaleLike) -> Tensor:
        """The enlarged picture.

        Args:
            features: (N, ``in_channels``, H, W).
            image: (N, ``out_channels``, H, W).
            scale: exact factor, one number or a pair (height, width).

        Returns:
            (N, ``out_channels``, round(H * scale), round(W * scale)), not clamped.

        Raises:
            ScaleError: a scale that this upsampler cannot make.
        """

    def with_base(self, features: Tensor, image: Tensor, scale: ScaleLike) -> tuple[Tensor, Tensor]:
        """The enlarged picture as :meth:`forward` makes it, and the learned base that is a part of it.

        Raises:
            ConfigError: an upsampler that learns no base.
        """
        raise ConfigError("this upsampler learns no base; one with base: sample does, such as igconv+")

    @abstractmethod
    def supports(self, scale: Scale) -> bool:
        """Whether this upsampler can make ``scale``."""

    @abstractmethod
    def at(self, scale: ScaleLike) -> FixedUpsampler:
        """A new plain module that is this upsampler at one scale, evaluated once; it shares no storage."""


def add_base(generated: Tensor, image: Tensor, scale: Scale, base: Base) -> Tensor:
    """``generated`` plus the enlarged picture, summed in the picture's precision.

    Under autocast the picture is float32 and ``generated`` is not: a last sum in bfloat16 costs a grey level.
    """
    generated = generated.to(image.dtype)
    if base == "none":
        return generated
    if base == "bilinear":
        return generated + bilinear(image, scale)
    rows, columns = generated.shape[-2:]
    return generated + F.interpolate(image, size=(rows, columns), mode="nearest-exact")
