"""Folding: re-parameterised modules become the plain modules that compute the same, for deployment.

A module that is larger in training than it needs to be at inference implements :class:`Foldable`. A
parametrised weight (``torch.nn.utils.parametrize``) needs nothing: :func:`fold` stores its current value.
"""

from __future__ import annotations

import copy
from typing import Protocol, TypeVar, cast, runtime_checkable

from torch import nn
from torch.nn.utils import parametrize

M = TypeVar("M", bound=nn.Module)


@runtime_checkable
class Foldable(Protocol):
    """The one idiom of re-parameterisation."""

    def folded(self) -> nn.Module:
        """A new module that equals this one in eval mode and shares no storage with it."""
        ...


def fold(module: M) -> M:
    """A deep copy of ``module`` in eval mode with every :class:`Foldable` and parametrised weight made plain.

    The argument is left as it is, bit for bit. Gradients are off in the result.
    """
    plain: nn.Module = module.folded() if isinstance(module, Foldable) else copy.deepcopy(module)
    # What folds to something else publishes the same attributes, so the caller's type still holds.
    result = cast(M, _fold_children(plain))
    return result.eval().requires_grad_(False)


def _fold_children(module: M) -> M:
    """``module`` itself, with its parametrised tensors stored and its foldable descendants replaced."""
    if parametrize.is_parametrized(module):
        _store_parametrised(module)
    for name, child in module.named_children():
        folded = child.folded() if isinstance(child, Foldable) else child
        setattr(module, name, _fold_children(folded))
    return module


def _store_parametrised(module: nn.Module) -> None:
    """Replace the parametrised tensors of ``module``, a deep copy, by their current values.

    Not by ``parametrize.remove_parametrizations``: a copy shares the class that torch made for the original, and
    removing takes the tensors' properties off that class, which breaks the original.
    """
    names = list(cast(nn.ModuleDict, module.parametrizations))
    values = {name: getattr(module, name).detach().clone() for name in names}
    del module.parametrizations
    module.__class__ = type(module).__mro__[1]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value))
