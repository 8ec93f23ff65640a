"""All that changes while a run goes on, and the report of one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

from polyres.model import SRModel
from polyres.training.adversary import Adversary
from polyres.training.sharding import all_whole, is_sharded


@dataclass
class TrainingState:
    """All that changes while a run goes on.

    Random numbers are no part of it: every micro-batch has a seed of its own, made from the run's seed and its place.

    Attributes:
        model: what is trained.
        average: its running average.
        optimiser: of the model.
        adversary: the discriminator, if the run has one.
        step: steps done.
        best: highest mean PSNR of a validation, in dB.
        rejected: steps of late whose numbers were not finite.
        snapshot: of a sharded run, the step of the newest :meth:`gather` and what it brought together.
        whole: false while a step changes weights; what was interrupted then must not be saved.
    """

    model: SRModel
    average: SRModel
    optimiser: Optimizer
    adversary: Adversary | None = None
    step: int = 0
    best: float = float("-inf")
    rejected: list[int] = field(default_factory=list)
    whole: bool = True
    snapshot: tuple[int, dict[str, Any]] | None = None

    @property
    def active_adversary(self) -> Adversary | None:
        """The discriminator, from the step on at which it begins."""
        adversary = self.adversary
        return adversary if adversary is not None and self.step >= adversary.config.start else None

    @property
    def trained(self) -> list[nn.Module]:
        """The networks whose weights the step changes."""
        adversary = self.active_adversary
        return [self.model] if adversary is None else [self.model, adversary.network]

    @property
    def parts(self) -> dict[str, SRModel | Optimizer | Adversary]:
        """What has a state of its own, by name."""
        parts: dict[str, SRModel | Optimizer | Adversary] = {
            "model": self.model,
            "average": self.average,
            "optimiser": self.optimiser,
        }
        return parts if self.adversary is None else {**parts, "adversary": self.adversary}

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly; of a sharded run, what was gathered after this step."""
        if self.is_sharded and self.snapshot is not None:
            return self.snapshot[1]
        return self._content()

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a part of the weights only."""
        return is_sharded(self.model.parameters())

    @property
    def can_be_saved(self) -> bool:
        """Whether :meth:`state_dict` tells of this step without the other processes."""
        return not self.is_sharded or (self.snapshot is not None and self.snapshot[0] == self.step)

    def gather(self) -> None:
        """Bring together what the processes of a sharded run hold, for :meth:`state_dict`; all of them must call it."""
        if self.is_sharded:
            self.snapshot = self.step, all_whole(self._content())

    def _content(self) -> dict[str, Any]:
        return {
            **{name: part.state_dict() for name, part in self.parts.items()},
            "step": self.step,
            "best": self.best,
            "rejected": self.rejected,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave; a discriminator that it does not know begins afresh."""
        for name, part in self.parts.items():
            if name != "adversary" or name in state:
                part.load_state_dict(state[name])
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
        more: with a discriminator, ``adversarial``, the part of the loss that comes from it, and ``discriminator``, its
            own loss.
    """

    step: int
    loss: float
    lr: float
    gradient: float
    seconds: float = 0.0
    wait: float = 0.0
    fault: str | None = None
    more: Mapping[str, float] = field(default_factory=dict)
