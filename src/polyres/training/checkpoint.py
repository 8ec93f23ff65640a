"""Checkpoints of a run that survive a crash at any moment."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from polyres.errors import CheckpointError
from polyres.files import replacing


def save_checkpoint(folder: Path, state: dict[str, Any], keep: int = 2) -> None:
    """Write ``state`` as ``step-<number>.ckpt`` whole or not at all, and drop all but the ``keep`` newest."""
    with replacing(folder / f"step-{state['step']:08d}.ckpt") as stream:
        torch.save(state, stream)
    for old in _checkpoints(folder)[keep:]:
        old.unlink()


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The newest checkpoint in ``folder`` that can be read.

    Raises:
        CheckpointError: there is none.
    """
    for path in _checkpoints(folder):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError):
            continue  # damaged: the one before it is the newest that is whole
        return state
    raise CheckpointError(
        f"there is no checkpoint to resume from in {folder}; start the run without --resume"
    )


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("step-*.ckpt"), reverse=True)
