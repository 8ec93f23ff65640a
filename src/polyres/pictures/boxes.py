"""Boxes of JPEG 2000 and JPEG XL files: metadata taken out of them and put into them, and the size before decoding."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from polyres.errors import PictureError

JP2_HEAD = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
JXL_HEAD = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
J2K_HEAD, JXL_CODESTREAM = b"\xff\x4f\xff\x51", b"\xff\x0a"

#: Kinds of metadata by the names of their ``uuid`` boxes: Adobe's for XMP, the JPEG group's for EXIF and IPTC.
_UUIDS = {
    "exif": b"JpgTiffExif->JP2",
    "xmp": bytes.fromhex("be7acfcb97a942e89c71999491e3afac"),
    "iptc": bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"),
}
#: Width by height of JPEG XL's short sizes.
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


@dataclass(frozen=True)
class Box:
    """One box: its kind, where it begins, and what is in it."""

    kind: bytes
    start: int
    content: bytes


def boxes(data: bytes, start: int = 0) -> Iterator[Box]:
    """The boxes of ``data`` from ``start`` on; ends at the first that is damaged."""
    while start + 8 <= len(data):
        size, head = struct.unpack_from(">I", data, start)[0], 8
        if size == 1 and start + 16 <= len(data):
            size, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        elif size == 0:
            size = len(data) - start
        if size < head:
            return
        yield Box(data[start + 4 : start + 8], start, data[start + head : start + size])
        start += size


def jp2_metadata(data: bytes) -> dict[str, bytes]:
    """``icc``, ``exif``, ``xmp`` and ``iptc`` of a JPEG 2000 file, those that are there."""
    found: dict[str, bytes] = {}
    for box in boxes(data) if data.startswith(JP2_HEAD) else ():
        if box.kind == b"jp2h":
            for inner in boxes(box.content):
                if inner.kind == b"colr" and inner.content[:1] == b"\x02":
                    found["icc"] = inner.content[3:]
        elif box.kind == b"uuid":
            for name, uuid in _UUIDS.items():
                if box.content.startswith(uuid):
                    found[name] = box.content[16:]
    if "exif" in found:
        found["exif"] = b"Exif\0\0" + found["exif"].removeprefix(b"Exif\0\0")
    return found


def jp2_with(data: bytes, metadata: dict[str, bytes]) -> bytes:
    """A JPEG 2000 file ``data`` with ``metadata``, named as in :func:`jp2_metadata`, put in."""
    added = b"".join(
        _box(b"uuid", uuid + metadata[name].removeprefix(b"Exif\0\0"))
        for name, uuid in _UUIDS.items()
        if metadata.get(name)
    )
    for box in boxes(data):
        if box.kind == b"jp2h":
            end = box.start + 8 + len(box.content)
            header = _with_profile(box.content, metadata.get("icc"))
            return data[: box.start] + _box(b"jp2h", header) + added + data[end:]
    return data


def _with_profile(header: bytes, profile: bytes | None) -> bytes:
    """The content of a ``jp2h`` box with its colour space replaced by ``profile``."""
    if not profile:
        return header
    colour = _box(b"colr", b"\2\0\0" + profile)
    return b"".join(colour if box.kind == b"colr" else _box(box.kind, box.content) for box in boxes(header))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def jp2_bits(data: bytes) -> int:
    """Bits of the deepest component of a JPEG 2000 file, of which ``data`` is the beginning; 0 if that is damaged."""
    start = data.find(J2K_HEAD)
    if start < 0:
        return 0
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    return max(((bits & 0x7F) + 1 for bits in data[start + 42 : start + 42 + 3 * count : 3]), default=0)


def jp2_size(data: bytes) -> tuple[int, int]:
    """(width, height) that the codestream of a JPEG 2000 file states, whatever the boxes around it say."""
    start = data.find(J2K_HEAD)
    if start < 0 or len(data) < start + 24:
        raise PictureError("its JPEG 2000 header is damaged or cut short")
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    return max(0, right - left), max(0, bottom - top)


def jxl_metadata(data: bytes) -> dict[str, bytes]:
    """``exif`` and ``xmp`` of a JPEG XL file, those that are there uncompressed."""
    found: dict[str, bytes] = {}
    for box in boxes(data) if data.startswith(JXL_HEAD) else ():
        if box.kind == b"Exif" and len(box.content) > 4:
            found["exif"] = b"Exif\0\0" + box.content[4 + int.from_bytes(box.content[:4], "big") :]
        elif box.kind == b"xml ":
            found["xmp"] = box.content
    return found


def jxl_size(data: bytes) -> tuple[int, int]:
    """(width, height) that the header of a JPEG XL file states."""
    stream = data
    if data.startswith(JXL_HEAD):
        parts = (box for box in boxes(data) if box.kind in (b"jxlc", b"jxlp"))
        first = next(parts, None)
        stream = b"" if first is None else first.content[4 * (first.kind == b"jxlp") :]
    if not stream.startswith(JXL_CODESTREAM) or len(stream) < 12:
        raise PictureError("its JPEG XL header is damaged or cut short")
    bits = _Bits(int.from_bytes(stream[2:12], "little"))
    read = bits.short_side if bits.take(1) else bits.side
    height = read()
    ratio = bits.take(3)
    width = height * _RATIOS[ratio][0] // _RATIOS[ratio][1] if ratio else read()
    return width, height


class _Bits:
    """The bits of a JPEG XL header, lowest first."""

    def __init__(self, value: int) -> None:
        self._value = value

    def take(self, count: int) -> int:
        """The next ``count`` bits."""
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        return taken

    def short_side(self) -> int:
        """A side that is a multiple of 8 up to 256."""
        return 8 * (self.take(5) + 1)

    def side(self) -> int:
        """A side of any length, in 9, 13, 18 or 30 bits."""
        return self.take((9, 13, 18, 30)[self.take(2)]) + 1
