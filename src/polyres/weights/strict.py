"""Weights that fit their network key by key, and networks that are no larger than the file that names them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from polyres.errors import CheckpointError
from polyres.model import ModelConfig, SRModel, build

#: Sizes up to this are built whatever the file holds: nothing is allocated for them before the shapes are compared.
_MODEST = 1 << 16
#: A tensor has about as many elements as the largest sizes multiplied; no honest file has this many times fewer.
_PROPORTION = 256


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy ``tensors`` into ``model``; every key must be there with its shape, and no other.

    Raises:
        CheckpointError: what is missing, extra and mis-shaped, all together.
    """
    wanted = model.state_dict()
    _compare(wanted, tensors, path)
    model.load_state_dict({key: tensor.to(wanted[key].dtype) for key, tensor in tensors.items()})


def build_held(config: ModelConfig, tensors: Mapping[str, Tensor], path: Path) -> SRModel:
    """The network of a file that names its own, unless that is beyond all proportion to the file's ``tensors``.

    Raises:
        CheckpointError: a network that the tensors do not fill; no memory was taken for it.
    """
    held = sum(tensor.numel() for tensor in tensors.values())
    sizes = sorted(_integers([config.encoder.options, config.upsampler.options]))[-3:]
    if sizes and sizes[-1] > max(_MODEST, held):
        raise CheckpointError(
            f"{path} names a network with a size of {sizes[-1]:,}, which its weights do not fill"
        )
    # Some parameters are registered twice, as recalibrated ones are.
    with _at_most(1000 + 4 * len(tensors), path):
        if max(math.prod(sizes), max(sizes, default=0) ** 2) > _PROPORTION * max(held, 4096):
            with torch.device("meta"):  # slow the first time, so that only what is suspicious goes through it
                _compare(build(config).state_dict(), tensors, path)
        return build(config)


def _compare(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise a CheckpointError unless ``tensors`` have the keys and shapes of ``wanted``."""
    missing = sorted(wanted.keys() - tensors.keys())
    extra = sorted(tensors.keys() - wanted.keys())
    shapes = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & tensors.keys())
        if tensors[key].shape != wanted[key].shape
    ]
    problems = [
        f"{len(items)} {what} ({', '.join(items[:3])}{', ...' if len(items) > 3 else ''})"
        for what, items in (("missing", missing), ("extra", extra), ("of another shape", shapes))
        if items
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not fit the network it names: {'; '.join(problems)} of {len(wanted)} weights"
        )


def _integers(value: Any) -> Iterator[int]:
    """Every whole number in nested options."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _integers(item)
    elif isinstance(value, int):
        yield value


@contextmanager
def _at_most(parameters: int, path: Path) -> Iterator[None]:
    """Stop the building of a network of more than ``parameters`` tensors, in this thread."""
    thread, made = get_ident(), 0

    def count(*_: object) -> None:
        nonlocal made
        made += get_ident() == thread
        if made > parameters and get_ident() == thread:
            raise CheckpointError(f"{path} names a network of far more weights than it holds")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
