"""The colour planes that a metric looks at, and rounding to 8 bits as MATLAB rounds."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from polyres.errors import DataError

Float: TypeAlias = npt.NDArray[np.float64]

_BT601_LIMITED = np.array([65.481, 128.553, 24.966]) / 255
_BT601_FULL = np.array([0.299, 0.587, 0.114])


def to_y(picture: npt.NDArray[Any]) -> Float:
    """BT.601 luma in limited range, as MATLAB's ``rgb2ycbcr``: (H, W, 3) in [0, 255] -> (H, W) in [16, 235], unrounded.

    Raises:
        DataError: not an RGB picture.
    """
    return np.asarray(_rgb(picture) @ _BT601_LIMITED + 16)


def to_full_range_y(picture: npt.NDArray[Any]) -> Float:
    """BT.601 luma in full range, the Y of YIQ and JPEG: (H, W, 3) in [0, 255] -> (H, W) in [0, 255], unrounded.

    No super-resolution paper measures so; two well-known metric libraries do by default.

    Raises:
        DataError: not an RGB picture.
    """
    return np.asarray(_rgb(picture) @ _BT601_FULL)


def quantise(values: npt.NDArray[Any], peak: int = 255) -> Float:
    """``values`` clamped to [0, peak] and rounded to whole numbers, halves up (half away from zero), as float64."""
    rounded = np.clip(np.asarray(values, dtype=np.float64), 0, peak)
    rounded += 0.5
    return np.floor(rounded, out=rounded)


def _rgb(picture: npt.NDArray[Any]) -> Float:
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise DataError(f"luma needs an RGB picture (H, W, 3); got shape {picture.shape}")
    return np.asarray(picture, dtype=np.float64)
