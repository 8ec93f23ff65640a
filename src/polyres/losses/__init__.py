"""Losses: small functions of (output, target), both (N, C, H, W) float32, to a scalar. One table of names."""

from __future__ import annotations

from polyres.losses import edges, perceptual, pixel, spectral, structure
from polyres.losses.base import Loss
from polyres.losses.edges import edge, gradient
from polyres.losses.pixel import charbonnier
from polyres.losses.spectral import fft
from polyres.losses.structure import ms_ssim
from polyres.registry import Table

#: Every loss that a run file can name.
LOSSES: Table[Loss] = Table(
    "loss",
    [*pixel.ENTRIES, *spectral.ENTRIES, *edges.ENTRIES, *structure.ENTRIES, *perceptual.ENTRIES],
)

__all__ = ["LOSSES", "Loss", "charbonnier", "edge", "fft", "gradient", "ms_ssim"]
