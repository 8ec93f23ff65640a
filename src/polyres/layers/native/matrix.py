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

    It is for convolutions other than 3x3 ones that keep sizes, and of channels that do not fill vectors.
    """
    size, inner = features.shape[1], first.out_channels
    if not (_is_plain(first, size, inner) and _is_plain(second, inner, size)):
        return None
    if features.device.type != "cpu" or size % kernels.lanes or inner % kernels.lanes:
        return None
    mix, least = (None, 0.0) if attention is None else (attention.mix, attention.least)
    if mix is not None and mix.bias is not None:
        return None
    made: Tensor = _Residual.apply(  # type: ignore[no-untyped-call]
        kernels,
        least,
        features,
        first.weight,
        first.bias,
        second.weight,
        second.bias,
        None if mix is None else mix.weight,
    )
    return made


def _is_plain(conv: nn.Conv2d, channels: int, count: int) -> bool:
    form = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.padding, conv.stride, conv.dilation)
    plain = form == (channels, count, (3, 3), (1, 1), (1, 1), (1, 1))
    return plain and conv.groups == 1 and conv.padding_mode == "zeros"


class _Residual(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernels: Kernels,
        least: float,
        features: Tensor,
        weight1: Tensor,
        bias1: Tensor | None,
        weight2: Tensor,
        bias2: Tensor | None,
        mix: Tensor | None,
    ) -> Tensor:
        with without_autocast(features):
            whole = features.float().contiguous(memory_format=torch.channels_last)
            x, first, second = _narrow(whole), _narrow(weight1), _narrow(weight2)
            biases = [None if bias is None else bias.detach().bfloat16() for bias in (bias1, bias2)]
            inner = torch.relu_(F.conv2d(x, first, biases[0], padding=1))
            hidden, mixture, share, mixing = inner, None, None, None
            if mix is not None:
                mixing = mix.detach().flatten(1).bfloat16()
                mixture = as_pixels(inner) @ mixing.T
                weighted, share = kernels.narrow_attention(as_pixels(inner), mixture, least)
                hidden = as_picture(weighted, inner)
            added = F.conv2d(hidden, second, biases[1], padding=1)
            made = kernels.narrow_sum(as_pixels(whole), as_pixels(added))
        ctx.save_for_backward(x, inner, hidden, mixture, share, first, second, mixing)
        ctx.kernels = kernels
        return as_picture(made, whole)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kernels, (of_x, *of_first, of_weight2, of_bias2, of_mix) = ctx.kernels, ctx.needs_input_grad[2:]
        x, inner, hidden, mixture, share, first, second, mixing = ctx.saved_tensors
        whole = gradient.float().contiguous(memory_format=torch.channels_last)
        narrow, mix_gradient, further = _narrow(whole), None, None
        of_inner = as_pixels(F.conv2d(narrow, turned(second), padding=1))
        of_second = _of_parameters(hidden, second, narrow, of_weight2, of_bias2)
        if mixing is not None:
            of_mixture, of_inner = kernels.narrow_attention_gradient(
                of_inner, as_pixels(inner), mixture, share
            )
            further = of_mixture @ mixing
            if of_mix:
                mix_gradient = (of_mixture.T @ as_pixels(inner)).float()[..., None, None]
        of_inner = as_picture(kernels.narrow_rectified(of_inner, as_pixels(inner), further), inner)
        made = None
        if of_x:
            back = F.conv2d(of_inner, turned(first), padding=1)
            made = as_picture(kernels.narrow_sum(as_pixels(whole), as_pixels(back)), whole)
        return (
            None,
            None,
            made,
            *_of_parameters(x, first, of_inner, *of_first),
            *of_second,
            mix_gradient,
        )


def _narrow(tensor: Tensor) -> Tensor:
    return tensor.detach().bfloat16().contiguous(memory_format=torch.channels_last)


def _of_parameters(
    features: Tensor, weight: Tensor, gradient: Tensor, of_weight: bool, of_bias: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of a convolution's weight and bias; None of what is not asked for."""
    # Not torch.nn.grad's function: what it gives in place of the weight has another layout, which costs copies.
    _, made, bias = torch.ops.aten.convolution_backward(
        gradient, features, weight, [len(weight)], (1, 1), (1, 1), (1, 1), False, (0, 0), 1,
        [False, of_weight, of_bias],
    )  # fmt: skip
    return made.float() if of_weight else None, bias.float() if of_bias else None
