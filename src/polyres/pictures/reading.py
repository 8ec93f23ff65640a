"""Files to pictures: probed before they are decoded, upright, and never of less depth than they had."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError

from polyres.errors import PictureError, PolyresError
from polyres.pictures import deep
from polyres.pictures.boxes import jp2_size
from polyres.pictures.extras import decode_heic, decode_jxl, is_heic, is_jxl
from polyres.pictures.formats import FORMATS, READ_CODECS
from polyres.pictures.metadata import Metadata, exif_of_tiff, own_metadata, read_metadata, upright
from polyres.pictures.modes import cmyk_to_rgb, from_pillow
from polyres.pictures.packets import tidy_xmp
from polyres.pictures.picture import Picture, Pixels

_FORMAT_OF_CODEC = {entry.codec: entry.name for entry in FORMATS.values()} | {"MPO": "jpeg", "DIB": "bmp"}
#: Pixels that a byte can stand for at most. Deflate makes 1,032 bytes of one, each 8 pixels in a 1-bit PNG; LZW 4,096
#: pixels of 12 bits; JPEG 512 of 8 bits, of 1 bit a block. The other formats have no bound worth checking.
_DENSEST = {"PNG": 1032 * 8, "GIF": 4096 * 8 // 9, "JPEG": 1024, "BMP": 128, "PPM": 8}
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Limits:
    """What a file must keep to; checked on its header, before anything is decoded.

    Attributes:
        max_pixels: width times height.
        min_side: pixels on the shorter side.
    """

    max_pixels: int = 256_000_000
    min_side: int = 1

    def check(self, width: int, height: int, frames: int = 1) -> None:
        """Raise :class:`PictureError` if a picture of this size, or ``frames`` of them, are outside."""
        if min(width, height) < max(1, self.min_side):
            side = max(1, self.min_side)
            raise PictureError(f"it is {width}x{height} pixels; at least {side}x{side} are needed")
        if width * height * frames > self.max_pixels:
            times = f" x {frames} frames" if frames > 1 else ""
            raise PictureError(
                f"it is {width}x{height}{times} = {width * height * frames / 1e6:.0f} megapixels; at most "
                f"{self.max_pixels / 1e6:g} are read: raise that limit (--max-megapixels) if you trust the file"
            )


def read_picture(path: str | Path, limits: Limits | None = None) -> Picture:
    """The picture in the file at ``path``, whose format is told by its content.

    8-bit, 16-bit and float pictures keep their depth; palettes become RGB (or grey, if all their colours
    are), CMYK becomes RGB through its profile. Of several frames the first is read. What was changed is in
    ``notes``.

    Raises:
        PictureError: no such file, not a picture, damaged or cut short, outside ``limits``, or of a kind that
            cannot be kept without loss.
        MissingExtraError: 16 bits a colour in a PNG or TIFF, and the ``depth`` extra is not installed.
    """
    with decoding(path) as stream:
        return decode_stream(stream, limits or Limits())


def picture_size(path: str | Path) -> tuple[int, int] | None:
    """(height, width) of the upright picture at ``path`` as its header tells it; None where it does not.

    Nothing is decoded, and nothing is raised for files that cannot be read. JPEG XL and HEIC are not told.
    """
    try:
        with decoding(path) as stream, unlimited_pillow(), Image.open(stream, formats=READ_CODECS) as image:
            width, height = image.size
            # Pillow decodes a PNG to its end to look for EXIF data behind the pixels.
            exif = {} if image.format == "PNG" else image.getexif()
            lies = exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    except PolyresError:
        return None
    if min(width, height) < 1:
        return None
    return (width, height) if lies else (height, width)


def decode_picture(stream: BinaryIO, name: str, limits: Limits | None = None) -> Picture:
    """The picture in ``stream`` (seekable); ``name`` is for messages. See :func:`read_picture`."""
    with _telling(name):
        return decode_stream(stream, limits or Limits())


@contextmanager
def decoding(path: str | Path) -> Iterator[BinaryIO]:
    """The file at ``path``, opened; whatever goes wrong in the block is told as an error of this file."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # opened, a pipe would be waited for
            raise PictureError(
                f"{path}: not a file but a pipe or a device; a picture from a pipe is read from standard input, as -"
            )
        stream = path.open("rb")
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file; expected a picture") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise PictureError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    with stream, _telling(str(path)):
        yield stream


