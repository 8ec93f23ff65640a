"""The transformer block: attention and a pointwise network, each normalised before and added to what it was given."""

from __future__ import annotations

from torch import Tensor, nn

from polyres.layers.drop_path import DropPath


class TransformerBlock(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``; (N, H, W, C) to the same shape.

    Args:
        channels: of the features.
        attention: a module of (N, H, W, C) to the same shape.
        mlp: likewise.
        drop_rate: stochastic depth of both branches.
    """

    def __init__(self, channels: int, attention: nn.Module, mlp: nn.Module, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention, self.mlp = attention, mlp
        self.drop = DropPath(drop_rate)

    def forward(self, features: Tensor) -> Tensor:
        """The block's output."""
        features = features + self.drop(self.attention(self.norm1(features)))
        mapped: Tensor = features + self.drop(self.mlp(self.norm2(features)))
        return mapped
