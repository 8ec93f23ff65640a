"""Residual blocks under autocast to bfloat16 on a CPU, in few passes over memory between their convolutions.

With matrix units a convolution of 64 channels takes torch no longer than three or four passes over its features, of
which ReLU, attention, sums and their gradients make many more, one operation at a time. The sum that blocks add to is
float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from polyres.layers.native.binding import Kernels
from polyres.layers.native.blocks import Attending, as_picture, as_pixels, turned
from polyres.layers.precision import without_autocast


def narrow_residual(
    kernels: Kernels, first: nn.Conv2d, second: nn.Conv2d, features: Tensor, attention: Attending | None
) -> Tensor | None:
    """As :func:`polyres.layers.native.residual`, float32; None where that is for torch to compute.

    It is for convolutions with biases, other than 3x3 ones that keep sizes, and of channels that do not fill vectors.
    """
    inner = first.out_channels
    if not (_is_plain(first, features.shape[1], inner) and _is_plain(second, inner, features.shape[1])):
        return None
    if features.device.type != "cpu" or any(
        channels % kernels.lanes for channels in (features.shape[1], inner)
    ):
        return None
    mix, least = (None, 0.0) if attention is None else (attention.mix, attention.least)
    if mix is not None and mix.bias is not None:
        return None
    made: Tensor = _Residual.apply(  # type: ignore[no-untyped-call]
        kernels, least, features, first.weight, second.weight, None if mix is None else mix.weight
    )
    return made


def _is_plain(conv: nn.Conv2d, channels: int, count: int) -> bool:
    form = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.padding, conv.stride, conv.dilation)
    return (
        form == (channels, count, (3, 3), (1, 1), (1, 1), (1, 1))
        and conv.groups == 1
        and conv.bias is None
        and conv.padding_mode == "zeros"
    )


class _Residual(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernels: Kernels,
        least: float,
        features: Tensor,
        weight1: Tensor,
        weight2: Tensor,
        mix: Tensor | None,
    ) -> Tensor:
        with without_autocast(features):
            whole = features.float().contiguous(memory_format=torch.channels_last)
            x, first, second = _narrow(whole), _narrow(weight1), _narrow(weight2)
            inner = torch.relu_(F.conv2d(x, first, padding=1))
            hidden, mixture, share, mixing = inner, None, None, None
            if mix is not None:
                mixing = mix.detach().flatten(1).bfloat16()
                mixture = as_pixels(inner) @ mixing.T
                weighted, share = kernels.narrow_attention(as_pixels(inner), mixture, least)
                hidden = as_picture(weighted, inner)
            made = kernels.narrow_sum(as_pixels(whole), as_pixels(F.conv2d(hidden, second, padding=1)))
        ctx.save_for_backward(x, inner, hidden, mixture, share, first, second, mixing)
        ctx.kernels = kernels
        return as_picture(made, whole)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kernels, needed = ctx.kernels, ctx.needs_input_grad[2:]
        x, inner, hidden, mixture, share, first, second, mixing = ctx.saved_tensors
        whole = gradient.float().contiguous(memory_format=torch.channels_last)
        narrow, of_mix, further = _narrow(whole), None, None
        of_inner = as_pixels(F.conv2d(narrow, turned(second), padding=1))
        of_second = _of_weight(hidden, second, narrow) if needed[2] else None
        if mixing is not None:
            of_mixture, of_inner = kernels.narrow_attention_gradient(
                of_inner, as_pixels(inner), mixture, share
            )
            further = of_mixture @ mixing
            of_mix = (of_mixture.T @ as_pixels(inner)).float()[..., None, None] if needed[3] else None
        of_inner = as_picture(kernels.narrow_rectified(of_inner, as_pixels(inner), further), inner)
        of_first = _of_weight(x, first, of_inner) if needed[1] else None
        made = None
        if needed[0]:
            back = F.conv2d(of_inner, turned(first), padding=1)
            made = as_picture(kernels.narrow_sum(as_pixels(whole), as_pixels(back)), whole)
        return None, None, made, of_first, of_second, of_mix


def _narrow(tensor: Tensor) -> Tensor:
    return tensor.detach().bfloat16().contiguous(memory_format=torch.channels_last)


def _of_weight(features: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    # Not torch.nn.grad's function: what it gives in place of the weight has another layout, which costs copies.
    asked = [False, True, False]
    made: Tensor = torch.ops.aten.convolution_backward(
        gradient, features, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, asked
    )[1]
    return made.float()
