"""Handling: what is done to a picture before the work and undone after it, besides enlarging, as a user asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polyres.pictures.dither import dithered
from polyres.pictures.picture import Picture, to_depth
from polyres.pictures.tones import Space, from_space, to_space

#: Depths by the bits that users name them by.
DEPTHS: dict[int, np.dtype[Any]] = {8: np.dtype("uint8"), 16: np.dtype("uint16"), 32: np.dtype("float32")}


@dataclass(frozen=True)
class Handling:
    """What applies to every picture of a run.

    Attributes:
        space: where the network works: in the values ``"own"`` to the file, in ``"srgb"``, or in ``"linear"`` light.
        depth: bits of the result: 8, 16 or 32 (float); None: as the picture had.
        dither: break up the steps between 8-bit values.
        strip_metadata: leave EXIF, XMP and IPTC out of the result; the colour profile stays.
    """

    space: Space = "own"
    depth: int | None = None
    dither: bool = False
    strip_metadata: bool = False

    def before(self, picture: Picture) -> Picture:
        """``picture`` as the upscaler is to see it: in the space and at the depth to work in.

        Raises:
            PictureError: a colour profile without tone curves, and another space than its own.
        """
        if self.space != "own":
            values = to_space(picture.pixels, picture.icc_profile, self.space)
            return replace(picture.at_depth(np.float32), pixels=values)
        if self.depth == 32:
            return picture.at_depth(np.float32)
        if picture.pixels.dtype == np.uint8 and (self.dither or self.depth == 16):
            return picture.at_depth(np.uint16)
        return picture

    def after(self, enlarged: Picture, original: Picture) -> Picture:
        """The result of the work, back in the values of its profile and at the depth wanted.

        Args:
            enlarged: what became of :meth:`before`'s result.
            original: the picture as it was read.
        """
        depth = DEPTHS[self.depth] if self.depth else original.pixels.dtype
        pixels = enlarged.pixels
        if self.space != "own":
            pixels = from_space(pixels, original.icc_profile, self.space)
        pixels = dithered(pixels) if self.dither and depth == np.uint8 else to_depth(pixels, depth)
        alpha = None if enlarged.alpha is None else to_depth(enlarged.alpha, depth)
        result = replace(enlarged, pixels=pixels, alpha=alpha)
        return result.without_metadata() if self.strip_metadata else result
