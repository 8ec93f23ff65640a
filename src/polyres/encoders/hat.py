"""HAT: windows, channel attention and overlapping windows (Chen et al., "Activating More Pixels", 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.encoders.grouped import GroupedEncoder, check_groups
from polyres.layers.attention import RelativeBias, WindowAttention, attend, restore
from polyres.layers.conv_attention import ConvAttention
from polyres.layers.drop_path import DropPath, rising_rates
from polyres.layers.groups import Closing, ResidualGroup, to_first, to_last
from polyres.layers.mlp import Mlp
from polyres.layers.transformer import TransformerBlock
from polyres.layers.windows import Size
from polyres.registry import Entry


class HybridBlock(nn.Module):
    """A transformer block with a convolutional branch beside the attention; (N, H, W, C) to the same shape.

    Args:
        attention: a module of (N, H, W, C) to the same shape.
        convolution: a module of (N, C, H, W) to the same shape.
        convolution_scale: weight of its output.
        mlp: a module of (N, H, W, C) to the same shape.
        channels: of the features.
        drop_rate: stochastic depth of attention and pointwise network.
    """

    def __init__(
        self,
        attention: nn.Module,
        convolution: nn.Module,
        convolution_scale: float,
        mlp: nn.Module,
        channels: int,
        drop_rate: float,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention, self.convolution, self.mlp = attention, convolution, mlp
        self.convolution_scale = convolution_scale
        self.drop = DropPath(drop_rate)

    def forward(self, features: Tensor) -> Tensor:
        """The block's output."""
        normal = self.norm1(features)
        local = to_last(self.convolution(to_first(normal))) * self.convolution_scale
        features = features + self.drop(self.attention(normal)) + local
        mapped: Tensor = features + self.drop(self.mlp(self.norm2(features)))
        return mapped


