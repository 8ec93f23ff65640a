"""SRFormer: permuted self-attention in large windows (Zhou et al., "SRFormer", 2023)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.encoders.grouped import GroupedEncoder, check_groups, context_of
from polyres.layers.attention import RelativeBias, attend, restore
from polyres.layers.drop_path import rising_rates
from polyres.layers.groups import Closing, ResidualGroup
from polyres.layers.mlp import ConvMlp
from polyres.layers.transformer import TransformerBlock
from polyres.layers.windows import Size, shift_mask
from polyres.registry import Entry


class PermutedAttention(nn.Module):
    """Attention to a quarter as many keys: those of 2x2 pixels, narrow, are put side by side as one of full width.

    (N, H, W, C) to the same shape.

    Args:
        channels: a multiple of 4 and of ``heads``.
        heads: attention heads.
        window: side of the windows, even; H and W must be multiples of it.
        shift: pixels by which the windows are moved.
        bias: whether queries, keys and values have a bias.
        scale: of the logits; ``(channels / heads) ** -0.5`` if None.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        shift: int = 0,
        bias: bool = True,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.window, self.shift, self.heads, self.scale = window, shift, heads, scale
        self.query = nn.Linear(channels, channels, bias=bias)
        self.keys = nn.Linear(channels, channels // 2, bias=bias)
        self.position = RelativeBias(heads, window // 2)
        self.project = nn.Linear(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The attended features."""
        count, height, width, channels = features.shape
        grid: Size = (height // self.window, width // self.window)
        if self.shift:
            features = features.roll((-self.shift, -self.shift), (1, 2))
        tiles = self.query(features).reshape(
            count, grid[0], self.window, grid[1], self.window, self.heads, -1
        )
        query = tiles.permute(0, 1, 3, 5, 2, 4, 6).reshape(
            -1, self.heads, self.window**2, channels // self.heads
        )
        key, value = self._permuted(self.keys(features), grid)
        attended = attend(query, key, value, self._bias(), self._mask(grid, features), self.scale)
        projected: Tensor = self.project(restore(attended, grid, self.window, self.shift))
        return projected

    def _permuted(self, mixed: Tensor, grid: Size) -> tuple[Tensor, Tensor]:
        """Keys and values (N * windows, heads, window ** 2 / 4, D) of ``mixed`` (N, H, W, C / 2)."""
        half, quarter = self.window // 2, mixed.shape[-1] // 2
        tiles = mixed.reshape(mixed.shape[0], grid[0], half, 2, grid[1], half, 2, 2, quarter)
        # (key or value, N, rows, columns, y, x, y in 2x2, x in 2x2, channel)
        wide = tiles.permute(7, 0, 1, 4, 2, 5, 3, 6, 8).reshape(
            2, -1, half**2, self.heads, 4 * quarter // self.heads
        )
        key, value = wide.transpose(2, 3).unbind()
        return key, value

    def _bias(self) -> Tensor:
        """(heads, window ** 2, window ** 2 / 4): the four queries of 2x2 pixels share their key's offset."""
        half = self.window // 2
        coarse: Tensor = self.position().reshape(self.heads, half, 1, half, 1, half**2)
        return coarse.expand(-1, -1, 2, -1, 2, -1).reshape(self.heads, self.window**2, half**2)

    def _mask(self, grid: Size, like: Tensor) -> Tensor | None:
        if not self.shift:
            return None
        # With an odd shift the 2x2 pixels from both sides of the border count as come round, as published.
        return shift_mask(grid, (self.window, self.shift), (self.window // 2, (self.shift + 1) // 2), like)


class SRFormer(GroupedEncoder):
    """Residual groups of permuted self-attention and pointwise networks with a depthwise 5x5 convolution.

    Args:
        channels: width of the features, a multiple of 4 (180, light 60).
        blocks: transformer blocks in each group.
        heads: attention heads in each group; each divides ``channels``.
        window: side of the attention windows in pixels, even (22, light 16, real-world 24).
        mlp_ratio: width of the pointwise networks as a multiple of ``channels``.
        closing: the convolutions after each group and after all: one, or a bottleneck of three.
        drop_path: stochastic depth of the last block in training; rises linearly from 0 at the first.
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
        window: int = 22,
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
        if window % 2 or channels % 4:
            raise ValueError(f"window must be even and channels a multiple of 4; got {window} and {channels}")
        shifts = (0, window // 2 if shifted else 0)

        def block(index: int, heads: int, rate: float) -> nn.Module:
            attention = PermutedAttention(channels, heads, window, shifts[index % 2], bias, attention_scale)
            return TransformerBlock(channels, attention, ConvMlp(channels, int(channels * mlp_ratio)), rate)

        groups = [
            ResidualGroup([block(i, count, rate) for i, rate in enumerate(rates)], channels, closing)
            for count, rates in zip(heads, rising_rates(drop_path, blocks), strict=True)
        ]
        super().__init__(groups, channels, in_channels, closing, input_norm, positions)
        self.multiple_of = window
        # An odd shift puts pixels from opposite borders of the picture into one key.
        wraps = shifts[1] % 2 == 1 and any(count > 1 for count in blocks)
        # And a tile would be given the positions of another place.
        unbounded = wraps or positions > 0
        self.context = None if unbounded else context_of(blocks, window, shifts, closing, mlp_radius=2)


_SOURCE = "Zhou et al. 2023, arXiv 2303.09735"
_TINY = {"channels": 8, "blocks": [2], "heads": [2]}

ENTRIES: list[Entry[Encoder]] = [
    Entry(
        "srformer",
        SRFormer,
        summary="6 groups of 6 blocks of permuted self-attention, windows of 22 pixels",
        source=_SOURCE,
        licence="CC-BY-NC-4.0",
        tiny={**_TINY, "window": 6},
    ),
    Entry(
        "srformer-light",
        SRFormer,
        summary="SRFormer with 60 channels, 4 groups and windows of 16 pixels",
        source=_SOURCE,
        licence="CC-BY-NC-4.0",
        options={"channels": 60, "blocks": [6] * 4, "heads": [6] * 4, "window": 16},
        tiny={**_TINY, "window": 4},
    ),
]
