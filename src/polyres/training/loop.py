"""The training loop, in the order in which things happen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polyres.data.crops import Batch, Batches
from polyres.deploy.devices import has_fast_bfloat16
from polyres.layers.layout import channels_last
from polyres.losses import LOSSES, Loss
from polyres.model import SRModel
from polyres.training.average import average_into, averaged_copy
from polyres.training.config import LossConfig, RunConfig
from polyres.training.guard import Fault, Guard, fault_in, fault_in_weights
from polyres.training.optimiser import make_optimiser
from polyres.training.processes import Processes
from polyres.training.schedule import learning_rate, set_learning_rate
from polyres.training.state import StepReport, TrainingState

Terms = Sequence[tuple[float, Loss]]
OnStep = Callable[[TrainingState, StepReport], None]


def begin(model: SRModel, config: RunConfig) -> TrainingState:
    """The state before the first step; ``model`` is trained in place."""
    channels_last(model.to(config.device)).train()
    if config.compile:
        model.encoder.compile()  # in place: the names of the weights stay
    return TrainingState(model, averaged_copy(model), make_optimiser(model, config.optimiser))


def train(
    model: SRModel,
    batches: Batches,
    config: RunConfig,
    on_step: OnStep | None = None,
    state: TrainingState | None = None,
    processes: Processes | None = None,
    on_fault: Callable[[Fault], None] | None = None,
) -> SRModel:
    """Train ``model`` for ``config.steps`` steps.

    Args:
        model: trained in place.
        batches: where the crops come from; this process's part of them.
        config: the run.
        on_step: called after each step; validation, logs and checkpoints live there.
        state: where to go on from; :func:`begin` makes the first.
        processes: those that train together; one alone if not given.
        on_fault: called for each step that is rejected because a number in it was not finite.

    Returns:
        The averaged model, in eval mode.

    Raises:
        TrainingError: too many steps were rejected; the average has taken in none of them.
    """
    state, processes = state or begin(model, config), processes or Processes()
    terms, parameters = make_losses(config.losses, config.device), list(model.parameters())
    guard = Guard(config.guard, state, config.save_every, on_fault)
    while state.step < config.steps:
        began = time.perf_counter()
        set_learning_rate(state.optimiser, lr := learning_rate(state.step, config.steps, config.optimiser))
        drawn, wait = draw(batches, state.step, processes.share(config.accumulate))
        loss = processes.sum(accumulate_gradients(state, drawn, terms, config, processes))
        processes.sum_gradients(parameters)
        gradient = gradient_norm(parameters)
        fault = fault_in(loss, gradient, (t for b in drawn for t in tensors(b, config.device)), model)
        if fault is not None:
            guard.reject(Fault(state.step + 1, fault, drawn), weights_changed=False)
        else:
            fault = change_weights(state, config, guard, drawn)
        state.step, state.whole = state.step + 1, True
        if fault is None:
            guard.passed()
        if on_step is not None:
            seconds = time.perf_counter() - began
            on_step(state, StepReport(state.step, loss, lr, gradient, seconds, wait, fault))
    return state.average.eval()


def draw(batches: Batches, step: int, micros: int) -> tuple[list[Batch], float]:
    """This process's micro-batches of ``step``, and the seconds that it waited for them."""
    began = time.perf_counter()
    return [batches.batch(step, micro) for micro in range(micros)], time.perf_counter() - began


def accumulate_gradients(
    state: TrainingState, drawn: Sequence[Batch], terms: Terms, config: RunConfig, processes: Processes
) -> float:
    """Leave this process's part of the mean gradient in the parameters; its part of the mean loss."""
    state.optimiser.zero_grad(set_to_none=True)
    loss = 0.0
    for micro, batch in enumerate(drawn):
        place = micro * processes.world + processes.rank
        seed_randomness(config, state.step, place)
        low, high = tensors(batch, config.device)
        with autocast(config):
            output = state.model(low, batch.scale)
        value = torch.stack([weight * term(output.float(), high) for weight, term in terms]).sum()
        (value / config.accumulate).backward()
        loss += float(value.detach()) / config.accumulate
    return loss


def gradient_norm(parameters: Iterable[nn.Parameter]) -> float:
    """Of all gradients together; they stay as they are, so that one that is not finite can still be found."""
    norms = torch._foreach_norm([p.grad for p in parameters if p.grad is not None])
    return float(torch.linalg.vector_norm(torch.stack(norms)))


def change_weights(
    state: TrainingState, config: RunConfig, guard: Guard, drawn: Sequence[Batch]
) -> str | None:
    """One step of the optimiser and of the average, unless a weight is not finite after it: which one, then."""
    state.whole = False
    if config.optimiser.clip is not None:
        nn.utils.clip_grad_norm_(state.model.parameters(), config.optimiser.clip)
    state.optimiser.step()
    fault = fault_in_weights(state.model)
    if fault is not None:
        guard.reject(Fault(state.step + 1, fault, drawn), weights_changed=True)
        return fault
    average_into(state.average, state.model, min(config.ema, (state.step + 1) / (state.step + 11)))
    return None


def seed_randomness(config: RunConfig, step: int, place: int) -> None:
    """Make what the network draws (drop path) a function of the seed and the place in the run, as crops are."""
    seed = int(np.random.SeedSequence((config.seed, step, place)).generate_state(1, np.uint64)[0] >> 1)
    torch.default_generator.manual_seed(
        seed
    )  # torch.manual_seed queues calls for a GPU that may not be there
    if torch.device(config.device).type == "cuda":
        torch.cuda.manual_seed(seed)


def make_losses(configs: Iterable[LossConfig], device: str = "cpu") -> list[tuple[float, Loss]]:
    """(weight, loss) of each term; those that are networks are moved to ``device``."""
    terms = [(term.weight, LOSSES.make(term.name, **term.options)) for term in configs]
    for _, loss in terms:
        if isinstance(loss, nn.Module):
            loss.to(device)
    return terms


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
