"""Checkpoints of a run that survive a crash at any moment: whole, synced, checksummed, and more than one."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from polyres.errors import CheckpointError
from polyres.files import replacing

logger = logging.getLogger(__name__)

#: A file ends with this and the SHA-256 of all that comes before.
_MARK = b"polyres1"
_TRAILER = len(_MARK) + hashlib.sha256().digest_size


def save_checkpoint(folder: Path, state: dict[str, Any], keep: int = 2) -> None:
    """Write ``state`` as ``step-<number>.ckpt`` whole or not at all, and drop all but the ``keep`` newest.

    Raises:
        OutputError: the folder cannot be written or the disk is full; older checkpoints are left as they were.
    """
    with replacing(folder / f"step-{state['step']:08d}.ckpt") as stream:
        hashing = _Hashing(stream)
        try:
            torch.save(state, cast(BinaryIO, hashing))  # it only writes
        except RuntimeError as error:
            # Of a write that fails torch tells only that the file has another length than it thought.
            raise hashing.error or error from None
        stream.write(_MARK + hashing.hash.digest())
    _sync(folder)
    for old in _checkpoints(folder)[keep:]:
        old.unlink(missing_ok=True)
    for abandoned in folder.glob(".polyres-*.tmp"):  # of a process that was killed while it wrote
        abandoned.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The newest checkpoint in ``folder`` that is whole; a warning names those that are not.

    Raises:
        CheckpointError: there is none.
    """
    paths = _checkpoints(folder)
    for path in paths:
        try:
            _verify(path)
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (CheckpointError, RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
            logger.warning("%s is damaged (%s); trying the one before it", path, str(error).splitlines()[0])
            continue
        return state
    found = f"none of {len(paths)} checkpoints can be read" if paths else "there is no checkpoint"
    raise CheckpointError(f"{found} to resume from in {folder}; start the run without --resume")


def has_checkpoints(folder: Path) -> bool:
    """Whether a run has saved anything in ``folder``."""
    return bool(_checkpoints(folder))


class _Hashing:
    """A stream that hashes what is written through it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.hash = stream, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, content: bytes | memoryview) -> int:
        self.hash.update(content)
        try:
            return self._stream.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._stream.flush()


def _verify(path: Path) -> None:
    """Compare the checksum."""
    length = path.stat().st_size - _TRAILER
    found, left = hashlib.sha256(), length
    with path.open("rb") as stream:
        while left > 0 and (part := stream.read(min(left, 1 << 20))):
            found.update(part)
            left -= len(part)
        if length <= 0 or stream.read() != _MARK + found.digest():
            raise CheckpointError("its checksum is missing or wrong")


def _sync(folder: Path) -> None:
    """Have the folder's list of names on disk too, where the system allows it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("step-*.ckpt"), reverse=True)
