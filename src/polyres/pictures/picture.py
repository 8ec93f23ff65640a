"""The picture itself: pixels, transparency, and what else came with the file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyres.errors import PictureError

#: Pixels of any depth: uint8 (0 to 255), uint16 (0 to 65535) or float32 (0 to 1).
Pixels = NDArray[Any]

#: The value that means white, or fully opaque, at each depth.
WHITE: dict[np.dtype[Any], float] = {
    np.dtype("uint8"): 255,
    np.dtype("uint16"): 65535,
    np.dtype("float32"): 1,
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A still picture, upright, with its colours as they are in the file.

    Attributes:
        pixels: (H, W, 1) grey or (H, W, 3) RGB, uint8, uint16 or float32 in [0, 1]; not multiplied by alpha.
        alpha: (H, W) opacity of the same dtype, or None if the picture has no transparency.
        icc_profile: the colour profile that the pixels are in, byte for byte as it was; None means sRGB.
        exif: EXIF block without the orientation, which has been applied to the pixels.
        xmp: XMP packet, its orientation set to upright.
        iptc: IPTC-IIM packet (captions and credits of the press), byte for byte as it was.
        format: name of the format it was read from, as in :data:`polyres.pictures.FORMATS`.
        notes: what was changed or left out in reading, one sentence each.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    format: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        pixels, alpha = self.pixels, self.alpha
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
            raise PictureError(f"pixels must be of shape (H, W, 1) or (H, W, 3); got {pixels.shape}")
        if pixels.dtype not in WHITE:
            raise PictureError(f"pixels must be uint8, uint16 or float32; got {pixels.dtype}")
        if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
            raise PictureError(
                f"alpha must be {pixels.dtype} of shape {pixels.shape[:2]} like the pixels; "
                f"got {alpha.dtype} of shape {alpha.shape}"
            )

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Pixels in a row."""
        return int(self.pixels.shape[1])

    @property
    def is_grey(self) -> bool:
        """Whether there is one channel, not three."""
        return bool(self.pixels.shape[2] == 1)

    @property
    def white(self) -> float:
        """The value of white: 255, 65535 or 1."""
        return WHITE[self.pixels.dtype]

    @property
    def is_opaque(self) -> bool:
        """Whether no pixel is transparent."""
        return self.alpha is None or bool((self.alpha == self.white).all())

    def without_metadata(self) -> Picture:
        """The same pixels without EXIF, XMP and IPTC; the profile stays, for without it colours change."""
        return replace(self, exif=None, xmp=None, iptc=None)

    def at_depth(self, dtype: Any) -> Picture:
        """The picture at another depth: uint8, uint16 or float32."""
        depth = np.dtype(dtype)
        alpha = None if self.alpha is None else to_depth(self.alpha, depth)
        return replace(self, pixels=to_depth(self.pixels, depth), alpha=alpha)


def to_depth(values: Pixels, dtype: np.dtype[Any]) -> Pixels:
    """``values`` at another depth: white stays white, and fewer bits round to nearest."""
    if values.dtype == dtype:
        return values
    result: Pixels
    if dtype.kind == "f":
        result = np.divide(values, WHITE[values.dtype], dtype=np.float32)
    elif values.dtype.kind == "f":
        result = np.rint(np.clip(values, 0, 1) * np.float32(WHITE[dtype])).astype(dtype)
    elif dtype == np.uint16:
        result = values.astype(np.uint16) * np.uint16(257)
    else:
        result = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return result


def check_unit_range(values: Pixels) -> None:
    """Raise :class:`PictureError` unless all floats in ``values`` are in [0, 1], give or take rounding."""
    low, high = float(values.min()), float(values.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # written so that NaN fails
        raise PictureError(f"its pixels are floats from {low:g} to {high:g}; expected 0 (black) to 1 (white)")
