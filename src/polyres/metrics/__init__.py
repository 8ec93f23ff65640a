"""Numbers between two pictures, and the protocols without which such a number says nothing."""

from polyres.metrics.colour import quantise, to_full_range_y, to_y
from polyres.metrics.custom import protocol_from, read_protocol
from polyres.metrics.fidelity import psnr, ssim
from polyres.metrics.multiscale import ms_ssim
from polyres.metrics.protocol import PROTOCOLS, Protocol, Scores, find_protocol

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "Scores",
    "find_protocol",
    "ms_ssim",
    "protocol_from",
    "psnr",
    "quantise",
    "read_protocol",
    "ssim",
    "to_full_range_y",
    "to_y",
]
