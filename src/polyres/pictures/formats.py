"""The file formats: what each one is called, and what it can hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polyres.errors import UsageError, nearest

ALL = frozenset({"icc", "exif", "xmp", "iptc"})
UINT8, UINT16, FLOAT32 = np.dtype("uint8"), np.dtype("uint16"), np.dtype("float32")


@dataclass(frozen=True)
class Format:
    """One format that pictures are written in.

    Attributes:
        name: as users write it.
        codec: as Pillow calls it.
        suffixes: of file names, lower case, the usual one first.
        depths: that it holds, deepest last.
        alpha: whether it holds transparency.
        max_side: pixels on a side that it can hold.
        holds: kinds of metadata that are written into it: ``icc``, ``exif``, ``xmp``, ``iptc``.
        by_default: whether the results of its pictures are written in it unasked; otherwise they become PNG.
    """

    name: str
    codec: str
    suffixes: tuple[str, ...]
    depths: tuple[np.dtype[np.generic], ...] = (UINT8,)
    alpha: bool = True
    max_side: int = 2**31 - 1
    holds: frozenset[str] = frozenset({"icc", "exif", "xmp"})
    by_default: bool = True


#: What can be written, by name.
FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format("png", "PNG", (".png", ".apng"), (UINT8, UINT16), holds=ALL),
        Format("jpeg", "JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), alpha=False, max_side=65500, holds=ALL),
        Format("webp", "WEBP", (".webp",), max_side=16383),
        Format("tiff", "TIFF", (".tif", ".tiff"), (UINT8, UINT16, FLOAT32), holds=ALL),
        Format("bmp", "BMP", (".bmp", ".dib"), alpha=False, holds=frozenset()),
        Format("avif", "AVIF", (".avif",), max_side=65536),
        Format("jp2", "JPEG2000", (".jp2", ".jpx", ".jpf"), (UINT8, UINT16), holds=ALL),
        Format("gif", "GIF", (".gif",), max_side=65535, holds=frozenset(), by_default=False),
    )
}

#: Codecs that are tried on a file, whatever its name. Those that run programs (EPS, WMF) are not.
READ_CODECS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB", "AVIF", "JPEG2000", "GIF", "PPM")

#: Suffixes, lower case, of the files in a folder that count as pictures.
SUFFIXES = frozenset({suffix for entry in FORMATS.values() for suffix in entry.suffixes}).union(
    (".ppm", ".pgm", ".pnm", ".mpo", ".j2k", ".j2c", ".jpc", ".jxl", ".heic", ".heif", ".hif")
)


def format_of(path: Path) -> Format | None:
    """The format that a file of this name is written in; None if the suffix names none."""
    suffix = path.suffix.lower()
    return next((entry for entry in FORMATS.values() if suffix in entry.suffixes), None)


def format_named(name: str) -> Format:
    """The format called ``name``: its name or one of its suffixes, with or without the dot, in any case.

    Raises:
        UsageError: no such format.
    """
    wanted = name.lower().lstrip(".")
    found = FORMATS.get(wanted) or format_of(Path(f"picture.{wanted}"))
    if found is None:
        known = ", ".join(FORMATS)
        raise UsageError(
            f"no picture format is called '{name}'; there are {known}.{nearest(wanted, FORMATS)}"
        )
    return found
