"""Encoders: a picture in, features of the same size out. One file a family, one table of names."""

from __future__ import annotations

from polyres.encoders import atd, hat, hit, krgn, mambair, plksr, rcan, rdn, safmn, smfanet, srformer, swinir
from polyres.encoders.base import Encoder
from polyres.encoders.edsr import EDSR
from polyres.registry import Entry, Table

_EDSR = "Lim et al. 2017, arXiv 1707.02921"

#: Every encoder that can be named in a configuration.
ENCODERS: Table[Encoder] = Table(
    "encoder",
    [
        Entry(
            "edsr",
            EDSR,
            summary="residual blocks of dense 3x3 convolutions",
            source=_EDSR,
            licence="MIT",
            options={"channels": 256, "blocks": 32, "residual_scale": 0.1},
            tiny={"channels": 8, "blocks": 1},
        ),
        Entry(
            "edsr-baseline",
            EDSR,
            summary="EDSR with 64 channels and 16 blocks",
            source=_EDSR,
            licence="MIT",
            options={"channels": 64, "blocks": 16},
            tiny={"channels": 8, "blocks": 1},
        ),
        *rcan.ENTRIES,
        *rdn.ENTRIES,
        *smfanet.ENTRIES,
        *safmn.ENTRIES,
        *plksr.ENTRIES,
        *swinir.ENTRIES,
        *hit.ENTRIES,
        *srformer.ENTRIES,
        *hat.ENTRIES,
        *atd.ENTRIES,
        *mambair.ENTRIES,
        *krgn.ENTRIES,
    ],
)

__all__ = ["ENCODERS", "Encoder"]
