"""Fingerprints of models and pictures, by which a later run tells what has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from polyres._version import __version__
from polyres.data import Pair
from polyres.errors import DataError

#: Hexadecimal digits kept of a SHA-256: enough that no two files of a benchmark are ever confused.
_DIGITS = 16


def of_model(settings: Iterable[object], files: Iterable[Path] = ()) -> str:
    """The fingerprint of a model: of its files' contents, the settings it runs with, and this version of polyres."""
    digest = hashlib.sha256("\0".join([__version__, *map(str, settings)]).encode())
    for path in files:
        digest.update(_of_file(path))
    return digest.hexdigest()[:_DIGITS]


def of_pair(pair: Pair) -> str:
    """The fingerprint of the contents of a pair's files.

    Raises:
        DataError: a file that cannot be read.
    """
    paths = [pair.high] if pair.low is None else [pair.high, pair.low]
    return hashlib.sha256(b"".join(_of_file(path) for path in paths)).hexdigest()[:_DIGITS]


def of_file(path: Path) -> str:
    """The first digits of the SHA-256 of a file.

    Raises:
        DataError: it cannot be read.
    """
    return _of_file(path).hex()[:_DIGITS]


def _of_file(path: Path) -> bytes:
    try:
        facts = path.stat()
        return _digest(path, facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror or error}") from error


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, changed: int) -> bytes:
    """Digest of a file; its size and time of change are there so that a changed file is read again."""
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.digest()
