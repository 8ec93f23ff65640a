"""Bilinear enlargement of the picture at exact rational scales, fixed or guided by learned offsets."""

from __future__ import annotations

from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from polyres.scale import Scale


def bilinear(image: Tensor, scale: Scale) -> Tensor:
    """``image`` (N, C, H, W) enlarged to (N, C, round(H * scale), round(W * scale)), edges continued.

    Equals ``interpolate(mode="bilinear", align_corners=False)`` where the size is a whole number, and keeps that
    geometry, rather than stretching it, where it is not.
    """
    height, width = image.shape[-2:]
    rows, columns = scale.output_size(height, width)
    (qy, qx) = scale.period
    below, right = -height % qy, -width % qx
    if below or right:
        image = F.pad(image, (0, right, 0, below), mode="replicate")
    factors = (float(scale.y), float(scale.x))
    return F.interpolate(image, scale_factor=factors, mode="bilinear")[..., :rows, :columns]


def centres(count: int, factor: Fraction, like: Tensor) -> Tensor:
    """LR coordinates (float32 or wider) of the first ``count`` HR pixel centres along an axis: ``(i + 1/2) q/p``."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    index = torch.arange(count, device=like.device, dtype=dtype)
    return (index + 0.5) * factor.denominator / factor.numerator


def sample_at(image: Tensor, offset: Tensor, scale: Scale) -> Tensor:
    """Bilinear samples of ``image`` near the HR pixel centres, each group of channels at positions of its own.

    Coordinates are float32 at least: in half precision they would be wrong by whole pixels on wide pictures.

    Args:
        image: (N, C, H, W).
        offset: (N, 2 * groups, round(H * scale), round(W * scale)) in LR pixels: x of every group, then y; the
            number of groups divides C.

    Returns:
        (N, C, round(H * scale), round(W * scale)) in the image's dtype; edges continued.
    """
    count, channels, height, width = image.shape
    groups, rows, columns = offset.shape[1] // 2, *offset.shape[-2:]
    x = centres(columns, scale.x, image)
    y = centres(rows, scale.y, image)[:, None]
    dx, dy = offset.to(x.dtype).chunk(2, dim=1)
    grid = torch.stack(((x + dx) * (2 / width) - 1, (y + dy) * (2 / height) - 1), dim=-1)
    sampled = F.grid_sample(
        image.reshape(count * groups, channels // groups, height, width).to(x.dtype),
        grid.reshape(count * groups, rows, columns, 2),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return sampled.reshape(count, channels, rows, columns).to(image.dtype)
