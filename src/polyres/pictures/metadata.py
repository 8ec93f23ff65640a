"""EXIF blocks: the orientation applied once, and tags that would no longer be true put right."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

from polyres.pictures.picture import Pixels

#: TIFF tags from 254 to 347 that say something about the picture; the others say how its pixels are stored.
_DESCRIPTIVE = frozenset({269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316})

#: Tags that are not carried over: storage, orientation (274), and blocks with a place of their own (XMP, IPTC,
#: Photoshop, ICC).
_DROPPED = (frozenset({*range(254, 348), *range(512, 533)}) - _DESCRIPTIVE) | {
    700,
    33723,
    34377,
    34675,
    37724,
}


def read_exif(image: Image.Image) -> tuple[int, bytes | None]:
    """The orientation, 1 (upright) to 8, and the EXIF block to carry over, if there is anything in it.

    The block is without orientation and storage tags. A damaged block counts as none: it is no reason to
    refuse the picture.
    """
    try:
        exif = image.getexif()
        turn = exif.get(ExifTags.Base.Orientation, 1)
        for tag in _DROPPED & set(exif):
            del exif[tag]
        block = exif.tobytes() if len(exif) else None
    except Exception:  # struct.error, TypeError, KeyError, ... whatever the damage makes of the parser
        return 1, None
    return (turn if turn in range(1, 9) else 1), block


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """``pixels`` (H, W, ...) as stored, turned and mirrored as EXIF ``orientation`` (1 to 8) says."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def sized_exif(block: bytes, width: int, height: int) -> bytes:
    """``block`` with its width and height tags, where it has them, set to the picture's."""
    exif = Image.Exif()
    exif.load(block)
    details = exif.get_ifd(ExifTags.IFD.Exif)
    if ExifTags.Base.ExifImageWidth in details:
        details[ExifTags.Base.ExifImageWidth] = width
    if ExifTags.Base.ExifImageHeight in details:
        details[ExifTags.Base.ExifImageHeight] = height
    return exif.tobytes()
