"""Metadata of TIFF files: XMP and IPTC taken out, and with EXIF put into files that are already written.

They are put into a new directory at the end of the file.

The writers of pixels (libtiff through Pillow, tifffile) each refuse some of it: the first cannot compress a file
with an EXIF block, the second knows no directories within directories.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from polyres.pictures.packets import iptc_of_photoshop

_XMP, _IPTC, _PHOTOSHOP = 700, 33723, 34377
_BYTE, _LONG, _UNDEFINED = 1, 4, 7
#: Bytes of a value by the number of its type.
_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_MOST_ENTRIES, _MOST_BYTES = 4096, 64 << 20  # no honest file has more
_INNER = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)


#: TIFF tags from 254 to 347 that say something about the picture; the others say how its pixels are stored.
_DESCRIPTIVE = frozenset({269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316})

#: Tags that EXIF blocks are not carried over with: storage, orientation (274), and what has a place of its own (XMP,
#: IPTC, Photoshop, ICC).
DROPPED = (frozenset({*range(254, 348), *range(512, 533)}) - _DESCRIPTIVE) | {
    700,
    33723,
    34377,
    34675,
    37724,
}


@dataclass(frozen=True)
class _Layout:
    """How numbers lie in a file: the order of their bytes, and their sizes, which BigTIFF doubles."""

    order: Literal["little", "big"]
    is_big: bool

    @classmethod
    def of(cls, head: bytes) -> _Layout:
        """The layout that the first bytes of a file tell."""
        order: Literal["little", "big"] = "big" if head.startswith(b"MM") else "little"
        return cls(order, 43 in head[2:4])

    @property
    def pointer(self) -> int:
        """Bytes of a place in the file."""
        return 8 if self.is_big else 4

    @property
    def count(self) -> int:
        """Bytes of the number of entries."""
        return 8 if self.is_big else 2

    def packed(self, value: int, size: int) -> bytes:
        """``value`` in ``size`` bytes."""
        return value.to_bytes(size, self.order)

    def number(self, data: bytes) -> int:
        """The number in ``data``."""
        return int.from_bytes(data, self.order)

    def first(self, stream: BinaryIO) -> int:
        """The place of the first directory."""
        stream.seek(self.pointer)
        return self.number(stream.read(self.pointer))

    def entries(self, stream: BinaryIO, place: int) -> tuple[dict[int, bytes], int]:
        """The raw entries of the directory at ``place``, by tag, and the place of the directory after it."""
        stream.seek(place)
        count = min(self.number(stream.read(self.count)), _MOST_ENTRIES)
        raw = [stream.read(4 + 2 * self.pointer) for _ in range(count)]
        return {self.number(each[:2]): each for each in raw}, self.number(stream.read(self.pointer))

    def content(self, stream: BinaryIO, entry: bytes) -> bytes:
        """The bytes that a raw entry stands for."""
        size = _SIZES.get(self.number(entry[2:4]), 0) * self.number(entry[4 : 4 + self.pointer])
        value = entry[4 + self.pointer :]
        if size <= self.pointer:
            return value[:size]
        stream.seek(self.number(value))
        return stream.read(size) if size <= _MOST_BYTES else b""


def tiff_metadata(stream: BinaryIO) -> dict[str, bytes]:
    """``xmp`` and ``iptc`` of the first page of a TIFF, those that are there."""
    stream.seek(0)
    layout = _Layout.of(stream.read(4))
    entries = layout.entries(stream, layout.first(stream))[0]
    found = {tag: layout.content(stream, entries[tag]) for tag in (_XMP, _IPTC, _PHOTOSHOP) if tag in entries}
    iptc = found.get(_IPTC) or iptc_of_photoshop(found.get(_PHOTOSHOP, b""))
    return {name: content for name, content in (("xmp", found.get(_XMP)), ("iptc", iptc)) if content}


def add_tags(
    stream: BinaryIO, exif: bytes | None = None, xmp: bytes | None = None, iptc: bytes | None = None
) -> None:
    """Add metadata to the first page of the TIFF in ``stream`` (readable and seekable).

    Pixels and the entries that are there stay where and as they are.
    """
    if not (exif or xmp or iptc):
        return
    stream.seek(0)
    head = stream.read(16)
    layout = _Layout.of(head)
    entries, following = layout.entries(stream, layout.first(stream))
    added = _directory(head if layout.is_big else head[:8], exif, xmp, iptc)
    place = _at_end(stream)
    stream.write(added.tobytes(place))
    entries = layout.entries(stream, place)[0] | entries
    merged = _at_end(stream)
    stream.write(layout.packed(len(entries), layout.count))
    stream.writelines(entries[tag] for tag in sorted(entries))
    stream.write(layout.packed(following, layout.pointer))
    stream.seek(layout.pointer)
    stream.write(layout.packed(merged, layout.pointer))
    stream.seek(0, io.SEEK_END)


def _directory(head: bytes, exif: bytes | None, xmp: bytes | None, iptc: bytes | None) -> Any:
    """A directory of the metadata alone."""
    directory = ImageFileDirectory_v2(head)
    for tag, content, kind in ((_XMP, xmp, _BYTE), (_IPTC, iptc, _UNDEFINED)):
        if content:
            directory.tagtype[tag] = kind
            directory[tag] = content
    block = Image.Exif()
    block.load(exif or b"")
    for tag in block:
        if tag not in DROPPED and tag not in _INNER:
            directory[tag] = block[tag]
    for tag in _INNER:
        details = dict(block.get_ifd(tag))
        if ExifTags.IFD.Interop in details:
            details[ExifTags.IFD.Interop] = block.get_ifd(ExifTags.IFD.Interop)
        if details:
            directory.tagtype[tag] = _LONG
            directory[tag] = details
    return directory


def _at_end(stream: BinaryIO) -> int:
    """The even place behind everything in ``stream``, which is left there."""
    stream.seek(0, io.SEEK_END)
    stream.write(b"\0" * (stream.tell() % 2))
    return stream.tell()
