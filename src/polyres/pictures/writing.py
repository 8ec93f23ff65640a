"""Pictures to files: whole or not at all, with the colour profile and EXIF block that they came with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from polyres.errors import OutputError, PolyresError
from polyres.files import replacing
from polyres.pictures import deep
from polyres.pictures.formats import FORMATS, Format, format_of
from polyres.pictures.metadata import sized_exif
from polyres.pictures.modes import to_pillow
from polyres.pictures.picture import Picture, to_depth

#: JPEG, WebP and AVIF quality where none is asked for: little enough loss that enlarging was worth it.
QUALITY = 95


def write_picture(picture: Picture, path: str | Path, quality: int = QUALITY) -> None:
    """Write ``picture`` to ``path``, in the format that its suffix names.

    The file appears complete or not at all; an existing one is replaced in one step. The picture's depth is
    kept where the format can hold it, otherwise the nearest that it can. The colour profile and the EXIF block
    are embedded (BMP has room for neither; TIFF holds no EXIF at 16 bits of colour or float).

    Args:
        picture: what to write.
        path: where; its folder must exist.
        quality: 1 to 100, for JPEG, WebP (100 = lossless) and AVIF.

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
        encode_picture(picture, stream, target, quality, name=str(path))


def encode_picture(
    picture: Picture, stream: BinaryIO, target: Format, quality: int = QUALITY, name: str = "the picture"
) -> None:
    """Write ``picture`` into ``stream``; ``name`` is for messages. See :func:`write_picture`."""
    _check(picture, target, name)
    fitted = _fitted(picture, target)
    try:
        if fitted.pixels.dtype != np.uint8 and not (fitted.is_grey and fitted.alpha is None):
            _encode_deep(fitted, stream, target)
        else:
            image = to_pillow(fitted.pixels, fitted.alpha)
            image.save(stream, target.codec, **_options(fitted, target, quality))
    except PolyresError:
        raise
    except OSError as error:
        raise OutputError(f"{name}: cannot be written: {error.strerror or error}") from error
    except (
        Exception
    ) as error:  # encoders raise what they like at what they cannot hold, such as a 70 KB EXIF block
        raise OutputError(f"{name}: cannot be written as {target.name}: {error}") from error


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


def _fitted(picture: Picture, target: Format) -> Picture:
    """``picture`` at a depth that ``target`` holds, without an alpha channel that it does not."""
    depth = picture.pixels.dtype
    if depth not in target.depths:
        depth = target.depths[-1]
    alpha = picture.alpha if target.alpha and picture.alpha is not None else None
    exif = sized_exif(picture.exif, picture.width, picture.height) if picture.exif else None
    return Picture(
        to_depth(picture.pixels, depth),
        None if alpha is None else to_depth(alpha, depth),
        picture.icc_profile,
        exif,
    )


def _encode_deep(picture: Picture, stream: BinaryIO, target: Format) -> None:
    values = picture.pixels if picture.alpha is None else np.dstack((picture.pixels, picture.alpha))
    if target.name == "png":
        stream.write(deep.encode_png(values, picture.icc_profile, picture.exif))
    else:
        deep.encode_tiff(stream, values, picture.alpha is not None, picture.icc_profile)


def _options(picture: Picture, target: Format, quality: int) -> dict[str, Any]:
    """What Pillow is told for the format."""
    options: dict[str, Any] = {
        "icc_profile": picture.icc_profile or b"",
        "exif": picture.exif or Image.Exif(),
    }
    if target.name == "jpeg":
        return options | {"quality": quality, "subsampling": "4:4:4" if quality >= 90 else "4:2:0"}
    if target.name == "webp":
        return options | {"quality": quality, "lossless": quality == 100, "exact": True}
    if target.name == "avif":
        return options | {"quality": quality, "subsampling": "4:4:4" if quality >= 90 else "4:2:0"}
    if target.name == "png":
        return options | {"compress_level": 4}
    if (
        target.name == "tiff" and not picture.exif
    ):  # libtiff's compressors cannot write the EXIF block's parts
        return options | {"compression": "tiff_adobe_deflate"}
    return options
