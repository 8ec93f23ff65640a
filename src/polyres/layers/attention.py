"""Attention inside windows, with a learned bias for each relative position (Liu et al. 2021, arXiv 2103.14030)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.layers.windows import Size, shift_mask


class RelativeBias(nn.Module):
    """A learned number for each head and each offset between a query and a key of square windows.

    Row ``(query y - key y + key_size - 1) * (query_size + key_size - 1) + (query x - key x + key_size - 1)`` of
    ``table`` holds one offset.

    Args:
        heads: attention heads.
        query_size: tokens along a side of the queries' window.
        key_size: tokens along a side of the keys' window, if another.
    """

    def __init__(self, heads: int, query_size: int, key_size: int | None = None) -> None:
        super().__init__()
        self.query_size, self.key_size = query_size, key_size or query_size
        self.offsets = self.query_size + self.key_size - 1
        self.table = nn.Parameter(torch.empty(self.offsets**2, heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self) -> Tensor:
        """The bias (heads, query_size ** 2, key_size ** 2)."""
        grid = self.table.mT.reshape(-1, self.offsets, self.offsets)
        # A window of key_size offsets slides over each axis as the query moves; within it the key moves backwards.
        slid = grid.unfold(1, self.key_size, 1).unfold(2, self.key_size, 1).flip(-2, -1)
        return slid.reshape(-1, self.query_size**2, self.key_size**2)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """``softmax(scale * query key^T + bias + mask) value`` in each window.

    Args:
        query: (N * windows, heads, Q, D).
        key: (N * windows, heads, K, D).
        value: (N * windows, heads, K, D).
        bias: (heads, Q, K).
        mask: (windows, Q, K) or None.
        scale: of the logits; ``D ** -0.5`` if None.

    Returns:
        (N * windows, heads, Q, D).
    """
    total = bias.to(query.dtype).unsqueeze(0)
    if mask is not None:
        masked = total + mask.to(query.dtype).unsqueeze(1)
        total = masked.expand(query.shape[0] // mask.shape[0], -1, -1, -1, -1).flatten(0, 1)
    # Expanded, because PyTorch's fused kernels want one mask for each window.
    return F.scaled_dot_product_attention(
        query, key, value, total.expand(query.shape[0], -1, -1, -1), scale=scale
    )


def window_attention(
    mixed: Tensor, bias: Tensor, window: int, shift: int = 0, scale: float | None = None
) -> Tensor:
    """Attention of every pixel to its window, all windows moved down and right by ``shift`` pixels.

    Args:
        mixed: (N, H, W, 3 * C): query, key and value of each pixel, heads side by side in each.
        bias: (heads, window ** 2, window ** 2).
        window: side of the windows; H and W are multiples of it.
        shift: below ``window``.
        scale: of the logits, see :func:`attend`.

    Returns:
        (N, H, W, C).
    """
    count, height, width, channels = mixed.shape
    grid: Size = (height // window, width // window)
    if shift:
        mixed = mixed.roll((-shift, -shift), (1, 2))
    tiles = mixed.reshape(count, grid[0], window, grid[1], window, 3, len(bias), -1)
    # (3, N, rows, columns, heads, y, x, D)
    parts = tiles.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(
        3, -1, len(bias), window**2, channels // 3 // len(bias)
    )
    mask = shift_mask(grid, (window, shift), (window, shift), mixed) if shift else None
    return restore(attend(parts[0], parts[1], parts[2], bias, mask, scale), grid, window, shift)


def restore(attended: Tensor, grid: Size, window: int, shift: int = 0) -> Tensor:
    """Features (N, H, W, heads * D) from windows of tokens (N * windows, heads, window ** 2, D), rolled back."""
    tiles = attended.reshape(-1, *grid, attended.shape[1], window, window, attended.shape[-1])
    features = tiles.permute(0, 1, 4, 2, 5, 3, 6).reshape(
        tiles.shape[0], grid[0] * window, grid[1] * window, -1
    )
    return features.roll((shift, shift), (1, 2)) if shift else features


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows, (N, H, W, C) to the same shape.

    Args:
        channels: a multiple of ``heads``.
        heads: attention heads.
        window: side of the windows; H and W must be multiples of it.
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
        self.window, self.shift, self.scale = window, shift, scale
        self.mix = nn.Linear(channels, 3 * channels, bias=bias)
        self.position = RelativeBias(heads, window)
        self.project = nn.Linear(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The attended features."""
        mixed: Tensor = self.mix(features)
        attended = window_attention(mixed, self.position(), self.window, self.shift, self.scale)
        projected: Tensor = self.project(attended)
        return projected
