"""Pictures resampled by fixed filters, antialiased where they shrink: the work that needs no network."""

from __future__ import annotations

import numpy as np
from PIL import Image

from polyres.pictures.picture import WHITE, Pixels


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
    kernel = Image.Resampling.LANCZOS if sharp else Image.Resampling.BICUBIC
    if values.dtype == np.uint8:
        flat = values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
        resized = np.asarray(Image.fromarray(np.ascontiguousarray(flat)).resize((width, height), kernel))
        return resized.reshape(height, width, *values.shape[2:])
    planes = values.reshape(*values.shape[:2], -1)
    result = np.empty((height, width, planes.shape[2]), values.dtype)
    for index in range(
        planes.shape[2]
    ):  # one at a time: Pillow resamples deep pixels in single planes of floats
        plane = Image.fromarray(planes[:, :, index].astype(np.float32)).resize((width, height), kernel)
        limited = np.clip(np.asarray(plane), 0, WHITE[values.dtype])
        result[:, :, index] = limited if values.dtype.kind == "f" else np.rint(limited)
    return result.reshape(height, width, *values.shape[2:])
