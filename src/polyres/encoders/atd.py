"""ATD: window attention beside attention to an adaptive token dictionary (Zhang et al. 2024, arXiv 2401.08209)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.encoders.grouped import GroupedEncoder, check_groups
from polyres.layers.attention import RelativeBias, window_attention
from polyres.layers.exporting import refuse_export
from polyres.layers.groups import Closing, closing_layers, to_first, to_last
from polyres.layers.mlp import ConvMlp
from polyres.layers.token_dictionary import CategoryAttention, DictionaryAttention, Refinement
from polyres.registry import Entry


class ATDBlock(nn.Module):
    """Attention to the window, to the dictionary and to the category, side by side; then a pointwise network.

    Args:
        channels: a multiple of ``heads``.
        heads: of the attention to windows and categories.
        window: side of the windows.
        shift: pixels by which they are moved.
        category_size: pixels that attend to each other as one category.
        tokens: entries of the dictionary.
        reduced_channels: of queries and keys between pixels and dictionary.
        mlp_ratio: width of the pointwise network as a multiple of ``channels``.
        mlp_kernel_size: side of its depthwise convolution.
        bias: whether queries, keys and values have a bias.
        refining: whether the block hands on a refined dictionary.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        shift: int,
        category_size: int,
        tokens: int,
        reduced_channels: int,
        mlp_ratio: float,
        mlp_kernel_size: int,
        bias: bool,
        refining: bool,
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(channels)
        self.mix = nn.Linear(channels, 3 * channels, bias=bias)
        self.position = RelativeBias(heads, window)
        self.project = nn.Linear(channels, channels)
        self.to_dictionary = DictionaryAttention(channels, tokens, reduced_channels, bias)
        self.to_category = CategoryAttention(channels, heads, category_size, bias)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = ConvMlp(channels, int(channels * mlp_ratio), mlp_kernel_size)
        self.refine = Refinement(tokens) if refining else None

    def forward(self, features: Tensor, dictionary: Tensor) -> tuple[Tensor, Tensor]:
        """The features (N, H, W, C) and the dictionary (N, tokens, C) for the next block, from the same."""
        if self.to_category.category_size > self.window**2:
            refuse_export(
                "a picture may have fewer pixels than a category, and is then one group of another size"
            )
        normed = self.norm1(features)
        mixed = self.mix(normed)
        of_tokens, similarity = self.to_dictionary(normed.flatten(1, 2), dictionary)
        of_category = self.to_category(mixed.flatten(1, 2), similarity)
        of_window = self.project(window_attention(mixed, self.position(), self.window, self.shift))
        features = features + of_window + (of_tokens + of_category).reshape(features.shape)
        features = features + self.mlp(self.norm2(features))
        if self.refine is not None:
            dictionary = self.refine(dictionary, similarity, features.flatten(1, 2))
        return features, dictionary


class ATDGroup(nn.Module):
    """Blocks that share one dictionary and refine it in turn, a closing convolution, and a skip.

    Args:
        blocks: the blocks; all but the last refine the dictionary.
        channels: of the features, (N, H, W, C) to the same shape.
        tokens: entries of the dictionary.
        closing: see :data:`polyres.layers.groups.Closing`.
    """

    def __init__(self, blocks: Sequence[ATDBlock], channels: int, tokens: int, closing: Closing) -> None:
        super().__init__()
        self.dictionary = nn.Parameter(torch.randn(tokens, channels))
        self.blocks = nn.ModuleList(blocks)
        self.closing = closing_layers(closing, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The group's output."""
        deep, dictionary = features, self.dictionary.repeat(len(features), 1, 1)
        for block in self.blocks:
            deep, dictionary = block(deep, dictionary)
        return features + to_last(self.closing(to_first(deep)))


class ATD(GroupedEncoder):
    """Residual groups of blocks that attend to their window, to a dictionary and to pixels of their category.

    Args:
        channels: width of the features.
        blocks: blocks in each group.
        heads: attention heads in each group; each divides ``channels``.
        window: side of the attention windows in pixels; every second block's are moved by half of it.
        category_size: pixels that attend to each other as one category.
        tokens: entries of each group's dictionary.
        reduced_channels: of queries and keys between pixels and dictionary.
        mlp_ratio: width of the pointwise networks as a multiple of ``channels``.
        mlp_kernel_size: side of their depthwise convolutions, odd.
        closing: the convolutions after each group and after all: one, or a bottleneck of three.
        bias: whether queries, keys and values have a bias.
        input_norm: whether pixels are normalised before the first group.
        positions: learned vectors, one for each pixel; only pictures of as many pixels are then taken. 0 for none.
        in_channels: channels of the picture.
    """

    padding: ClassVar[Literal["reflect", "symmetric"]] = "symmetric"

    def __init__(
        self,
        channels: int = 210,
        blocks: Sequence[int] = (6,) * 6,
        heads: Sequence[int] = (6,) * 6,
        window: int = 16,
        category_size: int = 256,
        tokens: int = 128,
        reduced_channels: int = 20,
        mlp_ratio: float = 2.0,
        mlp_kernel_size: int = 5,
        closing: Closing = "conv",
        bias: bool = True,
        input_norm: bool = True,
        positions: int = 0,
        in_channels: int = 3,
    ) -> None:
        check_groups(channels, blocks, heads)

        def block(index: int, depth: int, heads: int) -> ATDBlock:
            shift = window // 2 if index % 2 else 0
            attention = (category_size, tokens, reduced_channels)
            mlp = (mlp_ratio, mlp_kernel_size)
            return ATDBlock(
                channels, heads, window, shift, *attention, *mlp, bias, refining=index < depth - 1
            )

        groups = [
            ATDGroup([block(i, depth, count) for i in range(depth)], channels, tokens, closing)
            for depth, count in zip(blocks, heads, strict=True)
        ]
        super().__init__(groups, channels, in_channels, closing, input_norm, positions)
        self.multiple_of = window
        self.context = None  # categories gather pixels from the whole picture


_SOURCE = "Zhang et al. 2024, arXiv 2401.08209"
_TINY = {
    "channels": 8,
    "blocks": [2],
    "heads": [2],
    "window": 4,
    "category_size": 10,
    "tokens": 6,
    "reduced_channels": 4,
}

#: This family's rows in the table of encoders.
ENTRIES: list[Entry[Encoder]] = [
    Entry(
        "atd",
        ATD,
        summary="attention to windows, to a learned dictionary and to categories across the picture",
        source=_SOURCE,
        licence="Apache-2.0",
        tiny=_TINY,
    ),
    Entry(
        "atd-light",
        ATD,
        summary="ATD with 48 channels and 4 groups",
        source=_SOURCE,
        licence="Apache-2.0",
        options={
            "channels": 48,
            "blocks": [6] * 4,
            "heads": [4] * 4,
            "category_size": 128,
            "tokens": 64,
            "reduced_channels": 8,
            "mlp_ratio": 1.0,
            "mlp_kernel_size": 7,
        },
        tiny=_TINY,
    ),
]
