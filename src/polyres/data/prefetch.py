"""Batches made ahead of their use, by threads or by processes, in order and whatever the number of workers."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from polyres.data.crops import Batch, Batches
from polyres.errors import DataError

#: In a worker process: what it makes batches from.
_SOURCE: list[Batches] = []


class Prefetched:
    """Batches of ``source``, the following ones begun while one is used.

    Args:
        source: where they come from.
        micros: micro-batches in a step.
        ahead: batches kept ready.
        workers: threads or processes; 0 makes each batch when it is asked for.
        processes: processes instead of threads. Each opens the pictures anew: right for packs with costly
            degradations on many cores, wasteful for folders.
    """

    def __init__(
        self, source: Batches, micros: int, ahead: int = 8, workers: int = 2, processes: bool = False
    ) -> None:
        self._source, self._micros, self._ahead = source, micros, ahead
        self._in_processes = processes
        self._pool = _pool(source, workers, processes) if workers else None
        self._ready: dict[tuple[int, int], Future[Batch]] = {}

    def batch(self, step: int, micro: int) -> Batch:
        """As the source's; the following ones are begun.

        Raises:
            DataError: a worker process died.
        """
        if self._pool is None:
            return self._source.batch(step, micro)
        try:
            for offset in range(self._ahead):
                later = divmod(step * self._micros + micro + offset, self._micros)
                if later not in self._ready:
                    self._ready[later] = self._begin(self._pool, later)
            return self._ready.pop((step, micro)).result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process that loads pictures died, most likely killed for want of memory: use fewer workers, or "
                "threads, and go on with --resume"
            ) from error

    def close(self) -> None:
        """Stop the workers; batches not asked for are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, pool: Executor, place: tuple[int, int]) -> Future[Batch]:
        if self._in_processes:
            return pool.submit(_made, *place)
        return pool.submit(self._source.batch, *place)


def _pool(source: Batches, workers: int, processes: bool) -> Executor:
    if not processes:
        return ThreadPoolExecutor(max_workers=workers)
    # Not forked: the parent has threads of its own, whose locks a copy would never see released.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_receive, initargs=(source,))


def _receive(source: Batches) -> None:
    _SOURCE.append(source)


def _made(step: int, micro: int) -> Batch:
    return _SOURCE[0].batch(step, micro)
