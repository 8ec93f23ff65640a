"""A run from a run file to a model file: pictures, training, validation, logs, checkpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from polyres._version import __version__
from polyres.data.crops import CropSampler
from polyres.data.degradations import make_steps
from polyres.data.lowering import Bicubic, Degraded, Lowering
from polyres.data.prefetch import Prefetched
from polyres.data.sources import load_pictures, open_sources
from polyres.errors import CheckpointError, OutputError
from polyres.model import SRModel, build
from polyres.training.checkpoint import load_checkpoint, save_checkpoint
from polyres.training.config import DataConfig, RunConfig
from polyres.training.log import RunLog
from polyres.training.loop import StepReport, TrainingState, begin, train
from polyres.training.validation import validate
from polyres.weights import ModelCard, load, save

#: (step report, newest validation result) after each step; the command line draws its progress from it.
Watch = Callable[[StepReport, dict[str, float]], None]


def run(config: RunConfig, resume: bool = False, watch: Watch | None = None) -> SRModel:
    """Train as ``config`` says and write ``model.safetensors`` (the averaged weights) to ``config.output``.

    Args:
        config: the run.
        resume: go on from the newest checkpoint in ``config.output``.
        watch: called after each step.

    Returns:
        The averaged model.

    Raises:
        OutputError: the output folder cannot be made, or already holds a run and ``resume`` is off.
        CheckpointError: nothing to resume from, or a checkpoint of another configuration.
    """
    _prepare_folder(config, resume)
    torch.manual_seed(config.seed)
    model = _model(config)
    state = begin(model, config)
    if resume:
        _restore(state, config)
    sampler = CropSampler(
        open_sources(config.data.train),
        config.data.exact_scales,
        config.data.patch,
        config.data.batch,
        config.seed,
        list(config.data.scales.values()),
        _lowering(config.data),
        config.data.skip_small,
    )
    held_out = load_pictures(config.data.validation, at_most=config.data.validation_pictures)
    batches = Prefetched(sampler, config.accumulate)
    log = RunLog(config.output, state.step)
    validation: dict[str, float] = {}
    began, first = time.monotonic(), state.step

    def on_step(state: TrainingState, report: StepReport) -> None:
        last = state.step == config.steps
        if held_out and (last or state.step % config.validate_every == 0):
            validation.update(validate(state.average, held_out, config))
            log.validation(state.step, validation)
        if last or state.step % config.log_every == 0:
            log.step(report, (state.step - first) / (time.monotonic() - began))
        if last or state.step % config.save_every == 0:
            _save(state, config)
        if watch is not None:
            watch(report, validation)

    try:
        return train(model, batches, config, on_step, state)
    except BaseException:
        # Interrupted or failed: what was learned is kept. A state that is not finite is never written.
        if all(bool(torch.isfinite(p).all()) for p in state.model.parameters()):
            _save(state, config)
        raise
    finally:
        batches.close()
        log.close()


def _lowering(data: DataConfig) -> Lowering:
    """How the run file wants LR to be made."""
    if data.degradations:
        return Degraded(make_steps(step.model_dump() for step in data.degradations), data.low.on)
    return Bicubic(data.low.kernel, data.low.on)


def _model(config: RunConfig) -> SRModel:
    if config.initial is None:
        return build(config.model)
    model = load(config.initial)
    if model.config != config.model:
        raise CheckpointError(
            f"{config.initial} holds another model than the run file describes; make them agree"
        )
    return model


def _prepare_folder(config: RunConfig, resume: bool) -> None:
    folder = config.output
    if not resume and any(folder.glob("step-*.ckpt")):
        raise OutputError(
            f"{folder} already holds a run; add --resume to go on with it, or choose another output"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder}: {error.strerror}; choose another output folder"
        ) from error


def _restore(state: TrainingState, config: RunConfig) -> None:
    """Continue from the newest checkpoint, if it is of a run that learned in the same way."""
    saved = load_checkpoint(config.output)
    differing = [key for key, value in _identity(config).items() if saved["run"].get(key) != value]
    if differing:
        raise CheckpointError(
            f"the checkpoint in {config.output} is of another run: {', '.join(differing)} changed; "
            "put them back, or choose another output and start from initial"
        )
    state.load_state_dict(saved)


def _identity(config: RunConfig) -> dict[str, Any]:
    """What must not change on resuming; where things lie and how often they are reported may."""
    free = {"output", "device", "validate_every", "save_every", "log_every", "precision"}
    content: dict[str, Any] = json.loads(config.model_dump_json(exclude=free))
    for place in ("train", "validation", "validation_pictures"):
        content["data"].pop(place)
    return content


def _save(state: TrainingState, config: RunConfig) -> None:
    save_checkpoint(config.output, {**state.state_dict(), "run": _identity(config)})
    data = config.data
    card = ModelCard(
        name=config.output.name,
        source=f"polyres {__version__}",
        training_data=", ".join(str(Path(folder)) for folder in data.train),
        training=(
            f"{state.step} of {config.steps} steps of {config.accumulate} x {data.batch} crops of {data.patch} LR "
            f"pixels, {config.optimiser.name} {config.optimiser.lr:g} with cosine, "
            + " + ".join(f"{term.weight:g} {term.name}" for term in config.losses)
            + f", average {config.ema:g}"
        ),
        scales=tuple(str(scale) for scale in data.exact_scales),
    )
    save(state.average, config.output / "model.safetensors", card)
