"""Overlap: while one picture is enlarged, the next is read and the one before is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")
Made = TypeVar("Made")

#: What is called to write a result; it returns what the run is told.
Finish = Callable[[], Made]


def overlapped(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    work: Callable[[Item, Read], Finish[Made]],
    expected: type[Exception],
) -> Iterator[tuple[Item, Made | Exception]]:
    """For each item, in order: what writing it told, or the error of one of its three steps.

    ``read`` runs in one thread, what ``work`` returns in another, ``work`` itself in this one. At any time at most
    one item is read ahead and one is being written, so that memory holds three.

    Args:
        items: what to do.
        read: (item) to what ``work`` takes.
        work: (item, what was read) to a function that writes the result.
        expected: errors of one item, which are given out; any other ends the run.
    """
    remaining = iter(items)
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        ahead: deque[tuple[Item, Future[Read]]] = deque()
        written: tuple[Item, Future[Made]] | None = None
        try:
            _read_on(ahead, remaining, reader, read)
            while ahead:
                item, content = ahead.popleft()
                _read_on(ahead, remaining, reader, read)
                try:
                    finish: Finish[Made] | Exception = work(item, content.result())
                except expected as error:
                    finish = error
                if written is not None:
                    yield written[0], _outcome(written[1], expected)
                    written = None
                if isinstance(finish, Exception):
                    yield item, finish
                else:
                    written = item, writer.submit(finish)
                del content, finish
            if written is not None:
                yield written[0], _outcome(written[1], expected)
        finally:
            reader.shutdown(wait=False, cancel_futures=True)


def _read_on(
    ahead: deque[tuple[Item, Future[Read]]],
    remaining: Iterator[Item],
    reader: ThreadPoolExecutor,
    read: Callable[[Item], Read],
) -> None:
    for item in remaining:
        ahead.append((item, reader.submit(read, item)))
        return


def _outcome(result: Future[Any], expected: type[Exception]) -> Any:
    try:
        return result.result()
    except expected as error:
        return error
