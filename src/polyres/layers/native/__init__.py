"""Kernels in C for blocks that torch computes far below the machine's speed; compiled at first use."""

from polyres.layers.native.binding import Attention, Kernels, kernels, why_none
from polyres.layers.native.packing import MOST_PAIRS, Branch, Chain, Dense, bias_of
from polyres.layers.native.winograd import (
    BLOCK,
    attend,
    convolve,
    count_fast,
    fast_convolutions,
    fast_weights,
    has_narrow_products,
    opposed_weights,
    residual,
)

__all__ = [
    "BLOCK",
    "MOST_PAIRS",
    "Attention",
    "Branch",
    "Chain",
    "Dense",
    "Kernels",
    "attend",
    "bias_of",
    "convolve",
    "count_fast",
    "fast_convolutions",
    "fast_weights",
    "has_narrow_products",
    "kernels",
    "opposed_weights",
    "residual",
    "why_none",
]
