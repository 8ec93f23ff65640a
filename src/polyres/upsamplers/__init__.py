"""Upsamplers: features and a picture in, a picture of any scale out. One table of names."""

from __future__ import annotations

from polyres.registry import Entry, Table
from polyres.upsamplers.base import FixedUpsampler, Upsampler
from polyres.upsamplers.dysample import DySample
from polyres.upsamplers.igconv import IGConv
from polyres.upsamplers.nearest import NearestConv
from polyres.upsamplers.subpixel import SPConv, SPConvPlus

_IGCONV = "Lee, Yun, Ro 2024, arXiv 2408.09674"

#: Every upsampler that can be named in a configuration. Each takes ``in_channels`` first, from the encoder.
UPSAMPLERS: Table[Upsampler] = Table(
    "upsampler",
    [
        Entry(
            "spconv",
            SPConv,
            summary="one sub-pixel convolution for each scale",
            source="Shi et al. 2016, arXiv 1609.05158",
            licence="MIT",
        ),
        Entry(
            "spconv+",
            SPConvPlus,
            summary="sub-pixel convolutions that keep the width, then one to the picture, for each scale",
            source="Lim et al. 2017, arXiv 1707.02921",
            licence="MIT",
            tiny={"channels": 8},
        ),
        Entry(
            "nearest+conv",
            NearestConv,
            summary="nearest-neighbour stages with convolutions between, for each scale; no checkerboard",
            source="Wang et al. 2018, arXiv 1809.00219",
            licence="Apache-2.0",
            tiny={"channels": 8},
        ),
        Entry(
            "dysample",
            DySample,
            summary="features sampled at learned positions, then a convolution, for each scale",
            source="Liu et al. 2023, arXiv 2308.15085",
            licence="MIT",
            tiny={"groups": 2},
        ),
        Entry(
            "igconv",
            IGConv,
            summary="a hypernetwork that writes the sub-pixel convolution of any scale",
            source=_IGCONV,
            licence="MIT",
            tiny={"width": 16, "hidden_layers": 1},
        ),
        Entry(
            "igconv+",
            IGConv,
            summary="igconv with symmetric kernels and the picture sampled at learned positions",
            source=_IGCONV,
            licence="MIT",
            options={"geometric": True, "base": "sample"},
            tiny={"width": 16, "hidden_layers": 1, "sample_width": 8, "sample_layers": 1},
        ),
    ],
)

__all__ = ["UPSAMPLERS", "FixedUpsampler", "Upsampler"]
