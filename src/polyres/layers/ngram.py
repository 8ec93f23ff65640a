"""N-gram context: what a window's neighbours hold, added to all its pixels (Choi et al. 2023, arXiv 2211.11436)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyres.layers.attention import WindowAttention
from polyres.layers.blocks import conv1x1
from polyres.layers.groups import to_first, to_last
from polyres.layers.padding import extend
from polyres.layers.windows import Size


class NeighbourContext(nn.Module):
    """Features plus a vector for each window, made from the window and its neighbours; (N, H, W, C) to the same.

    Each window is summed up by C / 2 numbers. These attend to each other in every square of 2x2 windows, once
    with the window at its top left and once at its bottom right; the grid of windows is mirrored at its borders.

    Args:
        channels: a multiple of ``2 * heads``.
        heads: attention heads.
        window: height and width of the windows; H and W must be multiples of it, twice it at least.
    """

    def __init__(self, channels: int, heads: int, window: Size) -> None:
        super().__init__()
        self.window = window
        self.summary = nn.Conv2d(2, 1, window, stride=window)
        self.attention = WindowAttention(channels // 2, heads, window=2)
        self.merge = conv1x1(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The features with their context."""
        grid = self._summaries(features)
        after = extend(extend(grid, 1, grid.shape[1] + 1), 2, grid.shape[2] + 1)
        flipped = grid.flip(1, 2)
        before = extend(extend(flipped, 1, grid.shape[1] + 1), 2, grid.shape[2] + 1).flip(1, 2)
        both = torch.cat((self._attended(after), self._attended(before)), dim=-1)
        context = to_last(self.merge(to_first(both)))
        h, w = self.window
        tiles = torch.unflatten(torch.unflatten(features, 2, (-1, w)), 1, (-1, h))
        return (tiles + context[:, :, None, :, None]).reshape(features.shape)

    def _summaries(self, features: Tensor) -> Tensor:
        """(N, H, W, C) to (N, H / h, W / w, C / 2): one filter for all pairs of neighbouring channels."""
        count, height, width, channels = features.shape
        pairs = to_first(features).reshape(count * channels // 2, 2, height, width)
        summaries: Tensor = self.summary(pairs)
        return to_last(torch.unflatten(summaries.squeeze(1), 0, (count, -1)))

    def _attended(self, grid: Tensor) -> Tensor:
        """(N, R + 1, S + 1, C / 2) to the mean over each 2x2 square of attended summaries, (N, R, S, C / 2)."""
        squares = grid.unfold(1, 2, 1).unfold(2, 2, 1).movedim(3, -1)
        attended: Tensor = self.attention(squares.flatten(0, 2))
        return attended.mean(dim=(1, 2)).reshape(squares.shape[:3] + squares.shape[-1:])
