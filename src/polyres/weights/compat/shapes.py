"""What the shapes of a checkpoint's tensors say about the network that they belong to."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

Tensors = Mapping[str, Tensor]


class NotThisNetworkError(LookupError):
    """The tensors lack something that every network of the class has."""


def size(tensors: Tensors, key: str, axis: int = 0) -> int:
    """The length of ``axis`` of the tensor ``key``.

    Raises:
        NotThisNetworkError: no such tensor, or one without that axis, or an empty one.
    """
    if key not in tensors or tensors[key].ndim <= axis or tensors[key].shape[axis] == 0:
        raise NotThisNetworkError(key)
    return tensors[key].shape[axis]


def count(tensors: Tensors, pattern: str) -> int:
    """How many values the first group of ``pattern`` takes among the keys that fully match it, at least one.

    Raises:
        NotThisNetworkError: no key matches.
    """
    compiled = re.compile(pattern)
    found = {match[1] for key in tensors if (match := compiled.fullmatch(key))}
    if not found:
        raise NotThisNetworkError(pattern)
    return len(found)


def root(square: int) -> int:
    """The whole number whose square is ``square``.

    Raises:
        NotThisNetworkError: there is none above zero.
    """
    side = math.isqrt(square)
    if side < 1 or side * side != square:
        raise NotThisNetworkError(f"{square} is no square")
    return side


def ratio(part: int, whole: int) -> float:
    """The factor ``f`` for which ``int(whole * f)`` is ``part``, although binary fractions round."""
    factor = part / whole
    return factor if int(whole * factor) == part else (part + 0.5) / whole


def direct_scale(tensors: Tensors, conv: str, colours: int = 3) -> int:
    """The scale of a sub-pixel convolution ``conv`` straight to the picture."""
    return root(size(tensors, f"{conv}.weight") // colours)


def staged_scale(tensors: Tensors, stages: str, last: str) -> int:
    """The scale of sub-pixel convolutions ``stages`` that keep one width, which the convolution ``last`` ends."""
    width = size(tensors, f"{last}.weight", 1)
    pattern = re.compile(re.escape(stages) + r"\.\d+\.weight")
    keys = [key for key in tensors if pattern.fullmatch(key) and key != f"{last}.weight"]
    return math.prod(root(size(tensors, key) // width) for key in keys)


def generator(tensors: Tensors, name: str, channels: int, layers: str = "latent_layers") -> dict[str, Any]:
    """The IGConv repository's arguments of the hypernetwork ``name``; ``layers`` is what it calls their number."""
    return {
        "sk_kernel_size": root(size(tensors, f"{name}.freq") // channels),
        "implicit_dim": size(tensors, f"{name}.freq", 1),
        layers: count(tensors, re.escape(name) + r"\.query_kernel\.(\d+)\.weight") - 1,
    }


def has_sampler(tensors: Tensors) -> bool:
    """Whether IGSample is there, by its present or its older name."""
    return any(key in tensors for key in ("skip.convs.freq", "dy_sampler.convs.freq"))


def expect_sampler(tensors: Tensors, plus: bool) -> None:
    """Tell IGConv's classes from those of IGConv+.

    Raises:
        NotThisNetworkError: IGSample is there although ``plus`` is false, or the other way round.
    """
    if has_sampler(tensors) != plus:
        raise NotThisNetworkError("skip.convs.freq")
