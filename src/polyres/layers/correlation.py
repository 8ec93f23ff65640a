"""Correlation inside windows of any size: HiT-SR's substitute for attention, linear in the window's area.

Zhang, Zhang, Yu, "HiT-SR: Hierarchical Transformer for Efficient Image Super-Resolution", arXiv 2407.05878. There
is no softmax, and keys and values are one: the values of large windows are pooled into the cells of a small one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.layers.windows import Size, merge, partition


class DynamicBias(nn.Module):
    """A bias for each query pixel and each cell of a window, which a small network makes from their offset.

    The bias of a cell is the mean over its pixels (the network is CrossFormer's, arXiv 2108.00154).

    Args:
        heads: biases of each pair.
        width: channels of the network.
        window: height and width of the window in pixels.
        cells: cells in a column and in a row of the window, divisors of ``window``.
    """

    def __init__(self, heads: int, width: int, window: Size, cells: Size) -> None:
        super().__init__()
        self.window, self.cells = window, cells
        self.network = nn.Sequential(
            nn.Linear(2, width),
            *_normed_linear(width, width),
            *_normed_linear(width, width),
            *_normed_linear(width, heads),
        )

    def forward(self) -> Tensor:
        """(heads, h * w, cells): query pixels row by row, then cells row by row."""
        (h, w), (down, across) = self.window, self.cells
        like = next(self.network.parameters())
        y = torch.arange(1 - h, h, device=like.device, dtype=like.dtype)
        x = torch.arange(1 - w, w, device=like.device, dtype=like.dtype)
        table: Tensor = self.network(torch.cartesian_prod(y, x)).mT.reshape(-1, 2 * h - 1, 2 * w - 1)
        # One axis at a time: every entry becomes the mean over a cell that starts there.
        table = F.avg_pool2d(F.avg_pool2d(table, (h // down, 1), 1), (1, w // across), 1)
        rows, columns = _offsets(h, down, like.device), _offsets(w, across, like.device)
        index = rows[:, None, :, None] * table.shape[-1] + columns[None, :, None, :]
        return table.flatten(1).index_select(1, index.flatten()).reshape(-1, h * w, down * across)


class Correlation(nn.Module):
    """Pixels mixed with the pixels of their window and with each other's channels, (N, H, W, C) to the same shape.

    The first half of the channels are queries, the second half values.

    Args:
        channels: a multiple of ``2 * heads``.
        heads: groups of channels that are correlated in space on their own.
        window: height and width of the windows; H and W must be multiples of it.
        cells: largest number of cells in a column and in a row of a window.
    """

    def __init__(self, channels: int, heads: int, window: Size, cells: Size) -> None:
        super().__init__()
        self.cells = (min(window[0], cells[0]), min(window[1], cells[1]))
        if channels % (2 * heads) or window[0] % self.cells[0] or window[1] % self.cells[1]:
            raise ValueError(
                f"channels must be a multiple of 2 * heads and windows whole cells of {cells}; got {channels} "
                f"channels, {heads} heads and a window of {window}"
            )
        self.heads, self.window = heads, window
        self.pool = nn.Linear(window[0] * window[1] // (self.cells[0] * self.cells[1]), 1)
        self.position = DynamicBias(heads, channels // 16, window, self.cells)
        self.project = nn.Linear(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The mixed features."""
        query, value = partition(features, self.window).chunk(2, dim=-1)
        mixed = torch.cat((self._in_space(query, value), _across_channels(query, value)), dim=-1)
        height, width = features.shape[1:3]
        projected: Tensor = self.project(merge(mixed, self.window, height, width))
        return projected

    def _in_space(self, query: Tensor, value: Tensor) -> Tensor:
        """Every pixel times the correlations with all cells, summed over these, (windows, h * w, C / 2)."""
        pixels = torch.unflatten(query, -1, (self.heads, -1)).transpose(1, 2)
        cells = torch.unflatten(self._pooled(value), -1, (self.heads, -1)).transpose(1, 2)
        correlations = pixels @ (cells / pixels.shape[-1]).mT
        # In place: the map is the largest tensor here, and no gradient needs it as it was.
        correlations += self.position()
        return (correlations @ cells).transpose(1, 2).flatten(2)

    def _pooled(self, value: Tensor) -> Tensor:
        """A learned weighted mean of each cell's pixels, (windows, cells, C / 2)."""
        (h, w), (down, across) = self.window, self.cells
        cells = value.reshape(-1, down, h // down, across, w // across, value.shape[-1])
        pooled: Tensor = self.pool(cells.permute(0, 1, 3, 5, 2, 4).flatten(-2))
        return pooled.flatten(1, 2).squeeze(-1)


def _across_channels(query: Tensor, value: Tensor) -> Tensor:
    """The values' channels mixed by their mean product with the queries' channels, (windows, h * w, C / 2)."""
    correlations = query.mT @ value / query.shape[1]
    return value @ correlations.mT


def _normed_linear(width: int, out_features: int) -> tuple[nn.Module, ...]:
    return nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, out_features)


def _offsets(pixels: int, cells: int, device: torch.device) -> Tensor:
    """Table index of each (query pixel, cell) along an axis: query minus the cell's last pixel, from 0."""
    query = torch.arange(pixels, device=device)[:, None]
    last = torch.arange(1, cells + 1, device=device) * (pixels // cells) - 1
    return query - last + pixels - 1
