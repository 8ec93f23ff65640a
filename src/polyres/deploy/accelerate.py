"""Acceleration: parts of a fused model replaced by native forms, which a CPU computes faster than torch's."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from polyres.deploy.devices import has_fast_bfloat16
from polyres.deploy.fuse import FusedModel
from polyres.encoders import Encoder
from polyres.layers.native import (
    BLOCK,
    Kernels,
    count_fast,
    fast_convolutions,
    fast_weights,
    has_narrow_products,
    kernels,
    opposed_weights,
    why_none,
)
from polyres.layers.precision import is_autocast_to_bfloat16


@runtime_checkable
class Accelerable(Protocol):
    """An encoder that may have a native form."""

    @property
    def has_native_form(self) -> bool:
        """Whether it has, with the options that it was made with."""
        ...

    def accelerated(self, kernels: Kernels) -> Encoder:
        """A new encoder that equals this one in eval mode on a CPU, in float32."""
        ...


#: Context up to which convolutions run by minimal filtering: beyond it, overlapping tiles would cost what is gained.
MOST_CONTEXT = 256

#: Share of an encoder's weights that must be in convolutions by minimal filtering for products of bfloat16 in those to
#: be the best that this precision gives; where others take long too, torch's bfloat16 does all of them.
NEARLY_ALL = 0.9


class AcceleratedModel(FusedModel):
    """A fused model in native forms. Made by :func:`accelerate`.

    Its context and multiple_of are those at which tiles equal the whole to the bit: each convolution by minimal
    filtering looks as far as the blocks go that its outer pixels lie in.

    Under autocast to bfloat16, an encoder of which :func:`narrows` is true computes products alone in it.

    Args:
        fused: what it equals.
        encoder: that of ``fused`` or its native form.

    Attributes:
        fast: how many convolutions run by minimal filtering.
    """

    def __init__(self, fused: FusedModel, encoder: Encoder) -> None:
        super().__init__(encoder, fused.upsampler, fused.mean, fused.value_range)
        self.fast, context = count_fast(self), self.context
        self._opposed = opposed_weights(self)
        if self.fast and context is not None:
            further = context + (BLOCK - 1) * self.fast
            if further > MOST_CONTEXT:
                self.fast = 0
            else:
                self.context, self.multiple_of = further, math.lcm(self.multiple_of, BLOCK)
        self.narrows = self.fast > 0 and narrows(fused.encoder)

    def forward(self, image: Tensor) -> Tensor:
        """See :meth:`FusedModel.forward`."""
        narrow = self.narrows and is_autocast_to_bfloat16()
        whole = torch.autocast("cpu", enabled=False) if narrow else nullcontext()
        # What the kernels are given lies in this format then, from the encoder's first convolution on.
        last = image.contiguous(memory_format=torch.channels_last) if self.fast else image
        with whole, fast_convolutions(self.fast > 0, self._opposed, narrow):
            return super().forward(last)


def narrows(encoder: Encoder) -> bool:
    """Whether bfloat16 is best had by minimal filtering with products of it here, features staying float32.

    So it is where nearly all of ``encoder`` is dense 3x3 convolutions and the processor multiplies pairs of bfloat16
    but has no matrix units for them: those are faster still, by torch.
    """
    if not has_narrow_products() or has_fast_bfloat16(torch.device("cpu")) or has_native_form(encoder):
        return False
    whole = encoder.whole()
    return fast_weights(whole) >= NEARLY_ALL * sum(parameter.numel() for parameter in whole.parameters())


def accelerate(fused: FusedModel) -> FusedModel:
    """``fused`` in native forms: its encoder if it has one, and dense 3x3 convolutions.

    For CPUs only, not to be saved or exported. The first call on a machine compiles the kernels, which takes seconds.

    Args:
        fused: from :func:`polyres.fuse`; left as it is.

    Returns:
        A new model that shares the weights; ``fused`` itself if nothing in it has a native form or it is not on a CPU,
        or this machine has no C compiler.
    """
    if not _is_on_cpu(fused) or (compiled := kernels()) is None:
        return fused
    encoder = fused.encoder.whole()
    if has_native_form(encoder):
        return AcceleratedModel(fused, encoder.accelerated(compiled)).eval()
    made = AcceleratedModel(fused, encoder).eval()
    return made if made.fast else fused


def has_native_form(encoder: Encoder) -> TypeGuard[Accelerable]:
    """Whether :func:`accelerate` replaces ``encoder`` on a machine with a C compiler."""
    return isinstance(encoder, Accelerable) and encoder.has_native_form


def describe_acceleration(
    fused: FusedModel, accelerated: FusedModel, dtype: torch.dtype = torch.float32
) -> str:
    """What to tell a user of ``accelerated``, made from ``fused`` and run in ``dtype``; empty if nothing is gained."""
    if not isinstance(accelerated, AcceleratedModel):
        if not has_native_form(fused.encoder):
            return ""
        reason = why_none() if _is_on_cpu(fused) else "they are for CPUs"
        return f"without native kernels: {reason}"
    encoder = "encoder by native kernels in float32" if has_native_form(fused.encoder) else ""
    narrow = dtype == torch.bfloat16 and accelerated.narrows
    filtered = "3x3 convolutions by minimal filtering" if dtype == torch.float32 or narrow else ""
    return ", ".join(filter(None, (encoder, filtered if accelerated.fast else "")))


def _is_on_cpu(fused: FusedModel) -> bool:
    return all(parameter.device.type == "cpu" for parameter in fused.parameters())
