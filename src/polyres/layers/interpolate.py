"""Bilinear enlargement of the picture at exact rational scales, fixed or guided by learned offsets."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from polyres.layers.phases import depth_to_space, embed
from polyres.layers.precision import without_autocast
from polyres.scale import Scale, axis_taps


def bilinear(image: Tensor, scale: Scale) -> Tensor:
    """``image`` (N, C, H, W) enlarged to (N, C, round(H * scale), round(W * scale)), edges continued.

    Positions are exact and every pixel depends on its neighbourhood alone. ``torch.nn.functional.interpolate`` adds
    up positions in float32 instead, which drifts by 1e-4 across a wide picture, so that tiles would show.
    """
    channels, height, width = image.shape[1:]
    (py, px), (qy, qx) = scale.phases, scale.period
    rows, columns = scale.output_size(height, width)
    padded = F.pad(image, (1, 1 + -width % qx, 1, 1 + -height % qy), mode="replicate")
    weight = _bilinear_weight(scale, image.dtype, image.device).repeat(channels, 1, 1, 1)
    with without_autocast(image):
        maps = F.conv2d(padded, weight, stride=(qy, qx), groups=channels)
    return depth_to_space(maps, (py, px))[..., :rows, :columns]


@lru_cache(maxsize=64)
def _bilinear_weight(scale: Scale, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(py * px, 1, qy + 2, qx + 2): bilinear weights of every phase, in its window."""
    with torch.inference_mode(False), torch.no_grad():
        of_y, of_x = (
            torch.tensor([_hat(tap.delta) for tap in axis_taps(factor)], dtype=torch.float64)
            for factor in (scale.y, scale.x)
        )
        kernels = torch.einsum("yi,xj->yxij", of_y, of_x)[None, :, :, None]
        return embed(kernels, scale).to(device=device, dtype=dtype)


def _hat(delta: Fraction) -> list[float]:
    """Weights of the pixels before, at and after a centre that lies ``delta`` (-1 to 1) in its pixel."""
    before, after = max(-delta, Fraction(0)), max(delta, Fraction(0))
    return [float(before / 2), float(1 - abs(delta) / 2), float(after / 2)]


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
