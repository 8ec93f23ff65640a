"""The training loop, in the order in which things happen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from polyres.data.crops import Batch, Batches
from polyres.deploy.devices import has_fast_bfloat16
from polyres.errors import TrainingError
from polyres.losses import LOSSES, Loss
from polyres.model import SRModel
from polyres.training.average import average_into, averaged_copy
from polyres.training.config import LossConfig, OptimiserConfig, RunConfig
from polyres.training.optimiser import make_optimiser


@dataclass
class TrainingState:
    """All that changes while a run goes on."""

    model: SRModel
    average: SRModel
    optimiser: Optimizer
    step: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "random": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        torch.set_rng_state(state["random"])


@dataclass(frozen=True)
class StepReport:
    """What one step tells.

    Attributes:
        step: steps done, this one included.
        loss: mean over the micro-batches.
        lr: learning rate that the step used.
        gradient: norm of the gradient before clipping.
    """

    step: int
    loss: float
    lr: float
    gradient: float


def begin(model: SRModel, config: RunConfig) -> TrainingState:
    """The state before the first step; ``model`` is trained in place."""
    model.to(device=config.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    return TrainingState(model, averaged_copy(model), make_optimiser(model, config.optimiser))


def train(
    model: SRModel,
    batches: Batches,
    config: RunConfig,
    on_step: Callable[[TrainingState, StepReport], None] | None = None,
    state: TrainingState | None = None,
) -> SRModel:
    """Train ``model`` for ``config.steps`` steps.

    Args:
        model: trained in place.
        batches: where the crops come from.
        config: the run.
        on_step: called after each step; validation, logs and checkpoints live there.
        state: where to go on from; :func:`begin` makes the first.

    Returns:
        The averaged model, in eval mode.

    Raises:
        TrainingError: the loss or gradient is not finite; the average is as it was before that step.
    """
    state = state or begin(model, config)
    terms = make_losses(config.losses)
    while state.step < config.steps:
        lr = learning_rate(state.step, config.steps, config.optimiser)
        for group in state.optimiser.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)  # checkpoints of older runs have no scale
        state.optimiser.zero_grad(set_to_none=True)
        loss = 0.0
        for micro in range(config.accumulate):
            low, high = tensors(batch := batches.batch(state.step, micro), config.device)
            with autocast(config):
                output = state.model(low, batch.scale)
            value = torch.stack([weight * term(output.float(), high) for weight, term in terms]).sum()
            (value / config.accumulate).backward()
            loss += float(value.detach()) / config.accumulate
        gradient = float(
            nn.utils.clip_grad_norm_(state.model.parameters(), config.optimiser.clip or math.inf)
        )
        if not (math.isfinite(loss) and math.isfinite(gradient)):
            raise TrainingError(
                f"step {state.step + 1}: the loss is {loss} and its gradient {gradient}; "
                "lower optimiser.lr, lengthen its warmup or set its clip, and resume"
            )
        state.optimiser.step()
        state.step += 1
        average_into(state.average, state.model, min(config.ema, state.step / (state.step + 10)))
        if on_step is not None:
            on_step(state, StepReport(state.step, loss, lr, gradient))
    return state.average.eval()


def learning_rate(step: int, steps: int, config: OptimiserConfig) -> float:
    """Of the step after ``step`` steps: a straight warm-up, then half a cosine down to ``final_lr``."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, steps - config.warmup)
    return config.final_lr + (config.lr - config.final_lr) * (1 + math.cos(math.pi * progress)) / 2


def make_losses(configs: Iterable[LossConfig]) -> list[tuple[float, Loss]]:
    """(weight, loss) of each term."""
    return [(term.weight, LOSSES.make(term.name, **term.options)) for term in configs]


def tensors(batch: Batch, device: str) -> tuple[Tensor, Tensor]:
    """The batch as (N, 3, h, w) and (N, 3, H, W) float32 in [0, 1], channels last."""

    def convert(pixels: Any) -> Tensor:
        channels_last = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
        return channels_last.float().div_(255)

    return convert(batch.low), convert(batch.high)


def autocast(config: RunConfig) -> Any:
    """The precision of the convolutions, as a context manager."""
    if config.precision == "float32" or (
        config.precision == "auto" and not has_fast_bfloat16(torch.device(config.device))
    ):
        return nullcontext()
    return torch.autocast(torch.device(config.device).type, torch.bfloat16)
