"""Which network a checkpoint belongs to, when nothing but its keys and shapes can tell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polyres.errors import CheckpointError, ConfigError
from polyres.model import build
from polyres.weights.compat.base import Foreign


@dataclass(frozen=True)
class Recognised:
    """A network that a checkpoint may belong to.

    Attributes:
        reader: the original's class.
        arguments: all of its constructor's arguments.
        assumed: those among them that shapes cannot tell, as the released networks have them.
        problems: what does not fit: missing, extra and mis-shaped weights; empty if all does.
        weights: how many weights the network has.
    """

    reader: Foreign
    arguments: Mapping[str, Any]
    assumed: Mapping[str, Any]
    problems: Mapping[str, Sequence[str]]
    weights: int

    @property
    def network_g(self) -> dict[str, Any]:
        """The same as an options file would say it, less what is left at its default."""
        defaults = self.reader.defaults
        told = {name: value for name, value in self.arguments.items() if defaults.get(name) != value}
        return {"type": self.reader.type, **told}


def recognise(tensors: Mapping[str, Tensor], readers: Sequence[Foreign], path: Path) -> Recognised:
    """The one network that ``tensors`` fit key by key and shape by shape.

    Raises:
        CheckpointError: none or several of the known networks; the message names the nearest and what does not fit.
    """
    candidates = candidates_for(tensors, readers)
    fitting = [candidate for candidate in candidates if not candidate.problems]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise CheckpointError(
            f"{path} fits several networks ({' and '.join(c.reader.type for c in fitting)}); say which by its "
            "options file's network_g"
        )
    if not candidates:
        raise CheckpointError(
            f"{path} was not written by polyres, and {_likeness(tensors, readers)}; pass the options file's network_g "
            "if it is a known network, such as {'type': 'EDSR', ...}"
        )
    nearest = min(candidates, key=lambda c: sum(len(keys) for keys in c.problems.values()))
    raise CheckpointError(
        f"{path} was not written by polyres and fits no known network; the nearest is {nearest.network_g}, with "
        f"{described(nearest.problems)} of {nearest.weights} weights"
    )


def _likeness(tensors: Mapping[str, Tensor], readers: Sequence[Foreign]) -> str:
    """What to say of ``tensors`` that tell the arguments of no network."""
    known = {reader.type: reader.known(tensors) for reader in readers}
    best = max(known, key=lambda name: known[name])
    if 2 * known[best] > len(tensors):
        return (
            f"{known[best]} of its {len(tensors)} weights are named as those of {best}, but not enough are there to "
            f"tell its size ({grouped(tensors)})"
        )
    return f"its {len(tensors)} weights ({grouped(tensors)}) are like no known network's"


def candidates_for(tensors: Mapping[str, Tensor], readers: Iterable[Foreign]) -> list[Recognised]:
    """Every network whose arguments the shapes tell, whether all weights fit or not."""
    attempts = [_attempt(tensors, reader) for reader in readers if reader.infer is not None]
    return [attempt for attempt in attempts if attempt is not None]


def _attempt(tensors: Mapping[str, Tensor], reader: Foreign) -> Recognised | None:
    try:
        told, assumed = reader.infer(tensors) if reader.infer is not None else ({}, {})
        arguments = {**reader.defaults, **assumed, **told}
        problems, weights = mismatch(reader, tensors, arguments)
    except (ConfigError, LookupError, ArithmeticError):
        return None  # another class's, or so damaged that no network can be made of the shapes
    return Recognised(reader, arguments, assumed, problems, weights)


def mismatch(
    reader: Foreign, tensors: Mapping[str, Tensor], arguments: Mapping[str, Any]
) -> tuple[dict[str, list[str]], int]:
    """What does not fit between ``tensors`` and the network of ``arguments``, and how many weights that has.

    The network is built without memory for its weights, so that no file can make us take any.
    """
    with torch.device("meta"):
        wanted = build(reader.config(arguments)).state_dict()
    given = {key: tensor.shape for key, tensor in reader.translate(tensors, arguments).items()}
    problems = {
        "missing": sorted(wanted.keys() - given.keys()),
        "extra": sorted(given.keys() - wanted.keys()),
        "of another shape": sorted(k for k in wanted.keys() & given.keys() if wanted[k].shape != given[k]),
    }
    return {kind: keys for kind, keys in problems.items() if keys}, len(wanted)


def described(problems: Mapping[str, Sequence[str]]) -> str:
    """``"2 missing (a.#.weight x2); 1 extra (b)"``."""
    return "; ".join(f"{len(keys)} {kind} ({grouped(keys)})" for kind, keys in problems.items())


def grouped(keys: Iterable[str], most: int = 4) -> str:
    """The commonest patterns among ``keys``, their numbers written as #."""
    patterns = Counter(re.sub(r"\d+", "#", key) for key in keys)
    shown = [f"{pattern} x{n}" if n > 1 else pattern for pattern, n in patterns.most_common(most)]
    return ", ".join([*shown, "..."] if len(patterns) > most else shown)
