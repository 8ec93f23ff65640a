"""Pictures to files: whole or not at all, with the colour profile and EXIF block that they came with."""

from __future__ import annotations

import io
import zlib
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from polyres.errors import OutputError, PolyresError
from polyres.files import replacing
from polyres.pictures import deep
from polyres.pictures.boxes import jp2_with
from polyres.pictures.dither import dithered
from polyres.pictures.formats import FORMATS, Format, format_of
from polyres.pictures.metadata import sized
from polyres.pictures.modes import to_pillow
from polyres.pictures.packets import jpeg_segments, png_text
from polyres.pictures.palette import few_colours
from polyres.pictures.picture import Picture, to_depth
from polyres.pictures.tifftags import add_tags

#: JPEG, WebP and AVIF quality where none is asked for: little enough loss that enlarging was worth it.
QUALITY = 95

#: Bytes that one segment of a JPEG file has for metadata.
_JPEG_SEGMENT = 65_400


def write_picture(
    picture: Picture, path: str | Path, quality: int = QUALITY, *, dither: bool = False
) -> None:
    """Write ``picture`` to ``path``, in the format that its suffix names.

    The file appears complete or not at all; an existing one is replaced in one step. The picture's depth is
    kept where the format can hold it, otherwise the nearest that it can. The colour profile, EXIF, XMP and IPTC
    are embedded where the format has room for them; :func:`left_out` tells where it has not.

    Args:
        picture: what to write.
        path: where; its folder must exist.
        quality: 1 to 100, for JPEG, WebP (100 = lossless) and AVIF.
        dither: break up the steps between 8-bit values, where deeper pixels are written with 8 bits.

    Raises:
        OutputError: an unknown suffix, a folder that cannot be written, a side or transparency that the
            format does not have.
    """
    path = Path(path)
    target = format_of(path)
    if target is None:
        known = ", ".join(entry.suffixes[0] for entry in FORMATS.values())
        raise OutputError(f"{path}: the suffix names no format that is written; expected one of {known}")
    with replacing(path) as stream:
        encode_picture(picture, stream, target, quality, name=str(path), dither=dither)


def encode_picture(
    picture: Picture,
    stream: BinaryIO,
    target: Format,
    quality: int = QUALITY,
    name: str = "the picture",
    *,
    dither: bool = False,
) -> None:
    """Write ``picture`` into ``stream``; ``name`` is for messages. See :func:`write_picture`."""
    _check(picture, target, name)
    try:
        _write(_fitted(picture, target, dither), stream, target, quality)
    except PolyresError:
        raise
    except OSError as error:
        raise OutputError(f"{name}: cannot be written: {error.strerror or error}") from error
    except (
        Exception
    ) as error:  # encoders raise what they like at what they cannot hold, such as a 70 KB EXIF block
        raise OutputError(f"{name}: cannot be written as {target.name}: {error}") from error


def left_out(picture: Picture, target: Format, *, several: bool = False) -> tuple[str, ...]:
    """What of ``picture`` a file in the format ``target`` will lack, one phrase each, to be told to the user.

    ``several`` frames or pages in one file keep the profile alone.
    """
    kinds = {"icc": picture.icc_profile, "exif": picture.exif, "xmp": picture.xmp, "iptc": picture.iptc}
    names = {"icc": "the colour profile", "exif": "EXIF", "xmp": "XMP", "iptc": "IPTC"}
    lost = [
        names[kind]
        for kind, content in kinds.items()
        if content and not (_fits(kind, content, target) and (kind == "icc" or not several))
    ]
    if picture.pixels.dtype.itemsize > target.depths[-1].itemsize:
        lost.append(f"bits beyond {8 * target.depths[-1].itemsize} a colour")
    if target.name == "gif":
        lost.append("all but 256 colours")
    return tuple(lost)


def _fits(kind: str, content: bytes, target: Format) -> bool:
    return kind in target.holds and not (
        target.name == "jpeg" and kind in ("exif", "xmp", "iptc") and len(content) > _JPEG_SEGMENT
    )


