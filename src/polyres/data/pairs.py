"""A high resolution picture and the low resolution one that belongs to it: reading, cropping, checking sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from polyres.data.files import read_rgb
from polyres.data.resize import resize
from polyres.errors import DataError
from polyres.scale import Scale

Pixels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """One HR picture and its LR of one scale.

    Attributes:
        group: the name of the set.
        name: the HR file's stem; for SelfExSR the common part of the two names.
        scale: how much larger HR is than LR.
        high: the HR file.
        low: the LR file, or None where it is made from HR on reading.
    """

    group: str
    name: str
    scale: Scale
    high: Path
    low: Path | None = None

    def read(self) -> tuple[Pixels, Pixels]:
        """``(low, high)``: uint8 (h, w, 3) and (H, W, 3), HR cropped at the bottom and right to LR times scale.

        An LR that has no file is MATLAB's bicubic of the cropped HR.

        Raises:
            PictureError: a file that cannot be read.
            DataError: sizes that do not belong to the scale, or one grey and the other in colour; the message names
                the files.
        """
        if self.low is None:
            high = self.read_high()
            return resize(high, scale=inverse(self.scale)), high
        low, high = read_rgb(self.low), read_rgb(self.high)
        height, width = self.scale.output_size(*low.shape[:2])
        spare = high.shape[0] - height, high.shape[1] - width
        if min(spare) < 0 or spare[0] >= math.ceil(self.scale.y) or spare[1] >= math.ceil(self.scale.x):
            raise DataError(
                f"'{self.low}' is {_size(low)}, so its HR should be {width}×{height} at scale {self.scale}, or larger "
                f"by less than {self.scale} pixels; '{self.high}' is {_size(high)}. Check that they are a pair"
            )
        if is_grey(low) != is_grey(high):
            kinds = ("grey", "in colour") if is_grey(low) else ("in colour", "grey")
            raise DataError(
                f"'{self.low}' is {kinds[0]}, but '{self.high}' is {kinds[1]}. Check that they are a pair"
            )
        return low, high[:height, :width]

    def read_high(self) -> Pixels:
        """HR alone, uint8 (H, W, 3), cropped to fit the scale whatever the size of an LR file."""
        return crop_to_fit(read_rgb(self.high), self.scale, str(self.high))


def is_grey(picture: Pixels) -> bool:
    """Whether every pixel of ``picture`` (H, W, 3) has three equal channels."""
    first = picture[..., :1]
    return bool((picture[:1] == first[:1]).all() and (picture == first).all())  # the first row settles most


def crop_to_fit(high: Pixels, scale: Scale, name: str = "the picture") -> Pixels:
    """``high`` cropped at the bottom and right so that the pixels of an LR cover it exactly.

    For a scale p/q in lowest terms its sides become multiples of p, which is s itself for whole scales.

    Raises:
        DataError: a side shorter than p.
    """
    rows, columns = scale.phases
    height, width = high.shape[0] // rows * rows, high.shape[1] // columns * columns
    if not height or not width:
        raise DataError(f"'{name}' is {_size(high)}; scale {scale} needs at least {columns}×{rows} pixels")
    return high[:height, :width]


def inverse(scale: Scale) -> tuple[Fraction, Fraction]:
    """The factors (height, width) that undo ``scale``."""
    return 1 / scale.y, 1 / scale.x


def _size(picture: Pixels) -> str:
    return f"{picture.shape[1]}×{picture.shape[0]}"
