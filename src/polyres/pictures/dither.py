"""Dithering on the way to 8 bits: steps between values broken up by a pattern that depends on nothing but the place."""

from __future__ import annotations

import numpy as np

from polyres.pictures.picture import WHITE, Pixels

#: Rows done at a time, so that the numbers between stay few.
_ROWS = 64


def dithered(pixels: Pixels, top: int = 0) -> Pixels:
    """``pixels`` (H, W, C) of 16 bits or float with 8 bits, in the mean as bright as they were, uint8.

    A threshold for each place, from the gradient noise of Jimenez (2014, "Next generation post processing in Call
    of Duty: Advanced Warfare"), decides between the two nearest values. It differs between channels. Values that
    8 bits hold, black and white among them, come out as they are. The same place always gives the same result, so
    that bands of rows put together equal the whole.

    Args:
        pixels: uint16, or float32 in [0, 1]; uint8 comes back as it is.
        top: row of the picture that ``pixels`` begin at.
    """
    if pixels.dtype == np.uint8:
        return pixels
    result = np.empty(pixels.shape, np.uint8)
    factor = 255 / WHITE[pixels.dtype]
    for start in range(0, len(pixels), _ROWS):
        part = pixels[start : start + _ROWS].astype(np.float64) * factor
        # What float32 makes of k / 255 may lie a hair below k: to a 65,536th of a step it is k.
        part = np.rint(part * 65536) / 65536
        noise = _thresholds(top + start, *part.shape)
        result[start : start + _ROWS] = np.clip(np.floor(part + noise), 0, 255)
    return result


def _thresholds(top: int, height: int, width: int, channels: int) -> Pixels:
    """Numbers in [0, 1) for each place, spread evenly over every neighbourhood."""
    shift = 5.588238 * np.arange(channels)  # moves the pattern for each channel
    rows = np.arange(top, top + height)[:, None, None] + shift
    columns = np.arange(width)[None, :, None] + shift
    noise: Pixels = np.modf(52.9829189 * np.modf(0.06711056 * columns + 0.00583715 * rows)[0])[0]
    return noise
