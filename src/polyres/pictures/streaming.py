"""Files written row by row, for pictures that do not fit into memory: TIFF (BigTIFF from 4 GB) and PNG."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from polyres.errors import MissingExtraError, OutputError
from polyres.files import replacing
from polyres.pictures.formats import Format, format_of
from polyres.pictures.metadata import sized
from polyres.pictures.picture import Picture, Pixels, to_depth
from polyres.pictures.tifftags import add_tags

#: Bytes of pixels from which a TIFF is written as BigTIFF: offsets of 32 bits reach 4 GB, metadata included.
BIG = 2**32 - 2**25

_TILE = 256  # side of the tiles in a TIFF
_LEVEL = 4  # of the deflate compression in a PNG


def can_stream(target: Format | None) -> bool:
    """Whether files of this format can be written row by row here; TIFF needs the ``depth`` extra."""
    if target is None or target.name not in ("tiff", "png"):
        return False
    if target.name == "tiff":
        with suppress(ImportError):
            import imagecodecs  # noqa: F401
            import tifffile  # noqa: F401

            return True
        return False
    return True


def write_bands(path: Path, bands: Iterator[Pixels], height: int, width: int, like: Picture) -> None:
    """Write a picture that comes in bands, top to bottom; whole or not at all, as :func:`write_picture` does.

    Args:
        path: a TIFF or PNG by its suffix.
        bands: (rows, ``width``, C) each, ``height`` rows together, of the depth of ``like``; the last channel is
            opacity if ``like`` has any.
        height: rows.
        width: pixels a row.
        like: what the kind of pixels, the colour profile and other metadata are taken from.

    Raises:
        OutputError: another format, a file that cannot be written, or bands of other rows than ``height``.
        MissingExtraError: a TIFF without the ``depth`` extra.
    """
    target = format_of(path)
    if target is None or target.name not in ("tiff", "png"):
        raise OutputError(f"{path}: only TIFF and PNG are written row by row; choose one of them")
    # Nothing of the size of the result is made for its metadata: all of its pixels are one.
    depth = like.pixels.dtype
    if target.name == "png" and depth.kind == "f":
        depth = np.dtype(np.uint16)
        bands = (to_depth(band, depth) for band in bands)
    empty = np.broadcast_to(np.zeros((), depth), (height, width, like.pixels.shape[2]))
    alpha = None if like.alpha is None else empty[:, :, 0]
    described = sized(Picture(empty, alpha, like.icc_profile, like.exif, like.xmp, like.iptc))
    with replacing(path) as stream:
        (_write_png if target.name == "png" else _write_tiff)(
            stream, _counted(bands, height, path), described
        )


def _counted(bands: Iterator[Pixels], height: int, path: Path) -> Iterator[Pixels]:
    rows = 0
    for band in bands:
        rows += len(band)
        yield band
        del band  # or it would be held while the next is made
    if rows != height:
        raise OutputError(f"{path}: {rows} rows came instead of {height}")


def _write_tiff(stream: BinaryIO, bands: Iterator[Pixels], like: Picture) -> None:
    try:
        import tifffile
    except ImportError:
        raise MissingExtraError("TIFF written row by row", "depth") from None
    channels = _channels(like)
    shape = (like.height, like.width, channels) if channels > 1 else (like.height, like.width)
    size = like.height * like.width * channels * like.pixels.dtype.itemsize
    with tifffile.TiffWriter(stream, bigtiff=size > BIG) as writer:
        writer.write(
            _tiles(bands),
            shape=shape,
            dtype=like.pixels.dtype,
            tile=(_TILE, _TILE),
            photometric="minisblack" if like.is_grey else "rgb",
            planarconfig="contig" if channels > 1 else None,
            extrasamples=None if like.alpha is None else ["unassalpha"],
            compression="zlib",
            predictor=True,
            iccprofile=like.icc_profile,
            metadata=None,
            software=False,
            maxworkers=1,
            **_resolution(like.exif),
        )
    add_tags(stream, like.exif, like.xmp, like.iptc)


def _channels(like: Picture) -> int:
    """Of colours and opacity together."""
    return int(like.pixels.shape[2]) + (like.alpha is not None)


def _resolution(exif: bytes | None) -> dict[str, Any]:
    """The resolution that an EXIF block states, as tifffile is told it: it writes one in any case."""
    block = Image.Exif()
    block.load(exif or b"")
    across, down, unit = (block.get(tag, 1) for tag in (282, 283, 296))
    return {"resolution": (float(across), float(down)), "resolutionunit": int(unit)}


def _tiles(bands: Iterator[Pixels]) -> Iterator[Pixels]:
    """The tiles of a TIFF, row by row of tiles, filled up with zeros at the right and the bottom edge."""
    for rows in _regrouped(bands, _TILE):
        flat = rows[:, :, 0] if rows.shape[2] == 1 else rows
        for left in range(0, flat.shape[1], _TILE):
            part = flat[:, left : left + _TILE]
            missing = [(0, _TILE - part.shape[0]), (0, _TILE - part.shape[1])]
            yield np.pad(part, missing + [(0, 0)] * (part.ndim - 2))


def _regrouped(bands: Iterator[Pixels], count: int) -> Iterator[Pixels]:
    """The same rows, ``count`` at a time; no band is copied as a whole, and none is held while the next is made."""
    kept: Pixels | None = None
    for band in bands:
        start = 0
        if kept is not None:
            start = count - len(kept)
            kept = np.concatenate((kept, band[:start]))
            if len(kept) == count:
                yield kept
                kept = None
        while start + count <= len(band):
            yield band[start : start + count]
            start += count
        if start < len(band):
            kept = band[start:].copy()
        del band
    if kept is not None:
        yield kept


def _write_png(stream: BinaryIO, bands: Iterator[Pixels], like: Picture) -> None:
    from polyres.pictures.writing import png_chunks

    height, width, channels = like.height, like.width, _channels(like)
    depth, kind = 8 * like.pixels.dtype.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    stream.write(b"\x89PNG\r\n\x1a\n")
    _chunk(stream, b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    if like.icc_profile:
        _chunk(stream, b"iCCP", b"ICC Profile\0\0" + zlib.compress(like.icc_profile))
    if like.exif:
        _chunk(stream, b"eXIf", like.exif.removeprefix(b"Exif\0\0"))
    for name, content in png_chunks(like):
        _chunk(stream, name, content)
    packer = zlib.compressobj(_LEVEL)
    above = np.zeros(width * channels * depth // 8, np.uint8)
    for band in _regrouped(bands, _TILE):
        ordered = np.ascontiguousarray(band, band.dtype.newbyteorder(">"))
        rows = ordered.view(np.uint8).reshape(len(band), -1)
        filtered = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
        filtered[:, 0] = 2  # each byte less the one above it
        filtered[0, 1:] = rows[0] - above
        filtered[1:, 1:] = rows[1:] - rows[:-1]
        above = rows[-1].copy()
        _chunk(stream, b"IDAT", packer.compress(filtered.tobytes()))
    _chunk(stream, b"IDAT", packer.flush())
    _chunk(stream, b"IEND", b"")


def _chunk(stream: BinaryIO, kind: bytes, content: bytes) -> None:
    if content or kind != b"IDAT":
        stream.write(struct.pack(">I", len(content)) + kind + content)
        stream.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))
