"""Dense 3x3 convolutions by Winograd's minimal filtering, in place of torch's within a block of code.

Processors without units for bfloat16 spend nearly all of a network's time in such convolutions. F(4x4, 3x3) takes a
quarter of their multiplications; its transforms take some of that back. Results differ from torch's by rounding, about
twice as much as torch's own do from exact ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from polyres.layers.equivariance import keeps_opposites
from polyres.layers.native.binding import Attention, Kernels, kernels
from polyres.layers.native.blocks import Attending, as_picture, as_pixels, turned
from polyres.layers.native.matrix import narrow_residual
from polyres.layers.precision import is_autocast_to_bfloat16

#: What is worth it: lanes of a vector, channels in and out. Below, transforms cost too much. Sizes of pictures play no
#: part, so that a part of a picture is computed as the whole is.
FEWEST_LANES, FEWEST_IN, FEWEST_OUT = 8, 16, 8

#: Side of the blocks of output that are computed together, from the features' first pixel on. How their pixels are
#: rounded depends on all that the block looks at, so that equal results take equal blocks.
BLOCK = 4


#: Least channels, in and out, that are computed as sums and differences of opposites: whole vectors of each.
FEWEST_OPPOSED = 64


def fast_convolutions(
    wanted: bool = True, opposed: Iterable[Tensor] = (), narrow: bool = False
) -> AbstractContextManager[object]:
    """Within the block this thread computes 3x3 convolutions by minimal filtering where that is possible and worth it.

    That is in float32, on a CPU with vectors of 8 lanes or more, with a compiler, with 16 channels or more. All else is
    computed as ever. Gradients, taken within the block or after it, are made in the same way.

    Under autocast to bfloat16 convolutions are torch's, and residual blocks take few passes over memory between them
    (:mod:`polyres.layers.native.matrix`).

    Args:
        wanted: without it the block does nothing.
        opposed: weights that keep opposites, and are to go on doing so: half of their products are not made, and their
            gradients are means over the exchange of opposites. Others are computed as any.
        narrow: products are of bfloat16, two at a time, where the processor has those (:func:`has_narrow_products`);
            features, sums and gradients stay float32. Rounding then takes about a hundredth of a convolution's result.
    """
    compiled = _suitable() if wanted else None
    if compiled is None:
        return nullcontext()
    return _FastConvolutions(compiled, opposed, narrow and compiled.has_bfloat16)


def has_narrow_products() -> bool:
    """Whether :func:`fast_convolutions` can have products of bfloat16 on this machine."""
    compiled = _suitable()
    return compiled is not None and compiled.has_bfloat16


def opposed_weights(module: nn.Module) -> list[Tensor]:
    """The weights of ``module`` that :func:`fast_convolutions` may be told keep opposites: to rounding, they do."""
    convs = (part for part in module.modules() if isinstance(part, nn.Conv2d))
    return [conv.weight for conv in convs if _may_be_opposed(conv.weight) and keeps_opposites(conv.weight)]


def _may_be_opposed(weight: Tensor) -> bool:
    return not any(channels % FEWEST_OPPOSED for channels in weight.shape[:2])


def count_fast(module: nn.Module) -> int:
    """How many convolutions of ``module`` :func:`fast_convolutions` concerns on this machine."""
    return len(_fast(module))


def fast_weights(module: nn.Module) -> int:
    """How many weights those convolutions have."""
    return sum(9 * conv.in_channels * conv.out_channels for conv in _fast(module))


def _fast(module: nn.Module) -> list[nn.Conv2d]:
    if _suitable() is None:
        return []
    return [
        conv
        for conv in module.modules()
        if isinstance(conv, nn.Conv2d)
        and conv.kernel_size == (3, 3)
        and conv.groups == 1
        and conv.stride == conv.dilation == (1, 1)
        and _is_wide(conv.in_channels, conv.out_channels)
    ]


def _suitable() -> Kernels | None:
    compiled = kernels()
    return compiled if compiled is not None and compiled.lanes >= FEWEST_LANES else None


def convolve(conv: nn.Conv2d, features: Tensor, slope: float = 1.0, add: Tensor | None = None) -> Tensor:
    """``leaky(conv(features)) [+ add]``, in one pass over memory where :func:`fast_convolutions` takes it over.

    Args:
        conv: called as a module, hooks included, where that is not so.
        features: (N, C, H, W).
        slope: of the LeakyReLU: 0 for ReLU, 1 for none.
        add: like the result, or None.
    """
    mode = _current.get()
    if mode is not None and conv.padding_mode == "zeros" and not torch.is_grad_enabled():
        weight, bias = conv.weight, conv.bias
        margin = _margin(features, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        if margin is not None and _are_plain(add):
            return mode.winograd(features, weight, bias, margin, slope, add, mode.is_opposed(weight))
    made: Tensor = conv(features)
    # In place: a convolution's gradient needs its input, not its output, and fresh memory costs time.
    if slope == 1:
        return made if add is None else made.add_(add)
    activated = torch.relu_(made) if slope == 0 else F.leaky_relu_(made, slope)
    return activated if add is None else activated + add


class _FastConvolutions(TorchFunctionMode):
    def __init__(self, kernels: Kernels, opposed: Iterable[Tensor], narrow: bool) -> None:
        super().__init__()
        self.winograd = partial(kernels.winograd, narrow=narrow)
        self.winograd_residual = partial(kernels.winograd_residual, narrow=narrow)
        self.winograd_weight = partial(kernels.winograd_weight, narrow=narrow)
        self.attention, self.attention_gradient = kernels.attention, kernels.attention_gradient
        self._kernels, self._lanes = kernels, kernels.lanes
        self._opposed = {id(weight): weight for weight in opposed if _may_be_opposed(weight)}

    def is_opposed(self, weight: Tensor) -> bool:
        return id(weight) in self._opposed

    def attends(self, mix: nn.Conv2d, channels: int) -> bool:
        """Whether there are kernels for attention to so many channels by ``mix``."""
        return not channels % self._lanes and mix.bias is None and _are_plain(mix.weight)

    def given(self, mix: nn.Conv2d, least: float) -> Attention:
        """What those are told of it."""
        return Attention(mix.weight, least, self.is_opposed(mix.weight))

    def residual(
        self, first: nn.Conv2d, second: nn.Conv2d, features: Tensor, attention: Attending | None
    ) -> Tensor | None:
        """As the function of that name; None if that is torch's to compute."""
        if is_autocast_to_bfloat16():
            return narrow_residual(self._kernels, first, second, features, attention)
        weights = first.weight, second.weight
        if second.out_channels != features.shape[1]:
            return None
        for conv, size in ((first, features.shape[1]), (second, first.out_channels)):
            margin = _margin(
                features, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
            )
            if margin != 1 or conv.padding_mode != "zeros" or conv.in_channels != size:
                return None
        opposed = self.is_opposed(weights[0]), self.is_opposed(weights[1])
        biases, given = (first.bias, second.bias), None
        if attention is not None:
            if not self.attends(attention.mix, first.out_channels):
                return None
            given = self.given(attention.mix, attention.least)
        if not torch.is_grad_enabled():
            return self.winograd_residual(features, weights, biases, opposed, attention=given)[1]
        mix = None if attention is None else attention.mix.weight
        made: Tensor = _Residual.apply(  # type: ignore[no-untyped-call]
            self, opposed, given, features, weights[0], biases[0], weights[1], biases[1], mix
        )
        return made

    def __enter__(self) -> _FastConvolutions:
        self._token = _current.set(self)
        return super().__enter__()  # type: ignore[no-untyped-call, no-any-return]

    def __exit__(self, *raised: object) -> None:
        _current.reset(self._token)
        super().__exit__(*raised)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.conv2d:
            made = self._attempt(*args, **kwargs)
            if made is not None:
                return made
        return func(*args, **kwargs)

    def _attempt(
        self, input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **options: Any
    ) -> Tensor | None:
        """What ``F.conv2d`` of the same arguments gives; None if that is torch's to compute."""
        margin = _margin(input, weight, bias, *rest, **options)
        if margin is None:
            return None
        opposed = self.is_opposed(weight)
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (input, weight, bias)):
            made: Tensor = _Convolution.apply(self, input, weight, bias, margin, opposed)  # type: ignore[no-untyped-call]
            return made
        return self.winograd(input, weight, bias, margin, opposed=opposed)


