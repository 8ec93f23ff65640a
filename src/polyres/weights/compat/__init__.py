"""Checkpoints of original implementations, by an explicit list: nothing is guessed anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from polyres.errors import CheckpointError, ConfigError, UnknownNameError, nearest
from polyres.model import ModelConfig
from polyres.weights.compat import edsr, hat, srformer, swinir
from polyres.weights.compat.base import Foreign

#: Every class that can be read, by its name in option files.
FOREIGN: Mapping[str, Foreign] = {
    entry.type: entry
    for entry in (
        *edsr.FOREIGN,
        *swinir.FOREIGN,
        *srformer.FOREIGN,
        *hat.FOREIGN,
    )
}


def convert(
    tensors: Mapping[str, Tensor], network_g: Mapping[str, Any] | None, path: Path
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Our configuration and keys for the weights of an original implementation.

    Args:
        tensors: as read from ``path``; keys under ``io/`` (recorded inputs and outputs) are left out.
        network_g: class name under ``type`` and constructor arguments.
        path: named in messages.

    Raises:
        CheckpointError: no ``network_g``.
        UnknownNameError: a class that is not in the list.
        ConfigError: an argument that the class does not have.
    """
    if network_g is None:
        raise CheckpointError(
            f"{path} was not written by polyres and does not say what network it is; pass the options file's "
            "network_g, such as {'type': 'EDSR', 'num_feat': 64, ...}"
        )
    if "type" not in network_g:
        raise ConfigError(f"network_g names no type; known are {', '.join(FOREIGN)}")
    name = str(network_g["type"])
    if name not in FOREIGN:
        raise UnknownNameError(
            f"network_g: no network of type '{name}' is known; there are {', '.join(FOREIGN)}.{nearest(name, FOREIGN)}"
        )
    foreign = FOREIGN[name]
    arguments = foreign.arguments(network_g)
    weights = {key: tensor for key, tensor in tensors.items() if not key.startswith("io/")}
    return foreign.configure(arguments), foreign.translate(weights, arguments)


__all__ = ["FOREIGN", "convert"]
