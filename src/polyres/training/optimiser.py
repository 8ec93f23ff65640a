"""Optimisers by name: Adam, Muon, and whatever else torch.optim has."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from polyres.errors import ConfigError, nearest
from polyres.layers import parameter_groups
from polyres.training.config import OptimiserConfig
from polyres.training.muon import Muon


def make_optimiser(model: nn.Module, config: OptimiserConfig) -> Optimizer:
    """The optimiser of a run, with kernel recalibrations in a group of their own.

    Raises:
        ConfigError: no such optimiser, or options that it does not take.
    """
    groups = parameter_groups(model, config.lr, config.recalibration_lr, config.weight_decay)
    options = dict(config.options)
    kind = optimiser_class(config.name)
    if config.name in TAKES_BETAS:
        options.setdefault("betas", config.betas)
    try:
        return kind(groups, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimiser.options do not suit {config.name}: {error}") from None


#: Names that ``optimiser.betas`` applies to.
TAKES_BETAS = ("adam", "adamw", "muon")


def optimiser_class(name: str) -> type[Optimizer]:
    """The class behind ``name``: adam, adamw, muon, or a class of torch.optim such as RMSprop.

    Raises:
        ConfigError: there is none.
    """
    known: dict[str, type[Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "muon": Muon,
    }
    found = known.get(name) or getattr(torch.optim, name, None)
    if isinstance(found, type) and issubclass(found, Optimizer) and found is not Optimizer:
        return found
    raise ConfigError(
        f"optimiser.name is {', '.join(known)} or a class of torch.optim; got '{name}'.{nearest(name, known)}"
    )
