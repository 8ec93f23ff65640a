"""PNG and TIFF with more bits a colour than Pillow keeps, by codecs that keep them (the ``depth`` extra).

Pillow reads grey of 16 bits as it is, but turns 16-bit RGB and grey with alpha into 8 bits without a word.
The codecs are imagecodecs (libpng and others) and tifffile, which the scientific world maintains and uses.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from polyres.errors import MissingExtraError, PictureError
from polyres.pictures.boxes import jp2_bits
from polyres.pictures.picture import WHITE, Picture, Pixels, check_unit_range

_BITS_PER_SAMPLE = 258  # TIFF tag
_PNG_HEADER = 33  # signature and IHDR: where chunks that must precede the pixels may stand


def is_deeper_than_pillow(image: Image.Image) -> bool:
    """Whether decoding ``image`` (opened, not loaded) with Pillow would drop bits."""
    if image.format != "JPEG2000" and (image.mode.startswith("I") or image.mode == "F"):
        return False
    if isinstance(image, TiffImageFile):
        return int(max(image.tag_v2.get(_BITS_PER_SAMPLE, (8,)))) > 8
    if image.format == "JPEG2000":
        return jp2_bits(head_of(image)) > 8
    return image.format == "PNG" and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def is_deep_avif(image: Image.Image) -> bool:
    """Whether an AVIF holds 10 or 12 bits a colour: the flags of its ``av1C`` box."""
    head = head_of(image)
    box = head.find(b"av1C")
    return 0 <= box < len(head) - 6 and bool(head[box + 6] & 0x40)


def head_of(image: Image.Image) -> bytes:
    """The beginning of the file that ``image`` was opened from."""
    stream = getattr(image, "fp", None)
    if stream is None:
        return b""
    stream.seek(0)
    return bytes(stream.read(65536))


def decode_jp2(data: bytes) -> tuple[Pixels, Pixels | None]:
    """Colours (H, W, 1 or 3) and opacity (H, W) of a JPEG 2000 file of 9 to 16 bits, as uint16."""
    values = _imagecodecs("JPEG 2000").jpeg2k_decode(data)
    bits = jp2_bits(data)
    if (
        values.dtype != np.uint16
        or values.ndim not in (2, 3)
        or values.shape[2:] not in ((), (1,), (2,), (3,), (4,))
    ):
        raise PictureError(
            f"it is a JPEG 2000 picture of shape {values.shape} and {values.dtype}; "
            "expected grey or RGB, 8 to 16 bits without sign"
        )
    return split_alpha(widened(values, bits))


def encode_jp2(values: Pixels) -> bytes:
    """A JPEG 2000 file of ``values`` (H, W, 1 to 4) of 16 bits, without loss."""
    encode = _imagecodecs("JPEG 2000").jpeg2k_encode
    values = values[:, :, 0] if values.shape[2] == 1 else values
    return bytes(encode(values, level=0, codecformat="jp2", reversible=True))


def widened(values: Pixels, bits: int) -> Pixels:
    """Values of 9 to 16 ``bits`` in uint16, spread so that white is 65535."""
    if bits == 16:
        return values
    spread = values.astype(np.uint32) << (16 - bits) | values >> (2 * bits - 16)
    return spread.astype(np.uint16)


def decode_png(data: bytes) -> tuple[Pixels, Pixels | None]:
    """Colours (H, W, 1 or 3) and opacity (H, W) of a PNG file."""
    return split_alpha(_imagecodecs("PNG").png_decode(data))


def encode_png(
    values: Pixels, icc_profile: bytes | None, exif: bytes | None, others: Iterable[tuple[bytes, bytes]] = ()
) -> bytes:
    """A PNG file of ``values`` (H, W, 1 to 4), uint8 or uint16, with its metadata."""
    data = bytes(_imagecodecs("PNG").png_encode(values, level=4))
    chunks = b""
    if icc_profile:
        chunks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile))
    if exif:
        chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    chunks += b"".join(_chunk(kind, content) for kind, content in others)
    return data[:_PNG_HEADER] + chunks + data[_PNG_HEADER:]


def decode_tiff(
    stream: BinaryIO, check: Callable[[int, int], None] = lambda width, height: None
) -> tuple[Pixels, Pixels | None, bytes | None, int]:
    """Colours, opacity, colour profile and orientation of the first page of a TIFF file.

    Args:
        stream: the file.
        check: called with width and height before anything is decoded.

    Raises:
        PictureError: pixels other than grey or RGB of 8 bits, 16 bits or floats in [0, 1].
    """
    tifffile = _tifffile()
    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        page = file.pages.first
        colours, alpha = _page(page, check)
        tags = page.tags
        profile = tags[34675].value if 34675 in tags else None
        return colours, alpha, profile, int(tags[274].value) if 274 in tags else 1


def decode_pages(stream: BinaryIO, check: Callable[[int, int], None]) -> list[tuple[Pixels, Pixels | None]]:
    """Colours and opacity of every page of a TIFF; arguments and errors as of :func:`decode_tiff`."""
    stream.seek(0)
    with _tifffile().TiffFile(stream) as file:
        return [_page(page, check) for page in file.pages]


def decode_raw(stream: BinaryIO, check: Callable[[int, int], None]) -> tuple[Pixels, bytes | None]:
    """The numbers of a TIFF's first page, (H, W, channels) of any kind, and its colour profile."""
    stream.seek(0)
    with _tifffile().TiffFile(stream) as file:
        page = file.pages.first
        check(page.imagewidth, page.imagelength * page.samplesperpixel)
        values = _channels_last(page)
        profile = page.tags[34675].value if 34675 in page.tags else None
    if values.ndim not in (2, 3) or values.dtype.kind not in "iuf":
        raise PictureError(
            f"it is a TIFF of shape {values.shape} and {values.dtype}; expected bands of numbers"
        )
    return values.reshape(*values.shape[:2], -1), profile


