"""Discriminators: a picture in, how real each of its places looks out. One table of names."""

from __future__ import annotations

from polyres.discriminators.base import Discriminator
from polyres.discriminators.unet import UNet
from polyres.registry import Entry, Table

#: Every discriminator that a run file can name.
DISCRIMINATORS: Table[Discriminator] = Table(
    "discriminator",
    [
        Entry(
            "unet",
            UNet,
            summary="a U-Net with spectral normalisation that judges every pixel",
            source="Wang et al. 2021, arXiv 2107.10833; Schönfeld, Schiele, Khoreva 2020, arXiv 2002.12655",
            licence="BSD-3-Clause",
            tiny={"channels": 4},
        ),
    ],
)

__all__ = ["DISCRIMINATORS", "Discriminator"]
