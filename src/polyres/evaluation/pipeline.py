"""Pictures measured several at a time: while one is decoded, another is enlarged and a third compared."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from polyres.data import Pair
from polyres.data.files import read_size
from polyres.errors import PolyresError
from polyres.evaluation.routes import Upscale
from polyres.scale import Scale

Task = TypeVar("Task")
Result = TypeVar("Result")

#: More pictures at a time than this cost memory and gain nothing: a network uses several cores for one picture.
_MOST_WORKERS = 4


@runtime_checkable
class Shareable(Protocol):
    """An upscaler that several threads may call at a time."""

    def shared(self, workers: int) -> AbstractContextManager[Upscale]:
        """Within the block, what ``workers`` threads may call at a time, sharing the cores among them."""


def shared(upscale: Upscale, workers: int) -> AbstractContextManager[Upscale]:
    """``upscale`` for ``workers`` threads, which take turns if it is not :class:`Shareable`; itself for one."""
    if workers == 1:
        return nullcontext(upscale)
    return upscale.shared(workers) if isinstance(upscale, Shareable) else nullcontext(_taking_turns(upscale))


def worker_count(upscale: Upscale, wanted: int | None) -> int:
    """Threads to use: as ``wanted``, by default one a core, and one alone for what only its caller may call."""
    if not isinstance(upscale, Shareable):
        return 1
    return max(1, min(cores(), _MOST_WORKERS) if wanted is None else wanted)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def longest_first(pairs: Sequence[Pair]) -> list[int]:
    """Places of ``pairs``, by the pixels of their LR: whoever works last then works on a small picture.

    What cannot be read comes first, so that its reader complains at once.
    """
    pixels = {path: _pixels(path) for path in {pair.high for pair in pairs}}

    def work(place: int) -> float:
        pair = pairs[place]
        return pixels[pair.high] / float(pair.scale.y * pair.scale.x)

    return sorted(range(len(pairs)), key=work, reverse=True)


def _pixels(path: Path) -> float:
    try:
        return math.prod(read_size(path))
    except PolyresError:
        return math.inf


def _taking_turns(upscale: Upscale) -> Upscale:
    turn = threading.Lock()

    def alone(low: npt.NDArray[np.uint8], scale: Scale) -> npt.NDArray[np.floating[Any]]:
        with turn:
            return upscale(low, scale)

    return alone


def in_order(tasks: Sequence[Task], work: Callable[[Task], Result], workers: int) -> Iterator[Result]:
    """``work`` of every task, by ``workers`` threads, in the order of the tasks; one worker is the caller itself.

    At most two tasks a worker are begun before the first of them is taken. What a task raises is raised in its
    place, and tasks that have not begun by then never begin.
    """
    if workers == 1:
        yield from map(work, tasks)
        return
    pool, waiting, begun = ThreadPoolExecutor(workers), deque[Future[Result]](), 0
    try:
        while begun < len(tasks) or waiting:
            while begun < len(tasks) and len(waiting) < 2 * workers:
                waiting.append(pool.submit(work, tasks[begun]))
                begun += 1
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
