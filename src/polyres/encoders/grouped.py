"""The skeleton that SwinIR and its successors share: a head, residual groups between two norms, a tail, a long skip."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.layers.blocks import conv3x3
from polyres.layers.groups import Closing, closing_layers, to_first, to_last


class GroupedEncoder(Encoder):
    """``head(x) + tail(norm(groups(norm(head(x)))))``.

    Args:
        groups: modules of (N, H, W, ``channels``) to the same shape.
        channels: width of the features.
        in_channels: channels of the picture.
        closing: what the tail is, see :data:`polyres.layers.groups.Closing`.
    """

    def __init__(
        self, groups: Iterable[nn.Module], channels: int, in_channels: int = 3, closing: Closing = "conv"
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, channels
        self.head = conv3x3(in_channels, channels)
        self.norm_in = nn.LayerNorm(channels)
        self.groups = nn.Sequential(*groups)
        self.norm_out = nn.LayerNorm(channels)
        self.tail = closing_layers(closing, channels)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Features (N, ``channels``, H, W)."""
        shallow = self.head(image)
        deep = self.norm_out(self.groups(self.norm_in(to_last(shallow))))
        features: Tensor = self.tail(to_first(deep)) + shallow
        return features


def _initialise(module: nn.Module) -> None:
    """The published start of the linear layers; convolutions keep PyTorch's."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
