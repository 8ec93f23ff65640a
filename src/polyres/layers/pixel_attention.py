"""Pixel attention: each channel weighted by what all channels hold at the same pixel."""

from __future__ import annotations

from torch import Tensor, nn

from polyres.layers.blocks import conv1x1
from polyres.layers.native import attend


class PixelAttention(nn.Module):
    """``x * relu(1 + u)``, ``u`` a 1x1 convolution of ``x`` over the mean of all channels; same shape.

    As of H. Zhao et al., "Efficient image super-resolution using pixel attention" (PAN, arXiv 2010.01073), but that
    weights have no upper end, as a sigmoid's have, and are of shares of a pixel's features. So features ``a`` times as
    strong have the same weights, and a network that treats flatter pictures alike goes on doing so. It begins by
    changing nothing.

    Args:
        channels: of the features, which are not negative, as behind a ReLU.

    Attributes:
        least: added to the mean of all channels: where all are zero, weights do not matter.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.least = 1e-6
        self.mix = conv1x1(channels, channels, bias=False)
        nn.init.zeros_(self.mix.weight)

    def forward(self, features: Tensor) -> Tensor:
        """The weighted features, (N, C, H, W)."""
        return attend(self.mix, features, self.least)
