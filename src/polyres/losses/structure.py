"""Losses that compare local structure."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from polyres.errors import ConfigError
from polyres.losses.base import Loss
from polyres.registry import Entry

#: Published weights of the levels, from the finest.
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

_WINDOW = 11
_SIGMA = 1.5
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2

#: Contrast terms are kept above this, because powers below one have no slope at zero and none below it.
_FLOOR = 1e-4


def ms_ssim(output: Tensor, target: Tensor, levels: int = 5) -> Tensor:
    """Multi-scale structural similarity of pictures in [0, 1], mean over pictures and channels; 1 where equal.

    Args:
        output: (N, C, H, W), at least 11 pixels a side.
        target: of the same shape.
        levels: sizes compared, each half the one before; as many of them as the pictures allow, with the published
            weights brought to a sum of one.

    Raises:
        ConfigError: pictures smaller than the window of 11 pixels.
    """
    side = min(output.shape[-2:])
    if side < _WINDOW:
        raise ConfigError(
            f"ms-ssim compares windows of {_WINDOW} pixels; got pictures of {side} pixels a side"
        )
    used = min(levels, (side // _WINDOW).bit_length())
    weights = torch.tensor(_WEIGHTS[:used], dtype=output.dtype, device=output.device)
    terms = []
    for level in range(used):
        similarity, contrast = _terms(output, target)
        terms.append(similarity if level == used - 1 else contrast)
        output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
    powers = (weights / weights.sum()).view(-1, 1, 1)
    return torch.stack(terms).clamp_min(_FLOOR).pow(powers).prod(0).mean()


def _terms(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(structural similarity, its part without luminance), (N, C) each."""
    channels = output.shape[1]
    places = torch.arange(_WINDOW, dtype=output.dtype, device=output.device) - _WINDOW // 2
    taps = torch.softmax(-places.square() / (2 * _SIGMA**2), 0)  # a Gaussian that sums to one
    window = torch.outer(taps, taps).expand(5 * channels, 1, -1, -1)
    stacked = torch.cat((output, target, output * output, target * target, output * target), 1)
    means = F.conv2d(stacked, window, groups=5 * channels).split(channels, 1)
    mean_o, mean_t, square_o, square_t, product = means
    variances = square_o - mean_o.square() + square_t - mean_t.square()
    contrast = (2 * (product - mean_o * mean_t) + _CONTRAST) / (variances + _CONTRAST)
    luminance = (2 * mean_o * mean_t + _LUMINANCE) / (mean_o.square() + mean_t.square() + _LUMINANCE)
    return (luminance * contrast).mean((-2, -1)), contrast.mean((-2, -1))


def _ms_ssim(levels: int = 5) -> Loss:
    if not 1 <= levels <= len(_WEIGHTS):
        raise ValueError(f"levels is 1 to {len(_WEIGHTS)}; got {levels}")
    return lambda output, target: 1 - ms_ssim(output, target, levels)


ENTRIES: list[Entry[Loss]] = [
    Entry(
        "ms-ssim",
        _ms_ssim,
        "one less the multi-scale structural similarity",
        "Wang, Simoncelli, Bovik 2003, doi 10.1109/ACSSC.2003.1292216",
        "Apache-2.0",
    ),
]
