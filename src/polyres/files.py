"""Writing files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from polyres.errors import OutputError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file in the folder of ``path`` that takes its place, synced to disk, if the block succeeds.

    Raises:
        OutputError: the folder is missing or cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".polyres-{os.urandom(6).hex()}.tmp")
    try:
        with temporary.open("x+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written: {error.strerror or error}; choose a place that exists and is writable"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it, unless they are there.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write to '{folder}', which cannot be made a folder: {error.strerror or error}; "
            "choose another output"
        ) from error


def write_file(path: Path, content: bytes) -> None:
    """``content`` at ``path``, whole or not at all; folders above it are made.

    Raises:
        OutputError: it cannot be written there.
    """
    make_folder(path.parent)
    with replacing(path) as stream:
        stream.write(content)
