"""Attention by way of a learned dictionary of tokens, which sorts the pixels of a whole picture into categories.

Zhang et al., "Transcending the Limit of Local Window: Advanced Super-Resolution Transformer with Adaptive Token
Dictionary", arXiv 2401.08209.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Largest factor on the logits of :class:`CategoryAttention`.
_MAX_LOGIT_SCALE = 100.0


class DictionaryAttention(nn.Module):
    """Attention of every pixel to the tokens of a dictionary, by the cosine of reduced queries and keys.

    Args:
        channels: of pixels and tokens.
        tokens: entries of the dictionary.
        reduced_channels: of queries and keys.
        bias: whether queries, keys and values have a bias.
    """

    def __init__(self, channels: int, tokens: int, reduced_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.query = nn.Linear(channels, reduced_channels, bias=bias)
        self.key = nn.Linear(channels, reduced_channels, bias=bias)
        self.value = nn.Linear(channels, channels, bias=bias)
        self.sharpness = nn.Parameter(torch.full((tokens,), 0.5))

    def forward(self, pixels: Tensor, dictionary: Tensor) -> tuple[Tensor, Tensor]:
        """What the pixels attend to, and how.

        Args:
            pixels: (N, L, C).
            dictionary: (N, tokens, C).

        Returns:
            (N, L, C), and the attention (N, L, tokens), which sums to 1 over the tokens.
        """
        factor = 1 + self.sharpness.clamp(0, 1) * math.log(len(self.sharpness))
        keys = F.normalize(self.key(dictionary), dim=-1) * factor[:, None]
        similarity = torch.softmax(F.normalize(self.query(pixels), dim=-1) @ keys.mT, dim=-1)
        return similarity @ self.value(dictionary), similarity


class CategoryAttention(nn.Module):
    """Self-attention among pixels that are nearest to the same token, wherever in the picture they are.

    Pixels are sorted by token and cut into groups of one size; the last group is filled up with the last pixels
    once more. Within a token the order is the picture's, so that results do not depend on the machine.

    Args:
        channels: a multiple of ``heads``.
        heads: attention heads.
        category_size: pixels of a group.
        bias: whether the closing linear map has a bias.
    """

    def __init__(self, channels: int, heads: int, category_size: int, bias: bool = True) -> None:
        super().__init__()
        self.heads, self.category_size = heads, category_size
        self.logit_scale = nn.Parameter(torch.full((1, 1), math.log(10)))
        self.project = nn.Linear(channels, channels, bias=bias)

    def forward(self, mixed: Tensor, similarity: Tensor) -> Tensor:
        """The attended pixels.

        Args:
            mixed: (N, L, 3 * C): query, key and value of each pixel.
            similarity: (N, L, tokens) to the tokens of a dictionary.

        Returns:
            (N, L, C).
        """
        size = min(similarity.shape[1], self.category_size)
        order = _by_category(similarity.argmax(dim=-1))
        filled = _filled(order, size)
        parts = _take(mixed, filled).reshape(-1, size, 3, self.heads, mixed.shape[-1] // 3 // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scale = self.logit_scale.clamp(max=math.log(_MAX_LOGIT_SCALE)).exp().to(query.dtype)
        attended = F.scaled_dot_product_attention(query * scale, key, value, scale=1.0)
        sorted_pixels = attended.transpose(1, 2).reshape(*filled.shape, -1)
        result: Tensor = self.project(_take(sorted_pixels, _inverse(order)))
        return result


class Refinement(nn.Module):
    """A dictionary's tokens moved towards the mean of the pixels that attend to them.

    Args:
        tokens: entries of the dictionary.
        eps: added to the variance of the attention, which is itself as small.
    """

    def __init__(self, tokens: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(tokens))
        # Without effect, because a softmax follows; the published networks have it.
        self.bias = nn.Parameter(torch.zeros(tokens))
        self.keep = nn.Parameter(torch.zeros(tokens, 1))

    def forward(self, dictionary: Tensor, similarity: Tensor, pixels: Tensor) -> Tensor:
        """The refined dictionary.

        Args:
            dictionary: (N, tokens, C).
            similarity: (N, L, tokens), the attention of the pixels.
            pixels: (N, L, C).

        Returns:
            (N, tokens, C).
        """
        # Variances around 1e-6 are lost in half precision.
        similarity = similarity.to(torch.promote_types(similarity.dtype, torch.float32))
        # Plain sums: PyTorch's var_mean along this axis is six times slower on a CPU.
        centred = similarity - similarity.mean(dim=1, keepdim=True)
        factor = self.weight * torch.rsqrt(centred.square().mean(dim=1, keepdim=True) + self.eps)
        weights = torch.softmax(torch.addcmul(self.bias, centred, factor), dim=1)
        kept = torch.sigmoid(self.keep)
        return kept * dictionary + (1 - kept) * (weights.to(pixels.dtype).mT @ pixels)


def _by_category(categories: Tensor) -> Tensor:
    """Places (N, L) of pixels by their category (N, L), in the picture's order within a category.

    No two of the numbers sorted are equal: a stable sort of the categories is the same, but no ONNX operator.
    """
    length = categories.shape[1]
    return (categories * length + torch.arange(length, device=categories.device)).argsort(dim=-1)


def _filled(order: Tensor, size: int) -> Tensor:
    """``order`` (N, L) and its last entries once more, so that groups of ``size`` come out even."""
    length = order.shape[1]
    total = (length + size - 1) // size * size
    places = torch.arange(total, device=order.device)
    return order.index_select(1, torch.where(places < length, places, places - (total - length)))


def _take(rows: Tensor, index: Tensor) -> Tensor:
    """Rows (N, K, C) of (N, L, C) at ``index`` (N, K), each picture's own; faster than ``gather``."""
    starts = torch.arange(len(rows), device=rows.device)[:, None] * rows.shape[1]
    return rows.flatten(0, 1).index_select(0, (index + starts).flatten()).reshape(*index.shape, -1)


def _inverse(order: Tensor) -> Tensor:
    """The permutations that undo those of ``order`` (N, L)."""
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)
