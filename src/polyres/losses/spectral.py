"""Losses that compare spectra."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from polyres.losses.base import Loss
from polyres.losses.pixel import luma_of
from polyres.registry import Entry

Norm = Literal["ortho", "backward"]


def fft(output: Tensor, target: Tensor, norm: Norm = "ortho", luma: bool = False) -> Tensor:
    """Mean absolute difference of the real and imaginary parts of the two-dimensional spectra.

    Args:
        output: (N, C, H, W).
        target: of the same shape.
        norm: ``"ortho"`` weighs every patch size alike (0.71 of L1 for a white difference); ``"backward"`` is the
            papers' form, which grows with the side of the patch (90 times L1 for 128 pixels).
        luma: of BT.601's luma alone, which PSNR-Y measures, in place of each channel.
    """
    difference = luma_of(output - target) if luma else output - target
    spectrum = torch.fft.rfft2(difference, norm=norm)  # the transform is linear
    return torch.view_as_real(spectrum).abs().mean()


def _fft(norm: Norm = "ortho", luma: bool = False) -> Loss:
    if norm not in ("ortho", "backward"):
        raise ValueError(f"norm is ortho or backward; got {norm!r}")
    return partial(fft, norm=norm, luma=luma)


ENTRIES: list[Entry[Loss]] = [
    Entry(
        "fft",
        _fft,
        "mean absolute difference of the spectra",
        "Lee, Yun, Ro 2024, arXiv 2408.09674",
        "Apache-2.0",
    ),
]
