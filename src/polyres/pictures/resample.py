"""Pictures resampled by fixed filters, antialiased where they shrink: the work that needs no network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from PIL import Image

from polyres.pictures.picture import WHITE, Pixels

#: Pixels that the wider of the two filters reaches to either side where it does not shrink.
_LOBES = 3


def resample(values: Pixels, height: int, width: int, sharp: bool = True) -> Pixels:
    """``values`` (H, W, C) or (H, W) at ``height`` x ``width``, same dtype, clipped to black and white.

    Args:
        values: uint8, uint16 or float32.
        height: rows wanted.
        width: pixels a row wanted.
        sharp: Lanczos of three lobes; otherwise bicubic, which overshoots less.

    An area of one value keeps it exactly.
    """
    if values.shape[:2] == (height, width):
        return values
    return _resampled(values, (0, values.shape[0]), height, width, sharp)


def resample_bands(
    bands: Iterator[Pixels], rows: int, height: int, width: int, sharp: bool = True, step: int = 256
) -> Iterator[Pixels]:
    """The same for values that come in bands, top to bottom, ``step`` rows of the result at a time.

    What has been used is let go. Bands begin and end between pixels, which Pillow is told in single precision: a
    value of integers may differ by one from that of the whole.

    Args:
        bands: (rows, W, C) or (rows, W) each, ``rows`` rows together.
        rows: of all bands.
        height: rows wanted.
        width: pixels a row wanted.
        sharp: as for :func:`resample`.
        step: rows that are given out at a time.
    """
    ratio, kept, first, last = Fraction(rows, height), list[Pixels](), 0, 0
    reach = math.ceil(_LOBES * max(ratio, Fraction(1))) + 1
    for start in range(0, height, step):
        stop = min(start + step, height)
        low, high = max(0, math.floor(start * ratio) - reach), min(rows, math.ceil(stop * ratio) + reach)
        while last < high:
            kept.append(next(bands))
            last += len(kept[-1])
        while first + len(kept[0]) <= low:
            first += len(kept.pop(0))
        box = float(start * ratio - low), float(stop * ratio - low)
        yield _resampled(_between(kept, low - first, high - first), box, stop - start, width, sharp)
    for _ in bands:  # what makes them may have something to do after the last
        pass


def _between(bands: list[Pixels], start: int, stop: int) -> Pixels:
    """The rows from ``start`` to ``stop`` of ``bands``; those of one band are not copied."""
    parts, top = [], 0
    for band in bands:
        parts.append(band[max(0, start - top) : max(0, stop - top)])
        top += len(band)
    parts = [part for part in parts if len(part)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _resampled(values: Pixels, rows: tuple[float, float], height: int, width: int, sharp: bool) -> Pixels:
    """What lies between two ordinates of ``values``, at ``height`` x ``width``; the filter looks beyond them."""
    kernel = Image.Resampling.LANCZOS if sharp else Image.Resampling.BICUBIC
    size, box = (width, height), (0, rows[0], values.shape[1], rows[1])
    if values.dtype == np.uint8:
        flat = values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
        resized = np.asarray(Image.fromarray(np.ascontiguousarray(flat)).resize(size, kernel, box))
        return resized.reshape(height, width, *values.shape[2:])
    planes = values.reshape(*values.shape[:2], -1)
    result = np.empty((height, width, planes.shape[2]), values.dtype)
    for index in range(planes.shape[2]):  # Pillow resamples deep pixels in single planes of floats
        plane = Image.fromarray(planes[:, :, index].astype(np.float32)).resize(size, kernel, box)
        limited = np.clip(np.asarray(plane), 0, WHITE[values.dtype])
        result[:, :, index] = limited if values.dtype.kind == "f" else np.rint(limited)
    return result.reshape(height, width, *values.shape[2:])
