"""Pictures to and from tensors in [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from polyres.errors import PictureError
from polyres.pictures.picture import WHITE, Picture, Pixels


def to_tensor(picture: Picture) -> Tensor:
    """The colours as (1, C, H, W) float32 in [0, 1], C being 1 for grey and 3 for RGB."""
    return unit_tensor(picture.pixels).permute(2, 0, 1)[None].contiguous()


def from_tensor(image: Tensor, dtype: Any = np.uint8) -> Picture:
    """A picture of ``dtype`` (uint8, uint16 or float32) from (1, C, H, W) or (C, H, W), clamped to [0, 1]."""
    planes = image[0] if image.ndim == 4 and image.shape[0] == 1 else image
    if planes.ndim != 3:
        raise PictureError(
            f"one image of shape (C, H, W) or (1, C, H, W) is expected; got {tuple(image.shape)}"
        )
    return Picture(pixels_of(planes.permute(1, 2, 0), np.dtype(dtype)))


def unit_tensor(pixels: Pixels) -> Tensor:
    """``pixels`` of any depth and shape as a float32 tensor of that shape in [0, 1]; never shares memory."""
    return torch.from_numpy(np.divide(pixels, WHITE[pixels.dtype], dtype=np.float32))


def pixels_of(values: Tensor, dtype: np.dtype[Any]) -> Pixels:
    """``values`` of any shape, clamped to [0, 1] and rounded to ``dtype``."""
    limited = values.detach().float().clamp(0, 1)
    if dtype.kind == "f":
        return limited.contiguous().cpu().numpy()
    whole = limited.mul_(WHITE[dtype]).round_()
    narrow = whole.to(torch.uint8 if dtype == np.uint8 else torch.int32)
    return narrow.contiguous().cpu().numpy().astype(dtype, copy=False)
