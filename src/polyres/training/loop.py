"""The training loop, in the order in which things happen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polyres.data.crops import Batch, Batches
from polyres.deploy.accelerate import narrows
from polyres.deploy.devices import has_fast_bfloat16
from polyres.layers.layout import channels_last
from polyres.layers.native import fast_convolutions
from polyres.model import SRModel
from polyres.training.adversary import Adversary
from polyres.training.average import average_into, averaged_copy
from polyres.training.config import RunConfig
from polyres.training.denormals import without_denormals
from polyres.training.guard import Fault, Guard, fault_in, fault_in_weights
from polyres.training.muon import Muon
from polyres.training.objective import Terms, make_losses, outputs, weighted_sum
from polyres.training.optimiser import make_optimiser
from polyres.training.processes import Processes
from polyres.training.schedule import learning_rate, set_learning_rate
from polyres.training.sharding import is_divided, local
from polyres.training.state import StepReport, TrainingState
from polyres.training.symmetry import GradientMeans, opposed_kernels, tied_kernels, tied_weights
from polyres.training.teacher import Teacher

OnStep = Callable[[TrainingState, StepReport], None]


def begin(model: SRModel, config: RunConfig) -> TrainingState:
    """The state before the first step; ``model`` is trained in place."""
    channels_last(model.to(config.device)).train()
    if config.compile:
        model.encoder.compile()  # in place: the names of the weights stay
    adversary = None if config.gan is None else Adversary(config.gan, config.seed, config.device)
    optimiser = make_optimiser(model, config.optimiser)
    if config.equivariant is not None and isinstance(optimiser, Muon):
        optimiser.tie(tied_kernels(model.encoder, config.equivariant), config.equivariant)
    return TrainingState(model, averaged_copy(model), optimiser, adversary)


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
    with without_denormals():
        _train(model, batches, config, on_step, state, processes, on_fault)
    return state.average.eval()


def _train(
    model: SRModel,
    batches: Batches,
    config: RunConfig,
    on_step: OnStep | None,
    state: TrainingState,
    processes: Processes,
    on_fault: Callable[[Fault], None] | None,
) -> None:
    """See :func:`train`."""
    terms, teacher = make_losses(config.losses, config.device), None
    if config.teacher is not None:
        teacher = Teacher(config.teacher, config.data.exact_scales, config.device)
    guard = Guard(config.guard, state, config.save_every, on_fault)
    symmetry = config.equivariant
    average_gradients = GradientMeans([] if symmetry is None else tied_weights(model.encoder, symmetry))
    while state.step < config.steps:
        began = time.perf_counter()
        set_learning_rate(state.optimiser, lr := learning_rate(state.step, config.steps, config.optimiser))
        drawn, wait = draw(batches, state.step, processes.share(config.accumulate))
        parts = accumulate_gradients(state, drawn, terms, config, processes, teacher)
        values = {name: processes.sum(part) for name, part in parts.items()}
        for summed in state.trained:
            processes.sum_gradients(list(summed.parameters()))
        average_gradients()
        gradient = gradient_norm(model.parameters(), processes)
        fault = fault_in_step(state, values, gradient, (t for b in drawn for t in tensors(b, config.device)))
        if fault is not None:
            guard.reject(Fault(state.step + 1, fault, drawn), weights_changed=False)
        else:
            fault = change_weights(state, config, guard, drawn, gradient, processes)
        state.step, state.whole = state.step + 1, True
        if fault is None:
            guard.passed()
        if on_step is not None:
            loss, seconds = values.pop("loss"), time.perf_counter() - began
            on_step(state, StepReport(state.step, loss, lr, gradient, seconds, wait, fault, values))


def draw(batches: Batches, step: int, micros: int) -> tuple[list[Batch], float]:
    """This process's micro-batches of ``step``, and the seconds that it waited for them."""
    began = time.perf_counter()
    return [batches.batch(step, micro) for micro in range(micros)], time.perf_counter() - began