def _page(page: Any, check: Callable[[int, int], None]) -> tuple[Pixels, Pixels | None]:
    """Colours and opacity of one page."""
    check(page.imagewidth, page.imagelength)
    photometric, samples = int(page.photometric), page.samplesperpixel
    if photometric not in (0, 1, 2) or samples > 4 or page.dtype not in WHITE:
        raise PictureError(
            f"it is a TIFF of {samples} channels of {page.dtype}; expected grey or RGB, 8 bits, 16 bits or "
            "float: --bands takes others, channel by channel"
        )
    values = _channels_last(page)
    if values.dtype.kind == "f":
        check_unit_range(values)
    colours, alpha = split_alpha(values, [int(kind) for kind in page.extrasamples])
    if photometric == 0:
        colours = (WHITE[colours.dtype] - colours).astype(colours.dtype)
    return colours, alpha


def _channels_last(page: Any) -> Pixels:
    """The numbers of one page, (H, W) or (H, W, channels)."""
    _imagecodecs("TIFF")  # tifffile needs it for most compressions and says so late
    values: Pixels = page.asarray()
    return np.moveaxis(values, 0, -1) if page.planarconfig == 2 and values.ndim == 3 else values


def encode_tiff(stream: BinaryIO, values: Pixels, alpha: bool, icc_profile: bytes | None) -> None:
    """Write ``values`` (H, W, 1 to 4) of any depth as a TIFF; with ``alpha`` the last channel is opacity."""
    _imagecodecs("TIFF")
    _tifffile().imwrite(stream, **_layout(values, alpha, icc_profile))


def encode_pages(stream: BinaryIO, pictures: Iterable[Picture]) -> None:
    """Write each of ``pictures`` as a page of one TIFF."""
    _imagecodecs("TIFF")
    with _tifffile().TiffWriter(stream) as file:
        for picture in pictures:
            file.write(**_layout(joined(picture), picture.alpha is not None, picture.icc_profile))


def encode_raw(stream: BinaryIO, values: Pixels, icc_profile: bytes | None) -> None:
    """Write ``values`` (H, W, channels) of any kind as the bands of a TIFF, of no stated colour unless 3 bytes."""
    is_rgb = values.shape[2] == 3 and values.dtype in (np.uint8, np.uint16)
    unknown = ["unspecified"] * (values.shape[2] - (3 if is_rgb else 1))
    options = _layout(values, False, icc_profile) | {
        "photometric": "rgb" if is_rgb else "minisblack",
        "extrasamples": unknown or None,
        "predictor": values.dtype.itemsize < 8,
    }
    _imagecodecs("TIFF")
    _tifffile().imwrite(stream, **options)


def joined(picture: Picture) -> Pixels:
    """Colours and opacity in one array (H, W, 1 to 4)."""
    return picture.pixels if picture.alpha is None else np.dstack((picture.pixels, picture.alpha))


def _layout(values: Pixels, alpha: bool, icc_profile: bytes | None) -> dict[str, Any]:
    """What tifffile is told of one page."""
    return {
        "data": values if values.shape[2] > 1 else values[:, :, 0],
        "photometric": "rgb" if values.shape[2] > 2 else "minisblack",
        "planarconfig": "contig" if values.shape[2] > 1 else None,
        "extrasamples": ["unassalpha"] if alpha else None,
        "compression": "zlib",
        "predictor": True,
        "iccprofile": icc_profile,
        "metadata": None,
        "software": "polyres",
    }


def split_alpha(values: Pixels, extra: list[int] | None = None) -> tuple[Pixels, Pixels | None]:
    """Colours and opacity of ``values`` (H, W) or (H, W, 1 to 4); ``extra``: TIFF's kinds of extra channels."""
    values = values[:, :, None] if values.ndim == 2 else values
    if values.shape[2] in (1, 3):
        return values, None
    colours, alpha = values[:, :, :-1], np.ascontiguousarray(values[:, :, -1])
    if extra is not None and extra[-1:] == [0]:
        raise PictureError(
            "it is a TIFF with a fourth channel of no stated meaning; expected colours and alpha"
        )
    if extra is not None and extra[-1:] == [1]:  # premultiplied
        with np.errstate(divide="ignore", invalid="ignore"):
            divided = np.where(alpha[..., None] > 0, colours / (alpha[..., None] / WHITE[alpha.dtype]), 0)
        limited = np.clip(divided, 0, WHITE[values.dtype])
        colours = (limited if values.dtype.kind == "f" else np.rint(limited)).astype(values.dtype)
    return np.ascontiguousarray(colours), alpha


def _chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def _imagecodecs(format_name: str) -> Any:
    try:
        import imagecodecs
    except ImportError:
        raise MissingExtraError(f"16-bit colour or float in {format_name}", "depth") from None
    return imagecodecs


def _tifffile() -> Any:
    try:
        import tifffile
    except ImportError:
        raise MissingExtraError("16-bit colour or float in TIFF", "depth") from None
    # What it logs of damaged files would reach the terminal; our errors tell, and an application's log still hears.
    logger = logging.getLogger("tifffile")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return tifffile