def residual(
    first: nn.Conv2d, second: nn.Conv2d, features: Tensor, attention: Attending | None = None
) -> Tensor:
    """``features + second(attention(relu(first(features))))``.

    In few passes over memory where :func:`fast_convolutions` does it.

    Args:
        first: called as a module, hooks included, where that is not so; as ``second`` and ``attention`` are.
        second: of as many channels out as there are features.
        features: (N, C, H, W).
        attention: None for none.
    """
    mode = _current.get()
    if mode is not None:
        made = mode.residual(first, second, features, attention)
        if made is not None:
            return made
    hidden = convolve(first, features, slope=0)
    return convolve(second, hidden if attention is None else attention(hidden), add=features)


def attend(mix: nn.Conv2d, features: Tensor, least: float) -> Tensor:
    """``features * relu(1 + mix(features) / (mean of features + least))``, a mean being of a pixel's channels.

    In few passes over memory where :func:`fast_convolutions` does it.

    Args:
        mix: 1x1, of as many channels out as there are features, without a bias; called as a module where it is not so.
        features: (N, C, H, W), not negative.
        least: added to the mean.
    """
    mode = _current.get()
    if mode is not None and _are_plain(features) and mode.attends(mix, features.shape[1]):
        made: Tensor = _Attention.apply(mode, features, mix.weight, mode.given(mix, least))  # type: ignore[no-untyped-call]
        return made
    return features * torch.relu(1 + mix(features) / (features.mean(1, keepdim=True) + least))


#: The innermost block of :func:`fast_convolutions` in this thread.
_current: ContextVar[_FastConvolutions | None] = ContextVar("fast convolutions", default=None)


