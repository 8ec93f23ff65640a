"""What residual blocks by minimal filtering and on matrix units share."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class Attending(Protocol):
    """Attention between a block's convolutions: :class:`polyres.layers.pixel_attention.PixelAttention`."""

    mix: nn.Conv2d
    least: float

    def __call__(self, features: Tensor, /) -> Tensor:
        """The weighted features."""
        ...


def turned(weight: Tensor) -> Tensor:
    """The kernels that take a gradient of the output to one of the input."""
    return weight.transpose(0, 1).flip(2, 3)


def as_pixels(features: Tensor) -> Tensor:
    """(N, C, H, W) as (pixels, C), contiguous."""
    return features.permute(0, 2, 3, 1).contiguous().flatten(0, 2)


def as_picture(pixels: Tensor, like: Tensor) -> Tensor:
    """(pixels, C) in the shape of ``like``, (N, C, H, W), channels_last."""
    images, channels, height, width = like.shape
    return pixels.view(images, height, width, channels).permute(0, 3, 1, 2)
