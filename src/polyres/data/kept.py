"""Decoded pictures kept in memory up to a limit, so that each is decoded once while there is room."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

#: Memory assumed where the system does not tell its own.
_ASSUMED_MEMORY = 8 * 1024**3


class Kept:
    """The first pictures that were asked for. None is given up for another: all are drawn equally often.

    Args:
        room: bytes to keep; a quarter of the machine's memory if not given.
    """

    def __init__(self, room: int | None = None) -> None:
        self.room = _quarter_of_memory() if room is None else room
        self._pictures: dict[int, npt.NDArray[np.uint8]] = {}
        self._lock = threading.Lock()

    def get(self, index: int, decode: Callable[[], npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
        """Picture ``index``, from memory or by ``decode``."""
        picture = self._pictures.get(index)
        if picture is None:
            picture = decode()
            with self._lock:
                if index not in self._pictures and picture.nbytes <= self.room:
                    self.room -= picture.nbytes
                    self._pictures[index] = picture
        return picture


def _quarter_of_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    except (AttributeError, ValueError, OSError):
        return _ASSUMED_MEMORY // 4