@contextmanager
def _telling(name: str) -> Iterator[None]:
    """A block whose errors become those of the picture ``name``."""
    try:
        yield
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from error
    except PolyresError:
        raise
    except Exception as error:  # a damaged file makes decoders raise anything, from OSError to IndexError
        raise PictureError(
            f"{name}: damaged, cut short, or of a kind that is not read: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    """What a decoder's error says, if that tells a person anything: a key that is missing does not."""
    if isinstance(error, LookupError) or not str(error):
        return f"its structure is broken ({type(error).__name__})"
    return str(error).splitlines()[0]


def decode_stream(stream: BinaryIO, limits: Limits) -> Picture:
    """The picture in ``stream``; errors are raised as they come."""
    try:
        with unlimited_pillow(), Image.open(stream, formats=READ_CODECS) as image:
            limits.check(*image.size)
            _check_plausible(image, stream)
            if image.format == "JPEG2000":
                limits.check(*jp2_size(deep.head_of(image)))
            return _deep(image, stream) if deep.is_deeper_than_pillow(image) else _plain(image, stream)
    except UnidentifiedImageError:
        return _unidentified(stream, limits)


def _check_plausible(image: Image.Image, stream: BinaryIO) -> None:
    """Refuse a header that claims more pixels than the file has room for, before memory is taken for them."""
    place = stream.tell()
    size = stream.seek(0, io.SEEK_END)
    stream.seek(place)
    if image.width * image.height > _DENSEST.get(image.format or "", math.inf) * size:
        raise PictureError(
            f"its header claims {image.width}x{image.height} pixels, for which its {size} bytes have no room: "
            "it is damaged, cut short or a trap"
        )


class _PillowLimit:
    """Pillow's limit on pixels, a global of its own, set aside while any picture is decoded under ours."""

    def __init__(self) -> None:
        self._lock, self._users, self._limit = threading.Lock(), 0, Image.MAX_IMAGE_PIXELS

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """A block without the limit; such blocks may overlap in threads."""
        with self._lock:
            if not self._users:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    Image.MAX_IMAGE_PIXELS = self._limit


_PILLOW_LIMIT = _PillowLimit()


def unlimited_pillow() -> AbstractContextManager[None]:
    """A block in which Pillow decodes pictures of any size: for those that have been checked."""
    return _PILLOW_LIMIT.lifted()


def _plain(image: Image.Image, stream: BinaryIO) -> Picture:
    """A picture that Pillow decodes at full depth."""
    codec, frames, notes = image.format or "", getattr(image, "n_frames", 1), []
    if frames > 1 and codec != "MPO":  # the other frames of an MPO are previews and depth maps
        notes.append(f"the first of its {frames} frames was read (--all-frames takes all)")
    if codec == "AVIF" and deep.is_deep_avif(image):
        notes.append("more than 8 bits a colour were read as 8")
    own = own_metadata(stream, codec)
    image.load()
    turn, metadata = read_metadata(image, own)
    if image.mode == "CMYK":
        image = cmyk_to_rgb(image, metadata["icc_profile"])
        metadata["icc_profile"] = None
        notes.append("CMYK became RGB")
    name = _FORMAT_OF_CODEC.get(codec, codec.lower())
    return _upright(*from_pillow(image), turn, metadata, name, notes)


def _deep(image: Image.Image, stream: BinaryIO) -> Picture:
    """A picture of more bits a colour than Pillow keeps; Pillow still tells the metadata."""
    name = _FORMAT_OF_CODEC[image.format or ""]
    turn, metadata = read_metadata(image, own_metadata(stream, image.format))
    stream.seek(0)
    if name == "tiff":
        pixels, alpha = deep.decode_tiff(stream)[:2]
    else:
        pixels, alpha = (deep.decode_png if name == "png" else deep.decode_jp2)(stream.read())
    return _upright(pixels, alpha, turn, metadata, name, [])


def _unidentified(stream: BinaryIO, limits: Limits) -> Picture:
    """A file that Pillow does not know: JPEG XL, HEIC, a TIFF of an unusual kind, or no picture at all."""
    stream.seek(0)
    head = stream.read(12)
    if not head:
        raise PictureError("the file is empty; expected a picture")
    if is_jxl(head):
        found = decode_jxl(head + stream.read(), limits.check)
        if isinstance(found, bytes):
            return decode_stream(io.BytesIO(found), limits)
        return _upright(found[0], found[1], 1, found[2], "jxl", [])
    if is_heic(head):
        heic = decode_heic(head + stream.read(), limits.check)
        return _upright(heic[0], heic[1], 1, heic[2], "heic", [])
    if head[:4] not in _TIFF_HEADS:
        known = ", ".join(entry.upper() for entry in FORMATS)
        raise PictureError(
            f"not a picture: expected {known}, PPM, JPEG XL or HEIC, and its content is none of them"
        )
    pixels, alpha, profile, turn = deep.decode_tiff(stream, limits.check)
    _, exif = exif_of_tiff(stream)
    metadata: Metadata = {"icc_profile": profile, "exif": exif, **own_metadata(stream, "TIFF")}
    return _upright(pixels, alpha, turn, metadata, "tiff", [])


def _upright(
    pixels: Pixels, alpha: Pixels | None, turn: int, metadata: Metadata, name: str, notes: list[str]
) -> Picture:
    """The picture with the orientation ``turn`` applied."""
    alpha = None if alpha is None else upright(alpha, turn)
    if xmp := metadata.get("xmp"):
        metadata["xmp"] = tidy_xmp(xmp)
    return Picture(upright(pixels, turn), alpha, **metadata, format=name, notes=tuple(notes))
