"""XMP and IPTC packets: kept as they are, but for what turning and enlarging made untrue.

XMP is XML that tools of many makers read and write. Only the values that must change are replaced, by pattern;
every other byte stays, which no XML library could promise.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

_IPTC_RESOURCE = 0x0404  # the Photoshop resource that holds IPTC-IIM
_WIDTHS, _HEIGHTS = ("exif:PixelXDimension", "tiff:ImageWidth"), ("exif:PixelYDimension", "tiff:ImageLength")
_THUMBNAILS = re.compile(rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails\s*>", re.DOTALL)
#: Text of PNG files that ImageMagick, exiftool and others keep IPTC in.
_PNG_KEYWORD = "Raw profile type iptc"


def tidy_xmp(packet: bytes) -> bytes:
    """``packet`` with the orientation set to upright, and without the thumbnails of the picture that was."""
    return _with_value(_THUMBNAILS.sub(b"", packet), "tiff:Orientation", 1)


def sized_xmp(packet: bytes, width: int, height: int) -> bytes:
    """``packet`` with the sizes that it states, if any, set to the picture's."""
    for names, size in ((_WIDTHS, width), (_HEIGHTS, height)):
        for name in names:
            packet = _with_value(packet, name, size)
    return packet


def _with_value(packet: bytes, name: str, value: int) -> bytes:
    """``packet`` with the number of property ``name`` replaced, written as attribute or as element."""
    tag, number = re.escape(name.encode()), str(value).encode()
    packet = re.sub(rb"(\b" + tag + rb"\s*=\s*[\"'])\s*\d*\s*([\"'])", rb"\g<1>" + number + rb"\g<2>", packet)
    return re.sub(rb"(<" + tag + rb"\s*>)\s*\d*\s*(</)", rb"\g<1>" + number + rb"\g<2>", packet)


def iptc_of_photoshop(block: bytes) -> bytes | None:
    """The IPTC packet in a block of Photoshop resources, if there is one."""
    return next((data for kind, data in _resources(block) if kind == _IPTC_RESOURCE and data), None)


def photoshop_block(iptc: bytes) -> bytes:
    """A block of Photoshop resources that holds ``iptc`` and nothing else."""
    padding = b"\0" * (len(iptc) % 2)
    return b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + iptc + padding


def _resources(block: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, content) of each resource; ends at the first that is damaged."""
    place = 0
    while block[place : place + 4] == b"8BIM" and place + 12 <= len(block):
        (kind,) = struct.unpack_from(">H", block, place + 4)
        place += 6 + (block[place + 6] // 2 + 1) * 2  # a name, its length before it, padded to even
        if place + 4 > len(block):
            return
        (size,) = struct.unpack_from(">I", block, place)
        yield kind, block[place + 4 : place + 4 + size]
        place += 4 + size + size % 2


def png_text(iptc: bytes) -> tuple[str, str]:
    """Keyword and text that PNG files keep ``iptc`` under: its length and hexadecimal digits."""
    lines = re.findall(".{1,72}", photoshop_block(iptc).hex())
    return _PNG_KEYWORD, f"\niptc\n{len(photoshop_block(iptc)):8d}\n" + "\n".join(lines) + "\n"


def iptc_of_png_text(texts: dict[str, str]) -> bytes | None:
    """The IPTC packet among the ``texts`` of a PNG file, if there is one that can be understood."""
    parts = str(texts.get(_PNG_KEYWORD, "")).split(maxsplit=2)
    try:
        content = bytes.fromhex(parts[2])
    except (IndexError, ValueError):
        return None
    return iptc_of_photoshop(content) or (content if content[:1] == b"\x1c" else None)


def jpeg_segments(iptc: bytes) -> bytes:
    """The APP13 segment of a JPEG file that holds ``iptc``."""
    content = b"Photoshop 3.0\0" + photoshop_block(iptc)
    return b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