def _margin(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> int | None:
    """The padding of a convolution that the kernels can compute and that is worth it; None for any other."""
    margin = {"same": 1, "valid": 0}.get(padding) if isinstance(padding, str) else _one(padding)
    if margin is None or margin > 2 or (groups, _one(stride), _one(dilation)) != (1, 1, 1):
        return None
    if weight.shape[2:] != (3, 3) or input.ndim != 4 or not _is_wide(weight.shape[1], weight.shape[0]):
        return None
    fits = min(input.shape[2:]) + 2 * margin >= 3 and _are_plain(input, weight, bias)
    return margin if fits else None


def _one(numbers: int | Sequence[int]) -> int | None:
    """The number of both axes, or None if there are two."""
    if isinstance(numbers, int):
        return numbers
    return numbers[0] if len(set(numbers)) == 1 else None


def _is_wide(channels: int, count: int) -> bool:
    return channels >= FEWEST_IN and count >= FEWEST_OUT


def _are_plain(*tensors: Tensor | None) -> bool:
    """Whether all are float32 on the CPU, none of them of a subclass, and autocast would leave them so."""
    return not torch.is_autocast_enabled("cpu") and all(
        type(t) in (Tensor, nn.Parameter) and t.dtype == torch.float32 and t.device.type == "cpu"
        for t in tensors
        if t is not None
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        mode: _FastConvolutions,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: int,
        opposed: bool,
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.mode, ctx.padding, ctx.opposed = mode, padding, opposed
        return mode.winograd(features, weight, bias, padding, opposed=opposed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        mode, padding, opposed = ctx.mode, ctx.padding, ctx.opposed
        features, weight = ctx.saved_tensors
        _, of_features, of_weight, of_bias, *_ = ctx.needs_input_grad
        return (
            None,
            mode.winograd(gradient, turned(weight), None, 2 - padding, opposed=opposed)
            if of_features
            else None,
            mode.winograd_weight(features, gradient, padding, opposed) if of_weight else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
            None,
            None,
        )


class _Residual(torch.autograd.Function):
    """A residual block in two convolutions forward and four back, ReLU, attention and sums in passing."""

    @staticmethod
    def forward(
        ctx: Any,
        mode: _FastConvolutions,
        opposed: tuple[bool, bool],
        attention: Attention | None,
        features: Tensor,
        weight1: Tensor,
        bias1: Tensor | None,
        weight2: Tensor,
        bias2: Tensor | None,
        mix: Tensor | None,
    ) -> Tensor:
        factors = None
        if attention is None:
            inner, made = mode.winograd_residual(features, (weight1, weight2), (bias1, bias2), opposed)
            hidden = inner
        else:
            inner = mode.winograd(features, weight1, bias1, slope=0, opposed=opposed[0])
            weighted, factors = mode.attention(as_pixels(inner), attention, keep=True)
            hidden = as_picture(weighted, inner)
            made = mode.winograd(hidden, weight2, bias2, add=features, opposed=opposed[1])
        ctx.save_for_backward(features, inner, factors, hidden, weight1, weight2, mix)
        ctx.mode, ctx.opposed, ctx.attention = mode, opposed, attention
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        mode, opposed = ctx.mode, ctx.opposed
        features, inner, factors, hidden, weight1, weight2, mix = ctx.saved_tensors
        _, _, _, of_features, of_weight1, of_bias1, of_weight2, of_bias2, _ = ctx.needs_input_grad
        back, of_mix = (turned(weight2), turned(weight1)), None
        # Where a ReLU gave zero, no gradient goes on.
        if mix is None:
            of_inner, made = mode.winograd_residual(gradient, back, opposed=opposed[::-1], mask=inner)
        else:
            of_hidden = mode.winograd(gradient, back[0], opposed=opposed[1])
            of_pixels, of_mix = mode.attention_gradient(
                as_pixels(of_hidden),
                as_pixels(inner),
                factors,
                ctx.attention._replace(weight=mix),
                rectified=True,
            )
            of_inner, of_mix = as_picture(of_pixels, inner), of_mix.view_as(mix)
            made = mode.winograd(of_inner, back[1], add=gradient, opposed=opposed[0])
        return (
            None,
            None,
            None,
            made if of_features else None,
            mode.winograd_weight(features, of_inner, opposed=opposed[0]) if of_weight1 else None,
            of_inner.sum((0, 2, 3)) if of_bias1 else None,
            mode.winograd_weight(hidden, gradient, opposed=opposed[1]) if of_weight2 else None,
            gradient.sum((0, 2, 3)) if of_bias2 else None,
            of_mix,
        )


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, mode: _FastConvolutions, features: Tensor, weight: Tensor, attention: Attention
    ) -> Tensor:
        made, factors = mode.attention(as_pixels(features), attention, any(ctx.needs_input_grad))
        ctx.save_for_backward(features, weight, factors)
        ctx.mode, ctx.attention = mode, attention
        return as_picture(made, features)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, factors = ctx.saved_tensors
        of_pixels, of_weight = ctx.mode.attention_gradient(
            as_pixels(gradient), as_pixels(features), factors, ctx.attention._replace(weight=weight)
        )
        return None, as_picture(of_pixels, features), of_weight.view_as(weight), None