def accumulate_gradients(
    state: TrainingState,
    drawn: Sequence[Batch],
    terms: Terms,
    config: RunConfig,
    processes: Processes,
    teacher: Teacher | None = None,
) -> dict[str, float]:
    """Leave this process's part of the mean gradients in the parameters; its part of each mean loss, by name.

    The loss includes the distance from the teacher's results (``teacher``), if there is one. With a discriminator it
    includes what that tells the model (``adversarial``), and there is its own loss.
    """
    state.optimiser.zero_grad(set_to_none=True)
    adversary, sums = state.active_adversary, {"loss": 0.0}
    if adversary is not None:
        adversary.optimiser.zero_grad(set_to_none=True)
        sums.update(adversarial=0.0, discriminator=0.0)
    if teacher is not None:
        sums["teacher"] = 0.0
    for micro, batch in enumerate(drawn):
        place = micro * processes.world + processes.rank
        seed_randomness(config, state.step, place)
        low, high = tensors(batch, config.device)
        with arithmetic(config, state.model):
            output, base = outputs(state.model, low, batch.scale, terms)
        output = output.float()
        value = weighted_sum(terms, output, high, base.float())
        if teacher is not None:
            with arithmetic(config):
                results = teacher.results(low, batch.scale)
            distance = teacher.loss(output, results)
            value = value + distance
            sums["teacher"] += float(distance.detach()) / config.accumulate
        if adversary is not None:
            judged = adversary.judge(output)
            value = value + judged
            sums["adversarial"] += float(judged.detach()) / config.accumulate
        (value / config.accumulate).backward()
        sums["loss"] += float(value.detach()) / config.accumulate
        if adversary is not None:
            sums["discriminator"] += adversary.learn(output, high, 1 / config.accumulate)
    return sums


def gradient_norm(parameters: Iterable[nn.Parameter], processes: Processes) -> float:
    """Of all gradients together; they stay as they are, so that one that is not finite can still be found."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch._foreach_norm([g for g in gradients if not is_divided(g)])
    norm = float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
    parts = [local(gradient) for gradient in gradients if is_divided(gradient)]
    if not parts:
        return norm
    return math.sqrt(norm**2 + processes.sum(sum(float(n) ** 2 for n in torch._foreach_norm(parts))))


def clip_gradients(parameters: Iterable[nn.Parameter], norm: float, most: float) -> None:
    """Shorten the gradients, whose norm is ``norm``, to a norm of ``most``, parts of sharded ones too."""
    if norm > most:
        torch._foreach_mul_([local(p.grad) for p in parameters if p.grad is not None], most / (norm + 1e-6))


def fault_in_step(
    state: TrainingState, values: Mapping[str, float], gradient: float, inputs: Iterable[Tensor]
) -> str | None:
    """What is not finite, in the model's half of a step or in the discriminator's, before weights change; or None."""
    fault, adversary = fault_in(values["loss"], gradient, inputs, state.model), state.active_adversary
    if fault is not None or adversary is None:
        return fault
    network = adversary.network
    return theirs(
        fault_in(values["discriminator"], gradient_norm(network.parameters(), Processes()), (), network)
    )


def theirs(fault: str | None) -> str | None:
    """``fault`` with the discriminator named as the place of it."""
    return None if fault is None else f"{fault} of the discriminator"


def change_weights(
    state: TrainingState,
    config: RunConfig,
    guard: Guard,
    drawn: Sequence[Batch],
    gradient: float,
    processes: Processes,
) -> str | None:
    """One step of the optimisers and of the average, unless a weight is not finite after it: which one, then."""
    state.whole = False
    if config.optimiser.clip is not None:
        clip_gradients(state.model.parameters(), gradient, config.optimiser.clip)
    state.optimiser.step()
    fault, adversary = fault_in_weights(state.model), state.active_adversary
    if adversary is not None:
        adversary.step(state.step, config.steps)
        fault = fault or theirs(fault_in_weights(adversary.network))
    if state.is_sharded and processes.sum(float(fault is not None)):
        fault = fault or "a weight in another process"
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


def tensors(batch: Batch, device: str) -> tuple[Tensor, Tensor]:
    """The batch as (N, 3, h, w) and (N, 3, H, W) float32 in [0, 1], channels last."""

    def convert(pixels: Any) -> Tensor:
        channels_last = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
        return channels_last.float().div_(255)

    return convert(batch.low), convert(batch.high)


@contextmanager
def arithmetic(config: RunConfig, model: SRModel | None = None) -> Iterator[None]:
    """How convolutions are computed within the block; those of ``model`` by what the run keeps its kernels to."""
    device = torch.device(config.device)
    fast = config.fast_convolutions and device.type == "cpu" and not config.compile
    narrow = fast and config.precision != "float32" and model is not None and narrows(model.encoder)
    if not narrow and (
        config.precision == "bfloat16" or (config.precision == "auto" and has_fast_bfloat16(device))
    ):
        with torch.autocast(device.type, torch.bfloat16), fast_convolutions(fast):
            yield
        return
    opposed = (
        []
        if model is None or config.equivariant is None
        else opposed_kernels(model.encoder, config.equivariant)
    )
    with fast_convolutions(fast, opposed, narrow):
        yield
