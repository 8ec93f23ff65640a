"""Pillow's image modes to and from arrays of grey or RGB with opacity apart."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from polyres.errors import PictureError
from polyres.pictures.picture import Pixels, check_unit_range

_GREY = ("1", "L", "LA", "La")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr")
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


def from_pillow(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    """Colours (H, W, 1 or 3) and opacity (H, W) of a loaded image of any mode but CMYK.

    Raises:
        PictureError: a mode that holds neither grey nor RGB, or floats that are not in [0, 1].
    """
    if image.mode.startswith("I;16"):
        return _deep_grey(image)
    if image.mode == "F":
        values = np.array(image, np.float32)
        check_unit_range(values)
        return values[:, :, None], None
    if image.mode in _GREY:
        return _converted(image, "L", "LA")
    if image.mode in _COLOUR:
        colours, alpha = _converted(image, "RGB", "RGBA")
        grey = image.mode in ("P", "PA") and bool((colours == colours[:, :, :1]).all())
        return (colours[:, :, :1].copy() if grey else colours), alpha
    raise PictureError(f"its pixels are of mode {image.mode}; expected grey or RGB, 8 bits, 16 bits or float")


def to_pillow(pixels: Pixels, alpha: Pixels | None) -> Image.Image:
    """An image of 8 bits, or of grey of any depth without ``alpha``."""
    if alpha is not None:
        return Image.fromarray(np.dstack((pixels, alpha)))
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def cmyk_to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """CMYK in sRGB, through its own profile where it has one that works."""
    if profile:
        try:
            source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile says nothing; the plain conversion is what other readers show
    return image.convert("RGB")


def _converted(image: Image.Image, opaque: str, transparent: str) -> tuple[Pixels, Pixels | None]:
    """Colours and opacity by way of the two 8-bit modes ``opaque`` and ``transparent``."""
    if image.mode in ("La", "RGBa"):  # premultiplied; Pillow knows one way out of each
        image = image.convert(image.mode.upper())
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        values = np.asarray(image if image.mode == transparent else image.convert(transparent))
        return values[:, :, :-1].copy(), values[:, :, -1].copy()
    values = np.array(image if image.mode == opaque else image.convert(opaque))
    return (values[:, :, None] if values.ndim == 2 else values), None


def _deep_grey(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    """Grey of 16 bits, one value of which may stand for transparent."""
    values = np.array(image).astype(np.uint16)
    key = image.info.get("transparency")
    alpha = np.where(values == key, 0, 65535).astype(np.uint16) if isinstance(key, int) else None
    return values[:, :, None], alpha
