"""Windows: cutting features (N, H, W, C) into tiles of tokens, and which tokens may see each other after a shift."""

from __future__ import annotations

import torch
from torch import Tensor

#: Height and width of a window in pixels.
Size = tuple[int, int]

#: Added to the attention logits of tokens that must not see each other (the published value; finite, so that
#: half precision has no infinities to subtract).
BLOCKED = -100.0


def partition(features: Tensor, size: Size) -> Tensor:
    """Windows (N * windows, h * w, C) of ``features`` (N, H, W, C), row by row; H and W are multiples of ``size``."""
    count, height, width, channels = features.shape
    h, w = size
    tiles = features.reshape(count, height // h, h, width // w, w, channels)
    return tiles.transpose(2, 3).reshape(-1, h * w, channels)


def merge(windows: Tensor, size: Size, height: int, width: int) -> Tensor:
    """Features (N, ``height``, ``width``, C): what :func:`partition` cut."""
    h, w = size
    tiles = windows.reshape(-1, height // h, width // w, h, w, windows.shape[-1])
    return tiles.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


def shift_mask(grid: Size, queries: Size, keys: Size, like: Tensor) -> Tensor:
    """What to add to attention logits in features that were rolled up and left by ``shift`` pixels.

    After the roll the last row of windows holds the picture's bottom and its top, the last column its right and
    its left; those parts must not see each other.

    Args:
        grid: windows in a column and in a row.
        queries: tokens along a side of a window, and how many of them at the end came round by the roll.
        keys: the same for the keys, where these are other tokens than the queries.
        like: a tensor whose dtype and device the result takes.

    Returns:
        (windows, queries, keys): 0, or :data:`BLOCKED`.
    """
    apart = _came_round(queries, like)[:, None] != _came_round(keys, like)  # (q, k) along one axis
    last_row, last_column = (_last(count, like) for count in grid)
    # (row, column, query y, query x, key y, key x)
    by_row = last_row[:, None, None, None, None, None] & apart[:, None, :, None]
    by_column = last_column[:, None, None, None, None] & apart[None, :, None, :]
    blocked = (by_row | by_column).to(like.dtype) * BLOCKED
    return blocked.reshape(grid[0] * grid[1], queries[0] ** 2, keys[0] ** 2)


def _came_round(tokens: Size, like: Tensor) -> Tensor:
    size, rolled = tokens
    return torch.arange(size, device=like.device) >= size - rolled


def _last(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, device=like.device) == count - 1


class Reach:
    """How far a chain of convolutions and windowed layers looks, followed from its output back to its input.

    Windows lie at fixed places, so the distance depends on a pixel's place in its window; :attr:`radius` is the
    largest.

    Args:
        window: side of the windows.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self._spans = [(pixel, pixel) for pixel in range(window)]

    def convolution(self, radius: int) -> None:
        """Go back through a convolution that looks ``radius`` pixels to each side."""
        self._spans = [(first - radius, last + radius) for first, last in self._spans]

    def windows(self, shift: int, margin: int = 0) -> None:
        """Go back through attention in windows moved by ``shift``, whose keys lie up to ``margin`` pixels outside."""
        self._spans = [
            (self._start(first, shift) - margin, self._start(last, shift) + self.window - 1 + margin)
            for first, last in self._spans
        ]

    @property
    def radius(self) -> int:
        """Pixels beyond which nothing in the input changes the output."""
        return max(max(pixel - first, last - pixel) for pixel, (first, last) in enumerate(self._spans))

    def _start(self, pixel: int, shift: int) -> int:
        """The first pixel of the window that ``pixel`` lies in."""
        return (pixel - shift) // self.window * self.window + shift