class OverlappingAttention(nn.Module):
    """Attention of each window to a larger one around it; (N, H, W, C) to the same shape.

    Outside the picture keys and values are zero, and take part.

    Args:
        channels: a multiple of ``heads``.
        heads: attention heads.
        window: side of the queries' windows; H and W must be multiples of it.
        margin: pixels by which the keys' windows are larger on each side.
        bias: whether queries, keys and values have a bias.
        scale: of the logits; ``(channels / heads) ** -0.5`` if None.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        margin: int,
        bias: bool = True,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.window, self.margin, self.heads, self.scale = window, margin, heads, scale
        self.mix = nn.Linear(channels, 3 * channels, bias=bias)
        self.position = RelativeBias(heads, window, window + 2 * margin)
        self.project = nn.Linear(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The attended features."""
        count, height, width, channels = features.shape
        grid: Size = (height // self.window, width // self.window)
        query, others = self.mix(features).split((channels, 2 * channels), dim=-1)
        tiles = query.reshape(count, grid[0], self.window, grid[1], self.window, self.heads, -1)
        query = tiles.permute(0, 1, 3, 5, 2, 4, 6).reshape(
            -1, self.heads, self.window**2, channels // self.heads
        )
        key, value = self._surroundings(others)
        attended = attend(query, key, value, self.position(), scale=self.scale)
        projected: Tensor = self.project(restore(attended, grid, self.window))
        return projected

    def _surroundings(self, others: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (N * windows, heads, (window + 2 * margin) ** 2, D) of (N, H, W, 2 * C)."""
        side = self.window + 2 * self.margin
        padded = F.pad(others, (0, 0, *(self.margin,) * 4))
        tiles = padded.unfold(1, side, self.window).unfold(2, side, self.window)
        rows, columns = tiles.shape[1:3]
        parts = tiles.reshape(others.shape[0], rows, columns, 2, self.heads, -1, side, side)
        key, value = parts.permute(3, 0, 1, 2, 4, 6, 7, 5).reshape(2, -1, self.heads, side**2, parts.shape[5])
        return key, value


class HAT(GroupedEncoder):
    """Residual groups of hybrid blocks, each closed by a block of overlapping attention.

    Args:
        channels: width of the features (180, small 144).
        blocks: hybrid blocks in each group.
        heads: attention heads in each group; each divides ``channels``.
        window: side of the attention windows in pixels.
        overlap: by how much the keys' windows are larger in the overlapping attention, as a part of ``window``.
        compression: factor by which the convolutional branch is narrower in the middle.
        reduction: factor by which its channel attention is narrower inside.
        convolution_scale: weight of the convolutional branch.
        mlp_ratio: width of the pointwise networks as a multiple of ``channels``.
        closing: the convolution after each group and after all, or none.
        drop_path: stochastic depth of the last hybrid block in training; rises linearly from 0 at the first.
        bias: whether queries, keys and values have a bias.
        attention_scale: factor on the attention's logits; the root of a head's channels divides them if None.
        shifted: whether every second block's windows are moved by half their size.
        input_norm: whether pixels are normalised before the first group.
        positions: learned vectors, one for each pixel; only pictures of as many pixels are then taken. 0 for none.
        in_channels: channels of the picture.
    """

    def __init__(
        self,
        channels: int = 180,
        blocks: Sequence[int] = (6,) * 6,
        heads: Sequence[int] = (6,) * 6,
        window: int = 16,
        overlap: float = 0.5,
        compression: int = 3,
        reduction: int = 30,
        convolution_scale: float = 0.01,
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
        margin = _margin(window, overlap)
        shifts = (0, window // 2 if shifted else 0)

        def mlp() -> Mlp:
            return Mlp(channels, int(channels * mlp_ratio))

        def block(index: int, heads: int, rate: float) -> nn.Module:
            attention = WindowAttention(channels, heads, window, shifts[index % 2], bias, attention_scale)
            branch = ConvAttention(channels, compression, reduction)
            return HybridBlock(attention, branch, convolution_scale, mlp(), channels, rate)

        def group(heads: int, rates: Sequence[float]) -> nn.Module:
            across = OverlappingAttention(channels, heads, window, margin, bias, attention_scale)
            hybrid = [block(i, heads, rate) for i, rate in enumerate(rates)]
            return ResidualGroup([*hybrid, TransformerBlock(channels, across, mlp())], channels, closing)

        groups = [group(h, rates) for h, rates in zip(heads, rising_rates(drop_path, blocks), strict=True)]
        super().__init__(groups, channels, in_channels, closing, input_norm, positions)
        self.multiple_of = window
        self.context = None  # channel attention looks at the whole picture


def _margin(window: int, overlap: float) -> int:
    """Pixels by which the keys' windows are larger on each side."""
    larger = int(window * overlap)
    if larger % 2:
        raise ValueError(f"overlap * window must be an even number of pixels; got {overlap} * {window}")
    return larger // 2


_SOURCE = "Chen et al. 2023, arXiv 2205.04437"
_TINY = {"channels": 8, "blocks": [2], "heads": [2], "window": 4, "compression": 2, "reduction": 4}

ENTRIES: list[Entry[Encoder]] = [
    Entry(
        "hat",
        HAT,
        summary="6 groups of 6 hybrid blocks, windows of 16 pixels, overlapping attention",
        source=_SOURCE,
        licence="Apache-2.0",
        tiny=_TINY,
    ),
    Entry(
        "hat-s",
        HAT,
        summary="HAT with 144 channels and narrow convolutional branches",
        source=_SOURCE,
        licence="Apache-2.0",
        options={"channels": 144, "compression": 24, "reduction": 24},
        tiny=_TINY,
    ),
    Entry(
        "hat-l",
        HAT,
        summary="HAT with 12 groups",
        source=_SOURCE,
        licence="Apache-2.0",
        options={"blocks": [6] * 12, "heads": [6] * 12},
        tiny=_TINY,
    ),
]
