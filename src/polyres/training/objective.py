"""What a run minimises: the weighted sum of its losses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from polyres.losses import LOSSES, BaseLoss, Loss
from polyres.model import SRModel
from polyres.scale import Scale
from polyres.training.config import LossConfig

#: (weight, loss) of each term.
Terms: TypeAlias = Sequence[tuple[float, Loss | BaseLoss]]


def make_losses(configs: Iterable[LossConfig], device: str = "cpu") -> Terms:
    """(weight, loss) of each term; those that are networks are moved to ``device``."""
    terms = [(term.weight, LOSSES.make(term.name, **term.options)) for term in configs]
    for _, loss in terms:
        if isinstance(loss, nn.Module):
            loss.to(device)
    return terms


def outputs(model: SRModel, low: Tensor, scale: Scale, terms: Terms) -> tuple[Tensor, Tensor]:
    """What ``model`` makes of ``low``, and the learned base of that; where no term judges the base, the output twice.

    Raises:
        ConfigError: a term judges the base, but the model learns none.
    """
    if any(isinstance(loss, BaseLoss) for _, loss in terms):
        return model.with_base(low, scale)
    output = model(low, scale)
    return output, output


def weighted_sum(terms: Terms, output: Tensor, target: Tensor, base: Tensor) -> Tensor:
    """The sum of ``terms``, a scalar.

    Args:
        terms: weights and losses.
        output: of the model, (N, C, H, W) float32.
        target: of the same shape, in [0, 1].
        base: that the output was added to, of the same shape.
    """
    values = [
        weight * (loss(output, target, base) if isinstance(loss, BaseLoss) else loss(output, target))
        for weight, loss in terms
    ]
    return torch.stack(values).sum()
