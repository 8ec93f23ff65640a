"""Pictures for analyses: the middle of a file, or a drawn one that has something of everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polyres.data import read_rgb, resize
from polyres.data.pairs import inverse
from polyres.errors import UsageError
from polyres.scale import Scale


def picture(path: Path | None, side: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8: up to ``side`` pixels square from the middle of a file; a drawn picture without one.

    Raises:
        PictureError: a file that cannot be read.
        UsageError: a side too small to analyse anything on.
    """
    if side < 16:
        raise UsageError(f"an analysis needs a picture of 16 pixels or more; got --size {side}")
    if path is None:
        return drawn(side)
    whole = read_rgb(path)
    top, left = max(0, (whole.shape[0] - side) // 2), max(0, (whole.shape[1] - side) // 2)
    return whole[top : top + side, left : left + side]


def drawn(side: int) -> npt.NDArray[np.uint8]:
    """A square picture of rings that grow finer outwards, slanted edges, grain and slow changes of colour."""
    y, x = np.mgrid[0:side, 0:side] / side
    rings = np.cos(40 * side / 64 * ((x - 0.35) ** 2 + (y - 0.4) ** 2) * np.pi)
    edges = np.sign(np.sin(9 * x + 5 * y)) * (x + y > 1)
    grain = np.random.default_rng(0).normal(size=(side, side)) * (x > y) * 0.15
    planes = [
        0.5 + 0.2 * rings + 0.15 * edges + 0.1 * grain + 0.1 * slope for slope in (x - y, y - x, x + y - 1)
    ]
    return np.asarray(np.rint(np.clip(np.stack(planes, axis=-1), 0, 1) * 255), dtype=np.uint8)


def tensor(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 as (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()


def shrunk(high: npt.NDArray[np.uint8], scale: Scale) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """MATLAB's bicubic of ``high`` by ``scale``, and ``high`` cropped to what belongs to it.

    Raises:
        UsageError: a picture smaller than one period of the scale.
    """
    rows, columns = scale.phases
    height, width = high.shape[0] // rows * rows, high.shape[1] // columns * columns
    if not height or not width:
        raise UsageError(f"a picture of {high.shape[1]}x{high.shape[0]} is too small for scale {scale}")
    cropped = high[:height, :width]
    return np.asarray(resize(cropped, scale=inverse(scale))), cropped
