"""All that changes while a run goes on, and the report of one step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch.optim import Optimizer

from polyres.model import SRModel


@dataclass
class TrainingState:
    """All that changes while a run goes on.

    Random numbers are no part of it: every micro-batch has a seed of its own, made from the run's seed and its place.

    Attributes:
        model: what is trained.
        average: its running average.
        optimiser: of the model.
        step: steps done.
        best: highest mean PSNR of a validation, in dB.
        rejected: steps of late whose numbers were not finite.
        whole: false while a step changes weights; what was interrupted then must not be saved.
    """

    model: SRModel
    average: SRModel
    optimiser: Optimizer
    step: int = 0
    best: float = float("-inf")
    rejected: list[int] = field(default_factory=list)
    whole: bool = True

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "best": self.best,
            "rejected": self.rejected,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.best, self.rejected = state["step"], state["best"], list(state["rejected"])


@dataclass(frozen=True)
class StepReport:
    """What one step tells.

    Attributes:
        step: steps done, this one included.
        loss: mean over the micro-batches.
        lr: learning rate that the step used.
        gradient: norm of the gradient before clipping.
        seconds: that the step took.
        wait: of these, seconds spent waiting for crops.
        fault: what was not finite, if the step was rejected.
    """

    step: int
    loss: float
    lr: float
    gradient: float
    seconds: float = 0.0
    wait: float = 0.0
    fault: str | None = None
