"""What comes with the pixels: profile, EXIF, XMP and IPTC, the orientation applied once, stale tags put right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

from polyres.pictures.boxes import jp2_metadata
from polyres.pictures.packets import iptc_of_png_text, sized_xmp, tidy_xmp
from polyres.pictures.picture import Picture, Pixels
from polyres.pictures.tifftags import DROPPED, tiff_metadata

#: The parts of a :class:`Picture` that are not pixels, by attribute.
Metadata = dict[str, bytes | None]


def read_metadata(image: Image.Image, boxes: dict[str, bytes]) -> tuple[int, Metadata]:
    """The orientation, 1 (upright) to 8, and the metadata of an image that Pillow has opened.

    Args:
        image: loaded, where its metadata may stand behind its pixels.
        boxes: what :func:`own_metadata` found.
    """
    if "exif" in boxes:
        image.info["exif"] = boxes["exif"]
    xmp = boxes.get("xmp") or image.info.get("xmp")
    turn, exif = tidy_exif(image.getexif)
    return turn, {
        "icc_profile": boxes.get("icc") or image.info.get("icc_profile") or None,
        "exif": exif,
        "xmp": xmp.encode() if isinstance(xmp, str) else xmp or None,
        "iptc": boxes.get("iptc") or _iptc(image),
    }


def exif_of_block(block: bytes | None) -> tuple[int, bytes | None]:
    """As :func:`tidy_exif`, of a block that was found in a file."""

    def load() -> Image.Exif:
        exif = Image.Exif()
        exif.load(block or b"")
        return exif

    return tidy_exif(load)


def exif_of_tiff(stream: BinaryIO) -> tuple[int, bytes | None]:
    """As :func:`tidy_exif`, of a TIFF that Pillow does not know; of a BigTIFF nothing."""

    def load() -> Image.Exif:
        exif = Image.Exif()
        stream.seek(0)
        exif.load_from_fp(stream)
        return exif

    return tidy_exif(load)


def tidy_exif(load: Callable[[], Image.Exif]) -> tuple[int, bytes | None]:
    """The orientation, 1 (upright) to 8, and the EXIF block to carry over, if there is anything in it.

    The block is without orientation, storage tags and thumbnail. A damaged block counts as none: it is no reason
    to refuse the picture.
    """
    try:
        exif = load()
        turn = exif.get(ExifTags.Base.Orientation, 1)
        for tag in DROPPED & set(exif):
            del exif[tag]
        block = _classic(exif).tobytes() if len(exif) else None
    except Exception:  # struct.error, TypeError, KeyError, ... whatever the damage makes of the parser
        return 1, None
    return (turn if turn in range(1, 9) else 1), block


def _classic(exif: Image.Exif) -> Image.Exif:
    """``exif`` as every format holds it, if it is that of a BigTIFF."""
    if not exif.bigtiff:
        return exif
    plain, inner = Image.Exif(), (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
    for tag in exif:
        if tag in inner:
            plain.get_ifd(tag).update(exif.get_ifd(tag))
        else:
            plain[tag] = exif[tag]
    return plain


def sized(picture: Picture) -> Picture:
    """``picture`` with the sizes that its EXIF block and XMP packet state, where they do, set to its own."""
    width, height = picture.width, picture.height
    exif = sized_exif(picture.exif, width, height) if picture.exif else None
    return replace(
        picture, exif=exif, xmp=sized_xmp(tidy_xmp(picture.xmp), width, height) if picture.xmp else None
    )


def own_metadata(stream: BinaryIO, codec: str | None) -> dict[str, bytes]:
    """``icc``, ``exif``, ``xmp`` and ``iptc`` of a JPEG 2000 file or a TIFF, as far as Pillow does not read them."""
    if codec not in ("JPEG2000", "TIFF"):
        return {}
    place = stream.tell()
    stream.seek(0)
    try:
        return jp2_metadata(stream.read()) if codec == "JPEG2000" else tiff_metadata(stream)
    finally:
        stream.seek(place)


def _iptc(image: Image.Image) -> bytes | None:
    """The IPTC packet of a JPEG or PNG."""
    if image.format == "PNG":
        return iptc_of_png_text(getattr(image, "text", {}))
    found = image.info.get("photoshop", {}).get(0x0404)
    return found if isinstance(found, bytes) and found else None


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
