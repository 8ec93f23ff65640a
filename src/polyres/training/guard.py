"""Guards against numbers that are not finite: found in the step that made them, kept out of weights and averages."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from polyres.data.crops import Batch
from polyres.errors import TrainingError
from polyres.training.config import GuardConfig
from polyres.training.sharding import local
from polyres.training.state import TrainingState

#: Steps over which ``guard.limit`` counts.
WINDOW = 1000


@dataclass(frozen=True)
class Fault:
    """A step that was rejected.

    Attributes:
        step: its number, from 1.
        where: what was not finite first: input, loss, gradient or weight, and which.
        batches: what the step had drawn.
    """

    step: int
    where: str
    batches: Sequence[Batch]


class Guard:
    """Rejects steps.

    Args:
        config: what to do then, and how often.
        state: watched; a copy is kept to go back to.
        every: steps between copies.
        on_fault: told of each rejected step before anything is done.
    """

    def __init__(
        self,
        config: GuardConfig,
        state: TrainingState,
        every: int,
        on_fault: Callable[[Fault], None] | None = None,
    ) -> None:
        self._config, self._state, self._every, self._on_fault = config, state, every, on_fault
        self._kept = self._copy()

    def passed(self) -> None:
        """Tell that a step was sound."""
        if self._state.step % self._every == 0:
            self._kept = self._copy()

    def reject(self, fault: Fault, weights_changed: bool) -> None:
        """Leave the step out, or go back to the weights of the newest copy; the step still counts.

        Raises:
            TrainingError: ``stop`` was asked for, or too many steps were rejected.
        """
        state = self._state
        state.rejected = [step for step in state.rejected if step > fault.step - WINDOW] + [fault.step]
        if weights_changed or self._config.action == "rollback":
            self._restore()
        if self._on_fault is not None:
            self._on_fault(fault)
        if self._config.action == "stop" or len(state.rejected) > self._config.limit:
            raise TrainingError(
                f"step {fault.step}: {fault.where} is not finite; {len(state.rejected)} of the last {WINDOW} steps "
                "were rejected: lower optimiser.lr, lengthen its warmup or set its clip, and resume"
            )

    def _copy(self) -> dict[str, Any]:
        return copy.deepcopy({name: part.state_dict() for name, part in self._state.parts.items()})

    def _restore(self) -> None:
        for name, content in copy.deepcopy(self._kept).items():
            self._state.parts[name].load_state_dict(content)
        self._state.whole = True


def fault_in(loss: float, gradient: float, inputs: Iterable[Tensor], model: nn.Module) -> str | None:
    """What is not finite in a step before the weights change, or None. Looks closer only where something is."""
    if math.isfinite(loss) and math.isfinite(gradient):
        return None
    if not all(bool(torch.isfinite(image).all()) for image in inputs):
        return "a picture of the input"
    if not math.isfinite(loss):
        return f"the loss ({loss})"
    named = ((name, local(p.grad)) for name, p in model.named_parameters() if p.grad is not None)
    worst = next(
        (name for name, grad in named if not bool(torch.isfinite(grad).all())), "all weights together"
    )
    return f"the gradient of {worst}"


def fault_in_weights(model: nn.Module) -> str | None:
    """The first weight that is not finite, or None; of sharded ones, this process's part."""
    weights = [local(p.detach()) for p in model.parameters()]
    if bool(torch.stack(torch._foreach_norm(weights)).isfinite().all()):
        return None
    worst = (name for name, p in model.named_parameters() if not bool(torch.isfinite(local(p)).all()))
    return f"the weight {next(worst, 'norm')}"
