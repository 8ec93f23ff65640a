"""Bands: the channels of a picture each by itself, for what is neither grey nor RGB, such as satellites' pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from polyres.errors import PictureError
from polyres.pictures import deep
from polyres.pictures.metadata import own_metadata
from polyres.pictures.picture import Picture, Pixels
from polyres.pictures.reading import Limits, decode_stream
from polyres.pictures.tifftags import add_tags

#: The least and greatest value of each band, and the kind of its numbers.
Ranges = tuple[tuple[float, float, str], ...]

_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_bands(stream: BinaryIO, limits: Limits) -> tuple[tuple[Picture, ...], Ranges | None]:
    """Each channel in ``stream`` as a grey picture, opacity among them.

    Bytes and 16-bit numbers are taken as they are. Other numbers of a TIFF, signed or real, are brought to 0 to 1
    band by band; what they were comes second.
    """
    head = stream.read(4)
    stream.seek(0)
    if head not in _TIFF_HEADS:
        return split(decode_stream(stream, limits)), None
    values, profile = deep.decode_raw(stream, limits.check)
    own = own_metadata(stream, "TIFF")
    whole = Picture(
        np.zeros((1, 1, 1), np.uint8), None, profile, None, own.get("xmp"), own.get("iptc"), "tiff"
    )
    planes = [np.ascontiguousarray(values[:, :, index, None]) for index in range(values.shape[2])]
    if values.dtype in (np.uint8, np.uint16):
        return tuple(replace(whole, pixels=plane) for plane in planes), None
    ranges = tuple(_range(plane) for plane in planes)
    pictures = (
        replace(whole, pixels=_to_unit(plane, low, high))
        for plane, (low, high, _) in zip(planes, ranges, strict=True)
    )
    return tuple(pictures), ranges


def _range(plane: Pixels) -> tuple[float, float, str]:
    low, high = float(plane.min()), float(plane.max())
    if not np.isfinite([low, high]).all():
        raise PictureError("a band of it holds numbers that are not finite; fill them before enlarging")
    return low, high, plane.dtype.str


def _to_unit(plane: Pixels, low: float, high: float) -> Pixels:
    width = high - low or 1.0
    return ((plane.astype(np.float64) - low) / width).astype(np.float32)


def _from_unit(values: Pixels, low: float, high: float, kind: str) -> Pixels:
    dtype = np.dtype(kind)
    restored = values.astype(np.float64) * (high - low or 1.0) + low
    return (restored if dtype.kind == "f" else np.rint(restored)).astype(dtype)


def split(picture: Picture) -> tuple[Picture, ...]:
    """The channels of ``picture``, each as a grey picture, opacity last."""
    planes = [picture.pixels[:, :, index, None].copy() for index in range(picture.pixels.shape[2])]
    if picture.alpha is not None:
        planes.append(picture.alpha[:, :, None])
    return tuple(replace(picture, pixels=plane, alpha=None) for plane in planes)


def merged(bands: Sequence[Picture]) -> Picture:
    """What :func:`split` did, undone: 1 to 4 bands as grey or RGB, with opacity if there are 2 or 4."""
    count = len(bands) - (len(bands) % 2 == 0)
    pixels = np.concatenate([band.pixels for band in bands[:count]], 2)
    alpha = bands[-1].pixels[:, :, 0] if len(bands) % 2 == 0 else None
    return replace(bands[0], pixels=pixels, alpha=alpha)


def write_bands(stream: BinaryIO, bands: Sequence[Picture], ranges: Ranges | None) -> None:
    """Write bands of one size into a TIFF; those with ``ranges`` become the numbers that they were."""
    planes = [band.pixels[:, :, 0] for band in bands]
    if ranges is not None:
        planes = [_from_unit(plane, *each) for plane, each in zip(planes, ranges, strict=True)]
    first = bands[0]
    deep.encode_raw(stream, np.stack(planes, 2), first.icc_profile)
    add_tags(stream, first.exif, first.xmp, first.iptc)
