"""The skeleton that SwinIR and its successors share: a head, residual groups between two norms, a tail, a long skip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.errors import PictureError
from polyres.layers.blocks import conv3x3
from polyres.layers.groups import Closing, closing_layers, to_first, to_last
from polyres.layers.windows import Reach


class GroupedEncoder(Encoder):
    """``head(x) + tail(norm(groups(norm(head(x)))))``.

    Args:
        groups: modules of (N, H, W, ``channels``) to the same shape.
        channels: width of the features.
        in_channels: channels of the picture.
        closing: what the tail is, see :data:`polyres.layers.groups.Closing`.
        input_norm: whether the first of the two norms is there.
        positions: learned vectors, one added to each pixel, row by row; 0 for none. With them only pictures of as
            many pixels are taken.
    """

    def __init__(
        self,
        groups: Iterable[nn.Module],
        channels: int,
        in_channels: int = 3,
        closing: Closing = "conv",
        input_norm: bool = True,
        positions: int = 0,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, channels
        self.head = conv3x3(in_channels, channels)
        self.norm_in = nn.LayerNorm(channels) if input_norm else nn.Identity()
        self.positions = _positions(positions, channels) if positions else None
        self.groups = nn.Sequential(*groups)
        self.norm_out = nn.LayerNorm(channels)
        self.tail = closing_layers(closing, channels)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Features (N, ``channels``, H, W).

        Raises:
            PictureError: another number of pixels than of learned positions, if there are any.
        """
        shallow = self.head(image)
        placed = self._placed(self.norm_in(to_last(shallow)))
        deep = self.norm_out(self.groups(placed))
        features: Tensor = self.tail(to_first(deep)) + shallow
        return features

    def _placed(self, features: Tensor) -> Tensor:
        """``features`` (N, H, W, C) and each pixel's vector."""
        if self.positions is None:
            return features
        height, width = features.shape[1:3]
        if height * width != len(self.positions):
            raise PictureError(
                f"this network has learned positions for {len(self.positions)} pixels and takes no other pictures; "
                f"got {height}x{width} after padding. Crop or resize the picture"
            )
        return features + self.positions.reshape(height, width, -1)


def check_groups(channels: int, blocks: Sequence[int], heads: Sequence[int]) -> None:
    """Refuse groups that cannot be built.

    Raises:
        ValueError: another number of ``heads`` than of ``blocks``, or heads that do not divide ``channels``.
    """
    if not blocks or len(heads) != len(blocks):
        raise ValueError(
            f"blocks and heads need one number for each group; got {list(blocks)} and {list(heads)}"
        )
    if any(channels % count for count in heads):
        raise ValueError(
            f"each group's heads must divide channels; got {channels} channels and heads {list(heads)}"
        )


def context_of(
    blocks: Sequence[int], window: int, shifts: tuple[int, int], closing: Closing, mlp_radius: int = 0
) -> int:
    """Pixels that groups of windowed blocks look sideways, with their closing layers and the encoder's head.

    Args:
        blocks: blocks in each group.
        window: side of the windows.
        shifts: by how much they are moved in even and in odd blocks of a group.
        closing: what closes the groups and the encoder.
        mlp_radius: pixels that each block's pointwise network looks sideways.
    """
    reach, closing_radius = Reach(window), {"conv": 1, "bottleneck": 2, "none": 0}[closing]
    reach.convolution(closing_radius)
    for count in reversed(blocks):
        reach.convolution(closing_radius)
        for block in reversed(range(count)):
            reach.convolution(mlp_radius)
            reach.windows(shifts[block % 2])
    reach.convolution(1)
    return reach.radius


def _positions(count: int, channels: int) -> nn.Parameter:
    """The published start of learned positions."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(count, channels), std=0.02))


def _initialise(module: nn.Module) -> None:
    """The published start of the linear layers; convolutions keep PyTorch's."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
