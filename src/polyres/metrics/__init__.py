"""Numbers between two pictures, and the protocols without which such a number says nothing."""

from polyres.metrics.colour import quantise, to_full_range_y, to_y
from polyres.metrics.fidelity import psnr, ssim
from polyres.metrics.protocol import PROTOCOLS, Protocol, Scores, find_protocol

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "Scores",
    "find_protocol",
    "psnr",
    "quantise",
    "ssim",
    "to_full_range_y",
    "to_y",
]
