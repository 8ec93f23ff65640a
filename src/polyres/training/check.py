"""Trying a run out: steps on two pictures, with a checkpoint written and read, and nothing left behind."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from polyres.data.crops import least_side
from polyres.data.sources import Memory, readers
from polyres.errors import DataError, TrainingError
from polyres.training.batches import open_batches
from polyres.training.config import DataConfig, RunConfig
from polyres.training.journal import Journal
from polyres.training.loop import begin, train
from polyres.training.processes import Processes
from polyres.training.resume import restore
from polyres.training.saving import RunFolder
from polyres.training.start import initial_model
from polyres.training.state import StepReport, TrainingState

#: Steps that are tried; the first one also warms up.
_STEPS = 2

#: Pictures that are loaded, however many there are.
_PICTURES = 2


@dataclass(frozen=True)
class Trial:
    """What a trial tells.

    Attributes:
        parameters: of the model.
        judges: parameters of the discriminator, 0 without one.
        loss: of the last step.
        seconds: a step, after the first.
        memory: bytes at most, of the GPU or of this process.
        checkpoint: bytes.
    """

    parameters: int
    judges: int
    loss: float
    seconds: float
    memory: int
    checkpoint: int

    def __str__(self) -> str:
        judges = f"discriminator of {self.judges:,}, " if self.judges else ""
        return (
            f"{self.parameters:,} parameters, {judges}loss {self.loss:.4f}, {self.seconds:.2f} s a step, "
            f"{self.memory / 2**20:,.0f} MiB, checkpoint {self.checkpoint / 2**20:,.1f} MiB"
        )


def check_run(config: RunConfig) -> Trial:
    """Two steps of ``config`` on two of its pictures and a validation of one, in a folder that is removed again.

    Every place that the run names must hold pictures; whether all of them are sound, ``polyres data check`` tells.

    Raises:
        PolyresError: whatever would stop the run.
    """
    reports: list[StepReport] = []

    def note(report: StepReport, validation: dict[str, float]) -> None:
        reports.append(report)

    with tempfile.TemporaryDirectory(prefix="polyres-check-") as place:
        short = _shortened(config, Path(place) / "run")
        source = two_pictures(config.data)
        with RunFolder(short, resume=False) as folder:
            state, batches = begin(initial_model(short), short), open_batches(source, short, Processes())
            journal = Journal(short, folder, source.fingerprint, 0, note)
            try:
                train(state.model, batches, short, lambda s, r: journal.step(s, r), state)
            finally:
                batches.close()
                journal.close()
        _compare(state, short, source.fingerprint)
        size = max(path.stat().st_size for path in short.output.glob("*.ckpt"))
    count, *judges = (sum(p.numel() for p in network.parameters()) for network in state.trained)
    return Trial(count, sum(judges), reports[-1].loss, reports[-1].seconds, peak_memory(config.device), size)


def two_pictures(data: DataConfig) -> Memory:
    """The first two pictures to train on; with ``skip_small`` the first two that are large enough.

    Raises:
        DataError: a place without pictures.
        PictureError: one of the two cannot be read.
    """
    least = least_side(data.exact_scales, data.patch) if data.skip_small else 0
    pictures, names = [], []
    for name, read in readers(data.train):
        if min((picture := read()).shape[:2]) >= least:
            pictures.append(picture)
            names.append(name)
        if len(pictures) == _PICTURES:
            break
    if not pictures:
        raise DataError(
            f"no picture to train on has the {least} pixels a side that crops need: use larger pictures or a "
            "smaller patch"
        )
    return Memory(pictures, names)


def peak_memory(device: str) -> int:
    """Bytes at most so far: of the GPU, or of this process; 0 where the system does not tell."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _shortened(config: RunConfig, output: Path) -> RunConfig:
    """The run with another folder, few steps, and a guard that stops at once; otherwise as it is."""
    data = config.data.model_copy(update={"validation_pictures": 1})
    guard = config.guard.model_copy(update={"action": "stop"})
    gan = config.gan and config.gan.model_copy(update={"start": 0})  # tried from the first step on
    changes = {"output": output, "steps": _STEPS, "data": data, "guard": guard, "gan": gan, "trackers": []}
    return config.model_copy(update={**changes, "save_every": 1, "validate_every": _STEPS})


def _compare(state: TrainingState, config: RunConfig, fingerprint: str) -> None:
    """Read the checkpoint into a fresh state and see that it is the one that was written."""
    again = begin(initial_model(config), config)
    restore(again, config, fingerprint)
    same = all(
        torch.equal(value, theirs.state_dict()[key])
        for ours, theirs in zip(state.trained, again.trained, strict=True)
        for key, value in ours.state_dict().items()
    )
    if again.step != state.step or not same:
        raise TrainingError(f"what was read from the checkpoint in {config.output} is not what was written")
