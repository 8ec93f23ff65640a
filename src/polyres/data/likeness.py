"""Perceptual hashes: 63 bits that stay nearly the same when a picture is resized, recompressed or mirrored.

The signs of the lowest 8 x 8 cosine coefficients of a 32 x 32 grey version against their median, without the mean.
Crops of a picture are other pictures to it.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels: TypeAlias = npt.NDArray[np.uint8]
Float: TypeAlias = npt.NDArray[np.float64]
Hashes: TypeAlias = npt.NDArray[np.uint64]

_SIDE, _KEPT = 32, 8
#: Pictures whose 32 x 32 version varies less than this many levels have no features to compare.
_FLAT = 2.0


def perceptual_hash(picture: Pixels) -> int | None:
    """The hash of ``picture`` (H, W, 3), or None where it is too flat to have one."""
    small = _small(picture)
    return None if small.std() < _FLAT else _bits(small)


def turned_hashes(picture: Pixels) -> list[int]:
    """The hashes of the eight flips and quarter turns of ``picture``; none if it is too flat."""
    small = _small(picture)
    if small.std() < _FLAT:
        return []
    turns = [np.rot90(each, k) for each in (small, small[::-1]) for k in range(4)]
    return [_bits(each) for each in turns]


def distances(hashes: Hashes, other: int) -> npt.NDArray[np.int64]:
    """In how many bits each of ``hashes`` differs from ``other``."""
    differing = (hashes ^ np.uint64(other))[:, None].view(np.uint8)
    bits = np.unpackbits(differing, axis=1)
    return np.asarray(bits.sum(axis=1, dtype=np.int64))


def _small(picture: Pixels) -> Float:
    grey = Image.fromarray(picture).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(grey, dtype=np.float64)


def _bits(small: Float) -> int:
    place = np.arange(_SIDE) + 0.5
    cosines = np.cos(math.pi / _SIDE * np.arange(_KEPT)[:, None] * place)
    coefficients = (cosines @ small @ cosines.T).ravel()[1:]
    return sum(1 << i for i, high in enumerate(coefficients > np.median(coefficients)) if high)
