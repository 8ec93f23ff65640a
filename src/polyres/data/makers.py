"""The ways in which the LR pictures of the field were made, re-made here so that a folder can be recognised.

OpenCV's formulas are its fixed-point ones for 8 bits, written from their description and compared with the library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from polyres.data.resize import resize
from polyres.scale import Scale

Pixels: TypeAlias = npt.NDArray[np.uint8]

#: OpenCV's weights are whole numbers over this, for one axis.
_UNIT = 2048


@dataclass(frozen=True)
class Maker:
    """One way to make LR.

    Attributes:
        name: what reports call it.
        summary: who makes LR so.
        make: from HR (H, W, 3), cropped to fit, and a scale to LR.
    """

    name: str
    summary: str
    make: Callable[[Pixels, Scale], Pixels]


def low_size(high: Pixels, scale: Scale) -> tuple[int, int]:
    """(height, width) of the LR of ``high``, which covers it exactly."""
    return int(high.shape[0] / scale.y), int(high.shape[1] / scale.x)


def opencv_cubic(high: Pixels, scale: Scale) -> Pixels:
    """``cv2.resize(..., INTER_CUBIC)``: a = -3/4 over four pixels whatever the scale, hence full of aliasing."""
    rows, columns = low_size(high, scale)
    along_x = _opencv_weights(high.shape[1], columns, scale.x)
    along_y = _opencv_weights(high.shape[0], rows, scale.y)
    wide = np.einsum("hwtc,wt->hwc", high[:, along_x[0]].astype(np.int64), along_x[1])
    total = np.einsum("htwc,ht->hwc", wide[along_y[0]], along_y[1])
    return np.asarray(np.clip(np.rint(total / _UNIT**2), 0, 255), dtype=np.uint8)


def _opencv_weights(
    length: int, outputs: int, step: Fraction
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(outputs, 4) pixels and weights: positions in float32, the last weight what the others leave of one."""
    place = ((np.arange(outputs) + 0.5) * float(step) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    x, a = place - first.astype(np.float32), np.float32(-0.75)
    one = np.float32(1)
    left = ((a * (x + one) - 5 * a) * (x + one) + 8 * a) * (x + one) - 4 * a
    near = ((a + 2) * x - (a + 3)) * x * x + one
    far = ((a + 2) * (one - x) - (a + 3)) * (one - x) * (one - x) + one
    weights = np.stack([left, near, far, one - left - near - far], axis=1)
    indices = np.clip(first[:, None] + np.arange(-1, 3), 0, length - 1)
    return indices, np.rint(weights * np.float32(_UNIT)).astype(np.int64)


def opencv_area(high: Pixels, scale: Scale) -> Pixels:
    """``cv2.resize(..., INTER_AREA)``: the mean of what an LR pixel covers; exact to the bit for whole scales."""
    rows, columns = low_size(high, scale)
    blocks = _covered(rows, high.shape[0]) @ high.transpose(2, 0, 1) @ _covered(columns, high.shape[1]).T
    # At x2 OpenCV rounds halves up, with whole numbers; else to even.
    rounded = np.floor(blocks + 0.5) if scale == Scale.of(2) else np.rint(blocks)
    return np.asarray(rounded.transpose(1, 2, 0), dtype=np.uint8)


def _covered(outputs: int, length: int) -> npt.NDArray[np.float64]:
    """(outputs, length): the part of each LR pixel that each HR pixel fills."""
    edges = np.arange(outputs + 1) * (length / outputs)
    pixels = np.arange(length)
    first = np.maximum(edges[:-1, None], pixels)
    last = np.minimum(edges[1:, None], pixels + 1)
    return np.asarray(np.clip(last - first, 0, None) * (outputs / length))


def opencv_nearest(high: Pixels, scale: Scale) -> Pixels:
    """``cv2.resize(..., INTER_NEAREST)``: the pixel at the corner of what an LR pixel covers."""
    rows, columns = (np.arange(size) for size in low_size(high, scale))
    picked = np.floor(rows * float(scale.y)).astype(int), np.floor(columns * float(scale.x)).astype(int)
    return np.asarray(high[np.ix_(*picked)])


def _pil(high: Pixels, scale: Scale, kernel: Image.Resampling) -> Pixels:
    rows, columns = low_size(high, scale)
    return np.asarray(Image.fromarray(high).resize((columns, rows), kernel))


def _matlab(high: Pixels, scale: Scale, **options: str) -> Pixels:
    return np.asarray(resize(high, size=low_size(high, scale), **options))  # type: ignore[arg-type]


#: What a folder is compared with, the most usual first; the first of equals wins.
MAKERS = (
    Maker("matlab", "MATLAB's imresize, rounded after each axis: the published test sets", _matlab),
    Maker(
        "matlab-repeat",
        "the same with repeated edge pixels, MATLAB of about 2010: SelfExSR, RCAN",
        partial(_matlab, edge="repeat"),
    ),
    Maker(
        "matlab-double",
        "MATLAB's imresize in double precision, rounded once: BasicSR, KAIR",
        partial(_matlab, quantise="once"),
    ),
    Maker("pil", "Pillow's bicubic: IGConv's training", partial(_pil, kernel=Image.Resampling.BICUBIC)),
    Maker("pil-lanczos", "Pillow's Lanczos", partial(_pil, kernel=Image.Resampling.LANCZOS)),
    Maker("pil-bilinear", "Pillow's bilinear", partial(_pil, kernel=Image.Resampling.BILINEAR)),
    Maker("opencv-cubic", "OpenCV's INTER_CUBIC, not antialiased", opencv_cubic),
    Maker("opencv-area", "OpenCV's INTER_AREA, the mean of each block", opencv_area),
    Maker("opencv-nearest", "OpenCV's INTER_NEAREST, pixels picked", opencv_nearest),
)
