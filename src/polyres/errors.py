"""Every error that polyres raises on purpose, as one tree.

::

    PolyresError                 anything below; a command line run ends with exit status 1
    ├── UsageError               the request itself is wrong; exit status 2
    │   ├── ScaleError           a scale or target size that does not exist or is out of range
    │   │   └── TooLargeError    a result of more pixels than are made; a PictureError too
    │   ├── ConfigError          a run file or part options that cannot be understood
    │   └── UnknownNameError     no such model, encoder, upsampler, loss, ...
    ├── PictureError             a picture that cannot be read, or is unfit for the work
    ├── DataError                a folder or data set that is empty, unpaired or of the wrong sizes
    ├── CheckpointError          a weights file that is damaged, unsafe or of another network
    ├── OutputError              a result that cannot be written where it was asked for
    ├── MissingExtraError        an optional dependency that is not installed
    └── TrainingError            a run that cannot go on (not finite, nothing left to roll back to)

Each message is one sentence or two: what was expected, what came, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PolyresError(Exception):
    """Base of every error raised on purpose."""


class UsageError(PolyresError):
    """The request is wrong, whatever the files contain."""


class ScaleError(UsageError, ValueError):
    """A scale or target size that does not exist or is out of range."""


class ConfigError(UsageError, ValueError):
    """A run file, or options of a part, that cannot be understood."""


class UnknownNameError(UsageError, KeyError):
    """A name that is in no table; the message suggests the nearest one."""

    def __str__(self) -> str:
        # KeyError would show the repr of the message, quotes included.
        return str(self.args[0]) if self.args else ""


class PictureError(PolyresError):
    """A picture that cannot be read, or is unfit for the work."""


class TooLargeError(ScaleError, PictureError):
    """A result of more pixels than are made of this picture; another picture may well do."""


class DataError(PolyresError):
    """A folder or data set that is empty, unpaired, or has the wrong sizes."""


class CheckpointError(PolyresError):
    """A weights file that is damaged, unsafe, or belongs to another network."""


class OutputError(PolyresError):
    """A result that cannot be written where it was asked for."""


class MissingExtraError(PolyresError, ImportError):
    """An optional dependency that is not installed; the message holds the pip line."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs an optional dependency: pip install 'polyres[{extra}]'")


class TrainingError(PolyresError):
    """A training run that cannot go on."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the known name nearest to ``name``, or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""
