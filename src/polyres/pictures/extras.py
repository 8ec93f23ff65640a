"""JPEG XL and HEIC, read by codecs that are optional (the ``jxl`` and ``heif`` extras).

Both formats turn their pixels themselves: an orientation in their EXIF block says what was, not what to do.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from polyres.errors import MissingExtraError, PictureError
from polyres.pictures.boxes import JXL_CODESTREAM, JXL_HEAD, jxl_metadata, jxl_size
from polyres.pictures.deep import split_alpha, widened
from polyres.pictures.metadata import Metadata, exif_of_block
from polyres.pictures.picture import WHITE, Pixels

#: Brands in the first box of a HEIC file; AVIF, which Pillow reads, has others.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

#: Called with width and height before anything is decoded.
Check = Callable[[int, int], None]


def is_jxl(head: bytes) -> bool:
    """Whether a file that begins with ``head`` (12 bytes) is JPEG XL."""
    return head.startswith((JXL_HEAD, JXL_CODESTREAM))


def is_heic(head: bytes) -> bool:
    """Whether a file that begins with ``head`` (12 bytes) is HEIC."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS


def decode_jxl(data: bytes, check: Check) -> tuple[Pixels, Pixels | None, Metadata] | bytes:
    """Colours, opacity and metadata of a JPEG XL file; or the JPEG file that was packed into it without loss."""
    try:
        import imagecodecs
        import pillow_jxl
    except ImportError:
        raise MissingExtraError("JPEG XL", "jxl") from None
    check(*jxl_size(data))
    is_jpeg, _, content, profile, _ = pillow_jxl.Decoder(num_threads=1)(data)
    if is_jpeg:
        return bytes(content)
    values = imagecodecs.jpegxl_decode(data, numthreads=1)
    known = jxl_metadata(data)
    metadata = _metadata(known.get("exif"), known.get("xmp"), bytes(profile) if profile else None)
    return *split_alpha(_checked(values, "JPEG XL")), metadata


def decode_heic(data: bytes, check: Check) -> tuple[Pixels, Pixels | None, Metadata]:
    """Colours, opacity and metadata of the main picture of a HEIC file; 10 and 12 bits as uint16."""
    try:
        import pillow_heif
    except ImportError:
        raise MissingExtraError("HEIC", "heif") from None
    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
    check(*file.size)
    values = np.array(file)
    if values.dtype == np.uint16:
        values = widened(values, int(file.info["bit_depth"]))
    info = file.info
    metadata = _metadata(info.get("exif"), info.get("xmp"), info.get("icc_profile"))
    return *split_alpha(_checked(values, "HEIC")), metadata


def _checked(values: Any, name: str) -> Pixels:
    """``values`` if they can be a picture."""
    if (
        values.ndim not in (2, 3)
        or values.shape[2:] not in ((), (1,), (2,), (3,), (4,))
        or values.dtype not in WHITE
    ):
        raise PictureError(
            f"it is a {name} picture of shape {values.shape} and {values.dtype}; expected grey or RGB"
        )
    return np.asarray(values)


def _metadata(exif: bytes | None, xmp: bytes | None, profile: bytes | None) -> Metadata:
    _, block = exif_of_block(exif)
    return {
        "icc_profile": profile or None,
        "exif": block,
        "xmp": xmp or None,
        "iptc": None,
    }
