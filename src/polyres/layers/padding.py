"""Padding a picture to the size that a network needs, whatever its own size."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Mode = Literal["reflect", "symmetric"]


def pad_to(image: Tensor, multiple_of: int, minimum_size: int = 1, mode: Mode = "reflect") -> Tensor:
    """``image`` (N, C, H, W) continued right and below until H and W are multiples and large enough.

    ``"reflect"`` mirrors about the edge pixel, ``"symmetric"`` repeats it. A picture smaller than the padding is
    mirrored back and forth, so that any size from 1x1 works.
    """
    if multiple_of == 1 and minimum_size <= 1:
        return image
    for axis in (-2, -1):
        least = torch.sym_max(image.shape[axis], minimum_size)
        target = (least + multiple_of - 1) // multiple_of * multiple_of
        image = extend(image, axis, target, mode)
    return image


def extend(image: Tensor, axis: int, target: int, mode: Mode = "reflect") -> Tensor:
    """``image`` continued at the end of one axis until that has ``target`` entries; itself if it has them."""
    size = image.shape[axis]
    # In an export sizes are symbols, and what is written down must hold whether they are equal or not.
    if not isinstance(target, torch.SymInt) and target == size:
        return image
    return image.index_select(axis, _mirrored(size, target, mode, image.device))


def _mirrored(size: int, target: int, mode: Mode, device: torch.device) -> Tensor:
    """Source indices of ``target`` pixels when ``size`` of them are mirrored back and forth."""
    index = torch.arange(target, device=device)
    if mode == "symmetric":
        index = index % _tensor(2 * size, index)
        return torch.minimum(index, 2 * size - 1 - index)
    index = index % _tensor(torch.sym_max(2 * size - 2, 1), index)
    return torch.minimum(index, 2 * size - 2 - index)


def _tensor(size: int, like: Tensor) -> Tensor:
    """``size`` as a tensor: the ONNX exporter takes no remainder by a symbol."""
    return torch.scalar_tensor(size, dtype=like.dtype, device=like.device)
