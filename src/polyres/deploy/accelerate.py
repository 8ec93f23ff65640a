"""Acceleration: parts of a fused model replaced by native forms, which a CPU computes faster than torch's."""

from __future__ import annotations

import copy
from typing import Protocol, runtime_checkable

from polyres.deploy.fuse import FusedModel
from polyres.encoders import Encoder
from polyres.layers.native import Kernels, kernels, why_none


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


def accelerate(fused: FusedModel) -> FusedModel:
    """``fused`` with its encoder in the native form: for CPUs only, not to be saved or exported.

    The first call on a machine compiles the kernels, which takes seconds.

    Args:
        fused: from :func:`polyres.fuse`; left as it is.

    Returns:
        A new model that shares the upsampler; ``fused`` itself if its encoder has no native form or is not on a CPU,
        or this machine has no C compiler.
    """
    encoder = fused.encoder
    if not (isinstance(encoder, Accelerable) and encoder.has_native_form and _is_on_cpu(encoder)):
        return fused
    compiled = kernels()
    if compiled is None:
        return fused
    faster = copy.copy(fused)
    faster._modules = {**fused._modules, "encoder": encoder.accelerated(compiled).eval()}
    return faster


def has_native_form(encoder: Encoder) -> bool:
    """Whether :func:`accelerate` can do something for ``encoder`` on a machine with a C compiler."""
    return isinstance(encoder, Accelerable) and encoder.has_native_form


def describe_acceleration(fused: FusedModel, accelerated: FusedModel) -> str:
    """What to tell a user of ``accelerated``, made from ``fused``; empty if that has no native form."""
    if not has_native_form(fused.encoder):
        return ""
    if accelerated is fused:
        reason = why_none() if _is_on_cpu(fused.encoder) else "they are for CPUs"
        return f"without native kernels: {reason}"
    return "encoder by native kernels in float32"


def _is_on_cpu(encoder: Encoder) -> bool:
    return all(parameter.device.type == "cpu" for parameter in encoder.parameters())
