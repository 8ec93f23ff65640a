"""The resize of :mod:`polyres.data.resize` for batches of torch tensors, on any device and differentiable.

The weights are the same ones; they are applied as two dense matrix products, which suits training crops and
accelerators. For whole photographs on a CPU the array version is faster.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from polyres.data.resampling import Axis, Edge
from polyres.data.resize import plan_axes
from polyres.errors import PictureError
from polyres.scale import ScaleLike


def resize_tensor(
    image: Tensor,
    *,
    scale: ScaleLike | None = None,
    size: tuple[int, int] | None = None,
    kernel: str = "bicubic",
    antialias: bool = True,
    edge: Edge = "mirror",
) -> Tensor:
    """``image`` (..., H, W) of any floating type, resized in that type; neither rounded nor clamped.

    The arguments, the size of the result and the errors are those of :func:`polyres.data.resize.resize`.
    """
    if not image.is_floating_point() or image.ndim < 2 or not image.numel():
        raise PictureError(
            f"resize_tensor takes a floating tensor (..., H, W); got {image.dtype} of shape {tuple(image.shape)}"
        )
    height, width = image.shape[-2:]
    for name, weights in plan_axes(height, width, scale, size, kernel, antialias, edge):
        matrix = _matrix(weights, image.dtype, image.device)
        image = matrix @ image if name == "rows" else image @ matrix.mT
    return image


@lru_cache(maxsize=64)
def _matrix(weights: Axis, dtype: torch.dtype, device: torch.device) -> Tensor:
    # A tensor born in inference mode could never take part in a backward pass; the cache serves both.
    with torch.inference_mode(False):
        return torch.from_numpy(weights.dense()).to(device=device, dtype=dtype)
