"""A run from a run file to a model file: pictures, training, validation, logs, checkpoints."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

from polyres.data.sources import open_sources
from polyres.model import SRModel
from polyres.training.batches import open_batches
from polyres.training.config import RunConfig
from polyres.training.interrupts import Interrupts
from polyres.training.journal import Journal, Watch
from polyres.training.loop import begin, train
from polyres.training.processes import Processes, join_processes
from polyres.training.resume import restore
from polyres.training.saving import RunFolder, dump_batches
from polyres.training.sharding import shard
from polyres.training.start import initial_model
from polyres.training.state import StepReport, TrainingState


def run(
    config: RunConfig, resume: bool = False, watch: Watch | None = None, allow_changes: bool = False
) -> SRModel:
    """Train as ``config`` says and write ``model.safetensors`` (the averaged weights) to ``config.output``.

    Started by ``torchrun`` or the like, the processes train together; the first of them writes and tells.

    Args:
        config: the run.
        resume: go on from the newest checkpoint in ``config.output``.
        watch: called after each step, in the first process.
        allow_changes: resume although the configuration changed.

    Returns:
        The averaged model.

    Raises:
        OutputError: the output folder cannot be written, already holds a run and ``resume`` is off, or another process
            trains into it.
        CheckpointError: nothing to resume from, or a checkpoint of another configuration.
        TrainingError: too many steps whose numbers were not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after the step was completed and saved.
    """
    processes = join_processes(config.device)
    processes.share(config.accumulate)
    with RunFolder(config, resume) if processes.is_main else nullcontext() as folder:
        return _run(config, resume, watch, allow_changes, processes, folder)


def _run(
    config: RunConfig,
    resume: bool,
    watch: Watch | None,
    allow_changes: bool,
    processes: Processes,
    folder: RunFolder | None,
) -> SRModel:
    """See :func:`run`."""
    state = begin(initial_model(config), config)
    source = open_sources(config.data.train)
    fingerprint = source.fingerprint
    if resume:
        restore(state, config, fingerprint, allow_changes)
    if config.sharding != "none" and processes.world > 1:
        shard(state.model, state.optimiser)
    batches = open_batches(source, config, processes)
    journal = None if folder is None else Journal(config, folder, fingerprint, state.step, watch)
    with Interrupts() as interrupts:

        def on_step(state: TrainingState, report: StepReport) -> None:
            if config.saves_after(state.step):
                state.gather()
            if journal is not None:
                journal.step(state, report)
            if processes.sum(float(interrupts.wanted)):  # all stop after the same step
                state.gather()
                raise KeyboardInterrupt

        on_fault = partial(dump_batches, config.output, rank=processes.rank)
        try:
            trained = train(state.model, batches, config, on_step, state, processes, on_fault)
        except BaseException:
            if journal is not None:
                journal.rescue(state)
            raise
        finally:
            batches.close()
            if journal is not None:
                journal.close()
    processes.close()
    return trained