def _check(picture: Picture, target: Format, name: str) -> None:
    if max(picture.height, picture.width) > target.max_side:
        raise OutputError(
            f"{name}: {target.name} holds up to {target.max_side} pixels on a side, and this is "
            f"{picture.width}x{picture.height}; choose png or tiff"
        )
    if not target.alpha and not picture.is_opaque:
        raise OutputError(
            f"{name}: {target.name} holds no transparency, and this has some; choose png or webp"
        )


def _fitted(picture: Picture, target: Format, dither: bool) -> Picture:
    """``picture`` at a depth that ``target`` holds, without an alpha channel or metadata that it does not."""
    depth = picture.pixels.dtype if picture.pixels.dtype in target.depths else target.depths[-1]
    fits = partial(_fits, target=target)
    pixels = dithered(picture.pixels) if dither and depth == np.uint8 else to_depth(picture.pixels, depth)
    alpha = None if picture.alpha is None or not target.alpha else to_depth(picture.alpha, depth)
    icc, exif, xmp, iptc = (
        content if content and fits(kind, content) else None
        for kind, content in (
            ("icc", picture.icc_profile), ("exif", picture.exif), ("xmp", picture.xmp), ("iptc", picture.iptc),
        )
    )  # fmt: skip
    return sized(Picture(pixels, alpha, icc, exif, xmp, iptc))


def _write(picture: Picture, stream: BinaryIO, target: Format, quality: int) -> None:
    is_deep = picture.pixels.dtype != np.uint8 and not (picture.is_grey and picture.alpha is None)
    if target.name == "jp2":
        stream.write(_jp2(picture, is_deep))
    elif target.name == "tiff":
        _write_tiff(picture, stream, is_deep)
    elif is_deep:
        values = deep.joined(picture)
        stream.write(deep.encode_png(values, picture.icc_profile, picture.exif, png_chunks(picture)))
    else:
        is_gif = target.name == "gif"
        image = (few_colours if is_gif else to_pillow)(picture.pixels, picture.alpha)
        image.save(stream, target.codec, **_options(picture, target, quality))


def _jp2(picture: Picture, is_deep: bool) -> bytes:
    if is_deep:
        data = deep.encode_jp2(deep.joined(picture))
    else:
        buffer = io.BytesIO()
        to_pillow(picture.pixels, picture.alpha).save(buffer, "JPEG2000")
        data = buffer.getvalue()
    kinds = {"icc": picture.icc_profile, "exif": picture.exif, "xmp": picture.xmp, "iptc": picture.iptc}
    return jp2_with(data, {kind: content for kind, content in kinds.items() if content})


def _write_tiff(picture: Picture, stream: BinaryIO, is_deep: bool) -> None:
    if is_deep:
        deep.encode_tiff(stream, deep.joined(picture), picture.alpha is not None, picture.icc_profile)
    else:
        image, profile = to_pillow(picture.pixels, picture.alpha), picture.icc_profile or b""
        image.save(stream, "TIFF", icc_profile=profile, compression="tiff_adobe_deflate")
    add_tags(stream, picture.exif, picture.xmp, picture.iptc)


def _options(picture: Picture, target: Format, quality: int) -> dict[str, Any]:
    """What Pillow is told for the format."""
    options: dict[str, Any] = {
        "icc_profile": picture.icc_profile or b"",
        "exif": picture.exif or Image.Exif(),
        "xmp": picture.xmp or b"",
    }
    sampling = "4:4:4" if quality >= 90 else "4:2:0"
    if target.name == "jpeg":
        iptc = jpeg_segments(picture.iptc) if picture.iptc else b""
        return options | {"quality": quality, "subsampling": sampling, "extra": iptc}
    if target.name == "webp":
        return options | {"quality": quality, "lossless": quality == 100, "exact": True}
    if target.name == "avif":
        return options | {"quality": quality, "subsampling": sampling}
    if target.name == "png":
        chunks = PngInfo()
        for kind, content in png_chunks(picture):
            chunks.add(kind, content)
        return options | {"compress_level": 4, "pnginfo": chunks}
    return options


def png_chunks(picture: Picture) -> list[tuple[bytes, bytes]]:
    """XMP and IPTC as the chunks of a PNG file."""
    chunks = []
    if picture.xmp:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + picture.xmp))
    if picture.iptc:
        keyword, text = png_text(picture.iptc)
        chunks.append((b"zTXt", keyword.encode() + b"\0\0" + zlib.compress(text.encode())))
    return chunks
