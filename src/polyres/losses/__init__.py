"""Losses: small functions of (output, target), both (N, C, H, W) float32, to a scalar. One table of names."""

from __future__ import annotations

from polyres.losses import dual_stream, edges, perceptual, pixel, spectral, structure
from polyres.losses.base import BaseLoss, Loss
from polyres.losses.edges import edge, gradient
from polyres.losses.pixel import charbonnier
from polyres.losses.spectral import fft
from polyres.losses.structure import ms_ssim
from polyres.registry import Table

#: Every loss that a run file can name.
LOSSES: Table[Loss | BaseLoss] = Table(
    "loss",
    [
        *pixel.ENTRIES,
        *spectral.ENTRIES,
        *edges.ENTRIES,
        *structure.ENTRIES,
        *perceptual.ENTRIES,
        *dual_stream.ENTRIES,
    ],
)

__all__ = ["LOSSES", "BaseLoss", "Loss", "charbonnier", "edge", "fft", "gradient", "ms_ssim"]
