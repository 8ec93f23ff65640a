"""Maxima of a picture's regions, in a form that exporters can write down for every size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def region_maxima(features: Tensor, reduction: int) -> Tensor:
    """The maxima of ``H // reduction`` by ``W // reduction`` regions that cover ``features`` evenly.

    Region ``i`` of ``n`` along a side of ``size`` is ``floor(i * size / n)`` to ``ceil((i + 1) * size / n)``:
    neighbours overlap by a pixel where the size is no multiple. Equal to the last bit to
    ``F.adaptive_max_pool2d``, which has no ONNX form for sizes that depend on the picture's.

    Args:
        features: (N, C, H, W), each side at least ``reduction``.
        reduction: how many times smaller the result is.

    Returns:
        (N, C, H // reduction, W // reduction).
    """
    rows, columns = features.shape[-2] // reduction, features.shape[-1] // reduction
    if not torch.compiler.is_exporting():
        return F.adaptive_max_pool2d(features, (rows, columns))
    return _maxima_along(_maxima_along(features, -2, reduction), -1, reduction)


def nearest_to(features: Tensor, height: int, width: int) -> Tensor:
    """``features`` (N, C, H, W) repeated to ``height`` x ``width``, as ``F.interpolate`` does with ``nearest``.

    Engines differ in how they round a position on the edge of two pixels; exported, positions are whole numbers.
    """
    if not torch.compiler.is_exporting():
        return F.interpolate(features, size=(height, width), mode="nearest")
    for axis, size in ((-2, height), (-1, width)):
        here = torch.arange(size, device=features.device) * features.shape[axis] // size
        features = features.index_select(axis, here)
    return features


def _maxima_along(features: Tensor, axis: int, reduction: int) -> Tensor:
    """The maxima of the regions of one axis. A region has fewer than twice ``reduction`` pixels."""
    size = features.shape[axis]
    count = size // reduction
    region = torch.arange(count, device=features.device)
    first = region * size // count
    last = ((region + 1) * size + count - 1) // count - 1
    maxima = features.index_select(axis, first)
    for step in range(1, 2 * reduction - 1):
        maxima = torch.maximum(maxima, features.index_select(axis, torch.minimum(first + step, last)))
    return maxima
