"""Checkpoints of original implementations, by an explicit list: nothing is guessed anywhere else."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from polyres.errors import CheckpointError, ConfigError, UnknownNameError, nearest
from polyres.model import ModelConfig
from polyres.weights.compat import (
    atd,
    edsr,
    hat,
    hit,
    krgn,
    mambair,
    plksr,
    rcan,
    rdn,
    safmn,
    smfanet,
    srformer,
    swinir,
)
from polyres.weights.compat.base import Foreign
from polyres.weights.compat.recognise import Recognised, candidates_for, described, mismatch, recognise

logger = logging.getLogger(__name__)

#: Arguments that set the rate of a dropout, which is active in training only.
_DROPOUT = ("drop_rate", "attn_drop_rate", "value_drop_rate")

#: Every class that can be read. Two originals may share a name.
READERS: tuple[Foreign, ...] = (
    *edsr.FOREIGN,
    *rcan.FOREIGN,
    *rdn.FOREIGN,
    *smfanet.FOREIGN,
    *safmn.FOREIGN,
    *plksr.FOREIGN,
    *swinir.FOREIGN,
    *hit.FOREIGN,
    *srformer.FOREIGN,
    *hat.FOREIGN,
    *atd.FOREIGN,
    *mambair.FOREIGN,
    *krgn.FOREIGN,
)

#: The same by their name in option files.
FOREIGN: Mapping[str, tuple[Foreign, ...]] = {
    reader.type: tuple(other for other in READERS if other.type == reader.type) for reader in READERS
}


def convert(
    tensors: Mapping[str, Tensor], network_g: Mapping[str, Any] | None, path: Path
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Our configuration and keys for the weights of an original implementation.

    Args:
        tensors: as read from ``path``; keys under ``io/`` (recorded inputs and outputs) are left out.
        network_g: class name under ``type`` and constructor arguments. Without it, the shapes tell; what they
            cannot tell is as in the released networks, and logged.
        path: named in messages.

    Raises:
        CheckpointError: weights that do not fit; the message groups what is missing, extra and mis-shaped.
        UnknownNameError: a class that is not in the list.
        ConfigError: an argument that the class does not have.
    """
    weights = {key: tensor for key, tensor in tensors.items() if not key.startswith("io/")}
    if network_g is None:
        found = recognise(weights, READERS, path)
        _report(found, path)
        reader, arguments = found.reader, found.arguments
    else:
        reader = _named(network_g, weights)
        arguments = _fitting(reader, weights, network_g, path)
    _tell_of_dropout(arguments)
    return reader.config(arguments), reader.translate(weights, arguments)


def configured(network_g: Mapping[str, Any]) -> ModelConfig:
    """Our configuration for a network of an options file, without its weights.

    Raises:
        UnknownNameError: a class that is not in the list.
        ConfigError: no class, or an argument that it does not have.
    """
    reader = _named(network_g, {})
    arguments = reader.arguments(network_g)
    _tell_of_dropout(arguments)
    return reader.config(arguments)


def _named(network_g: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Foreign:
    """The class that ``network_g`` names; of two that share the name, the one with these arguments and keys."""
    if "type" not in network_g:
        raise ConfigError(f"network_g names no type; known are {', '.join(FOREIGN)}")
    name = str(network_g["type"])
    if name not in FOREIGN:
        raise UnknownNameError(
            f"network_g: no network of type '{name}' is known; there are {', '.join(FOREIGN)}.{nearest(name, FOREIGN)}"
        )
    given = set(network_g) - {"type"}
    taking = [reader for reader in FOREIGN[name] if given <= reader.defaults.keys()]
    return max(taking or FOREIGN[name], key=lambda reader: reader.known(weights))


def _fitting(
    reader: Foreign, weights: Mapping[str, Tensor], network_g: Mapping[str, Any], path: Path
) -> Mapping[str, Any]:
    """The arguments with which ``weights`` fit: those of ``network_g``, the rest as the original has them.

    Where these do not fit, what ``network_g`` leaves out is read from the shapes: some originals write sizes into
    their code, which an options file cannot name.

    Raises:
        CheckpointError: weights that do not fit; the message says which network they do fit, if one is known.
    """
    arguments = reader.arguments(network_g)
    problems, wanted = mismatch(reader, weights, arguments)
    if not problems:
        return arguments
    given = {name: value for name, value in network_g.items() if name != "type"}
    candidates = candidates_for(weights, READERS)
    for candidate in candidates:
        completed = {**candidate.arguments, **given}
        if candidate.reader is reader and not mismatch(reader, weights, completed)[0]:
            return completed
    fitting = [candidate.network_g for candidate in candidates if not candidate.problems]
    hint = f". The weights are those of {fitting[0]}" if fitting else ""
    raise CheckpointError(
        f"{path} does not fit the {reader.type} of network_g: {described(problems)} of {wanted} weights{hint}"
    )


def _tell_of_dropout(arguments: Mapping[str, Any]) -> None:
    """Log rates that the original applies in training, and that are left out here."""
    rates = {name: arguments[name] for name in _DROPOUT if arguments.get(name)}
    if rates:
        given = ", ".join(f"{name}={rate}" for name, rate in rates.items())
        logger.warning(
            "network_g: %s changes nothing but training, and training goes without dropout here", given
        )


def _report(found: Recognised, path: Path) -> None:
    """Log what network a file without options was taken for."""
    if found.assumed:
        guessed = ", ".join(f"{name}={value}" for name, value in found.assumed.items())
        logger.warning(
            "%s: read as %s; shapes cannot tell %s, so that is as in the released networks",
            path,
            found.network_g,
            guessed,
        )
    else:
        logger.info("%s: read as %s", path, found.network_g)


__all__ = ["FOREIGN", "READERS", "configured", "convert"]
