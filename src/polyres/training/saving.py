"""What a run writes: checkpoints, the model with its card, where it came from, and batches that were rejected."""

from __future__ import annotations

import io
import json
import logging
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from polyres._version import __version__
from polyres.errors import OutputError
from polyres.files import make_folder, replacing
from polyres.training.checkpoint import has_checkpoints, save_checkpoint
from polyres.training.config import RunConfig
from polyres.training.guard import Fault
from polyres.training.resume import identity
from polyres.training.state import TrainingState
from polyres.weights import ModelCard, save

logger = logging.getLogger(__name__)


class RunFolder:
    """The folder of a run, which no other process may train into until it is closed or this process has ended.

    Args:
        config: of the run; ``config.output`` is made if missing.
        resume: whether a run that is there already is gone on with.

    Raises:
        OutputError: it cannot be written, holds a run and ``resume`` is off, or another process trains into it.
    """

    def __init__(self, config: RunConfig, resume: bool) -> None:
        self.path, self._config = config.output, config
        self.fingerprint = ""
        if not resume and has_checkpoints(self.path):
            raise OutputError(
                f"{self.path} already holds a run; add --resume to go on with it, or choose another output"
            )
        make_folder(self.path)
        self._lock = FileLock(self.path / "run.lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                f"another process is training into {self.path}; wait for it, stop it, or choose another output"
            ) from None
        except (NotImplementedError, OSError) as error:  # as some shared file systems refuse
            logger.warning("%s cannot be locked (%s): see that nothing else trains into it", self.path, error)
        self._write("run.json", config.model_dump_json(indent=2))

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def describe(self, fingerprint: str) -> None:
        """Note the code and the pictures in ``provenance.json``."""
        self.fingerprint = fingerprint
        self._write("provenance.json", json.dumps(self.provenance(), indent=2))

    def provenance(self) -> dict[str, str]:
        """Versions of the code and the fingerprint of the pictures."""
        versions = {"polyres": __version__, "torch": torch.__version__, "python": platform.python_version()}
        return {**versions, "pictures": self.fingerprint}

    def save(self, state: TrainingState) -> None:
        """A checkpoint, the averaged model as ``model.safetensors``, and the discriminator if there is one."""
        content = {**state.state_dict(), "run": identity(self._config, self.fingerprint)}
        save_checkpoint(self.path, content, self._config.keep)
        save(state.average, self.path / "model.safetensors", self._card(state))
        if state.adversary is not None:
            state.adversary.save(self.path / "discriminator.safetensors")

    def save_best(self, state: TrainingState) -> None:
        """The averaged model as ``best.safetensors``."""
        save(state.average, self.path / "best.safetensors", self._card(state))

    def _write(self, name: str, text: str) -> None:
        with replacing(self.path / name) as stream:
            stream.write(f"{text}\n".encode())

    def _card(self, state: TrainingState) -> ModelCard:
        config, data = self._config, self._config.data
        return ModelCard(
            name=self.path.name,
            source=f"polyres {__version__}",
            training_data=", ".join(str(Path(folder)) for folder in data.train),
            training=(
                f"{state.step} of {config.steps} steps of {config.accumulate} x {data.batch} crops of {data.patch} LR "
                f"pixels, {config.optimiser.name} {config.optimiser.lr:g} with {config.optimiser.schedule}, "
                + " + ".join(_terms(config))
                + f", average {config.ema:g}"
            ),
            scales=tuple(str(scale) for scale in data.exact_scales),
            run={"config": json.loads(config.model_dump_json()), **self.provenance()},
        )


def _terms(config: RunConfig) -> Iterator[str]:
    """``"1 l1"`` for each term of the loss, the teacher's and the discriminator's last."""
    for term in config.losses:
        yield f"{term.weight:g} {term.name}"
    if config.teacher is not None:
        yield f"{config.teacher.weight:g} l1 to {Path(config.teacher.model).name}"
    if config.gan is not None:
        yield f"{config.gan.weight:g} {config.gan.kind} GAN ({config.gan.discriminator.name})"


def dump_batches(folder: Path, fault: Fault, rank: int = 0) -> None:
    """Write what a rejected step had drawn as ``rejected/step-<number>-<rank>.npz`` under ``folder``.

    It holds ``where``, and ``low_i``, ``high_i`` (N, h, w, 3) and ``scale_i`` of each micro-batch.
    """
    arrays: dict[str, Any] = {"where": np.array(fault.where)}
    for index, batch in enumerate(fault.batches):
        arrays[f"low_{index}"], arrays[f"high_{index}"] = batch.low, batch.high
        arrays[f"scale_{index}"] = np.array(str(batch.scale))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with suppress(FileExistsError):
        (folder / "rejected").mkdir(parents=True)
    with replacing(folder / "rejected" / f"step-{fault.step:08d}-{rank}.npz") as stream:
        stream.write(buffer.getvalue())
