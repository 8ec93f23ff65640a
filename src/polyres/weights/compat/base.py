"""What it takes to read a checkpoint of an original implementation: options, and names of weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from polyres.errors import ConfigError, PolyresError, nearest
from polyres.model import ModelConfig

#: The mean colour of DIV2K, which most originals subtract from the picture.
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)

Replacement = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Rename:
    """Keys that fully match ``pattern`` become ``replacement`` (as in ``re.sub``).

    ``reshape``: a function of the tensor for layouts that differ, such as 1x1 convolutions that are matrices here.
    """

    pattern: str
    replacement: Replacement
    reshape: Callable[[Tensor], Tensor] | None = None

    def name(self, match: re.Match[str]) -> str:
        """Our key for theirs that matched."""
        return (
            match.expand(self.replacement) if isinstance(self.replacement, str) else self.replacement(match)
        )

    def value(self, tensor: Tensor) -> Tensor:
        """``tensor`` in our layout; one that cannot be brought into it stays, to be reported as mis-shaped."""
        if self.reshape is None:
            return tensor
        try:
            return self.reshape(tensor)
        except (RuntimeError, IndexError, ValueError):
            return tensor


@dataclass(frozen=True)
class Foreign:
    """One class of an original implementation.

    Attributes:
        type: the class name, which option files give as ``network_g: {type: ...}``.
        defaults: every constructor argument with its default.
        configure: all arguments to our configuration.
        renames: from its keys to ours; the first that matches counts. May depend on the arguments.
        ignored: patterns of stored values that are recomputed here.
        infer: for checkpoints without options: from tensors to the arguments that their shapes tell, and to those
            that they cannot tell, as the released networks have them. Raises
            :class:`~polyres.weights.compat.shapes.NotThisNetworkError` if the tensors are another class's.
    """

    type: str
    defaults: Mapping[str, Any]
    configure: Callable[[Mapping[str, Any]], ModelConfig]
    renames: Callable[[Mapping[str, Any]], Sequence[Rename]]
    ignored: Sequence[str] = ()
    infer: Callable[[Mapping[str, Tensor]], tuple[Mapping[str, Any], Mapping[str, Any]]] | None = None

    def arguments(self, network_g: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults with ``network_g`` on top.

        Raises:
            ConfigError: an argument that the original does not have.
        """
        given = {key: value for key, value in network_g.items() if key != "type"}
        for key in given:
            if key not in self.defaults:
                raise ConfigError(
                    f"network_g: {self.type} has no argument '{key}'.{nearest(key, self.defaults)}"
                )
        return {**self.defaults, **given}

    def config(self, arguments: Mapping[str, Any]) -> ModelConfig:
        """Our configuration for ``arguments``.

        Raises:
            ConfigError: arguments that the original does not take either.
        """
        try:
            return self.configure(arguments)
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:
            if isinstance(error, PolyresError):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(
                f"network_g: {self.type} cannot be made with these arguments: {reason}"
            ) from error

    def translate(self, tensors: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> dict[str, Tensor]:
        """``tensors`` under our keys; a key that no rule knows keeps its own, to be reported as extra."""
        rules = [(re.compile(rule.pattern), rule) for rule in self.renames(arguments)]
        skip = [re.compile(pattern) for pattern in self.ignored]
        result = {}
        for key, tensor in tensors.items():
            if any(pattern.fullmatch(key) for pattern in skip):
                continue
            match, rule = next(((m, rule) for p, rule in rules if (m := p.fullmatch(key))), (None, None))
            if match is None or rule is None:
                result[key] = tensor
            else:
                result[rule.name(match)] = rule.value(tensor)
        return result

    def known(self, tensors: Mapping[str, Tensor]) -> int:
        """How many of the keys a network with default arguments has a rule for."""
        rules = [re.compile(rule.pattern) for rule in self.renames(self.defaults)]
        return sum(any(pattern.fullmatch(key) for pattern in rules) for key in tensors)
