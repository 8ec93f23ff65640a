"""SwinIR: self-attention in shifted windows (Liang et al., "Image Restoration Using Swin Transformer", 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from polyres.encoders.base import Encoder
from polyres.encoders.grouped import GroupedEncoder, check_groups, context_of
from polyres.layers.attention import WindowAttention
from polyres.layers.drop_path import rising_rates
from polyres.layers.groups import Closing, ResidualGroup
from polyres.layers.mlp import Mlp
from polyres.layers.transformer import TransformerBlock
from polyres.registry import Entry


class SwinIR(GroupedEncoder):
    """Residual groups of Swin transformer blocks, every second block's windows moved by half their size.

    Args:
        channels: width of the features (180, light 60, large 240).
        blocks: transformer blocks in each group.
        heads: attention heads in each group; each divides ``channels``.
        window: side of the attention windows in pixels.
        mlp_ratio: width of the pointwise networks as a multiple of ``channels``.
        closing: the convolutions after each group and after all: one, or a bottleneck of three (real-world L).
        drop_path: stochastic depth of the last block in training; rises linearly from 0 at the first.
        bias: whether queries, keys and values have a bias.
        attention_scale: factor on the attention's logits; the root of a head's channels divides them if None.
        shifted: whether every second block's windows are moved.
        input_norm: whether pixels are normalised before the first group.
        positions: learned vectors, one for each pixel; only pictures of as many pixels are then taken. 0 for none.
        in_channels: channels of the picture.
    """

    def __init__(
        self,
        channels: int = 180,
        blocks: Sequence[int] = (6,) * 6,
        heads: Sequence[int] = (6,) * 6,
        window: int = 8,
        mlp_ratio: float = 2.0,
        closing: Closing = "conv",
        drop_path: float = 0.1,
        bias: bool = True,
        shifted: bool = True,
        attention_scale: float | None = None,
        input_norm: bool = True,
        positions: int = 0,
        in_channels: int = 3,
    ) -> None:
        check_groups(channels, blocks, heads)
        shifts = (0, window // 2 if shifted else 0)

        def block(index: int, heads: int, rate: float) -> nn.Module:
            attention = WindowAttention(channels, heads, window, shifts[index % 2], bias, attention_scale)
            return TransformerBlock(channels, attention, Mlp(channels, int(channels * mlp_ratio)), rate)

        groups = [
            ResidualGroup([block(i, count, rate) for i, rate in enumerate(rates)], channels, closing)
            for count, rates in zip(heads, rising_rates(drop_path, blocks), strict=True)
        ]
        super().__init__(groups, channels, in_channels, closing, input_norm, positions)
        self.multiple_of = window
        # A tile would be given the positions of another place.
        self.context = None if positions else context_of(blocks, window, shifts, closing)


_SOURCE = "Liang et al. 2021, arXiv 2108.10257"
_TINY = {"channels": 8, "blocks": [2], "heads": [2], "window": 4}

ENTRIES: list[Entry[Encoder]] = [
    Entry(
        "swinir",
        SwinIR,
        summary="6 groups of 6 Swin transformer blocks, windows of 8 pixels (classical, and real-world M)",
        source=_SOURCE,
        licence="Apache-2.0",
        tiny=_TINY,
    ),
    Entry(
        "swinir-light",
        SwinIR,
        summary="SwinIR with 60 channels and 4 groups",
        source=_SOURCE,
        licence="Apache-2.0",
        options={"channels": 60, "blocks": [6] * 4, "heads": [6] * 4},
        tiny=_TINY,
    ),
    Entry(
        "swinir-l",
        SwinIR,
        summary="SwinIR with 240 channels and 9 groups closed by bottlenecks (real-world L)",
        source=_SOURCE,
        licence="Apache-2.0",
        options={"channels": 240, "blocks": [6] * 9, "heads": [8] * 9, "closing": "bottleneck"},
        tiny=_TINY,
    ),
]
