"""Every picture at a path, whatever kind it is, without stopping at a damaged one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from polyres.data.files import read_rgb
from polyres.data.layouts import find_highs
from polyres.data.sources import Pixels, open_source
from polyres.errors import DataError, PictureError

#: Pictures decoded at a time: enough for all cores, few enough for little memory.
_GROUP = 16
_WHOLE = slice(None)


def every_picture(path: Path) -> Iterator[tuple[str, Pixels | PictureError]]:
    """(name, pixels or what is wrong) of the HR pictures of a folder, a set of HR and LR, a pack or an LMDB.

    Raises:
        DataError: nothing there, or no pictures in it.
        MissingExtraError: an LMDB without the extra ``lmdb``.
    """
    if path.is_file() or (path / "data.mdb").is_file():
        source = open_source(path)
        yield from decoded(source.names, lambda index: source.crop(index, _WHOLE, _WHOLE))
        return
    files = find_highs(path)
    if not files:
        raise DataError(f"there are no pictures in '{path}' or the folders in it")
    yield from decoded([str(file) for file in files], lambda index: read_rgb(files[index]))


def decoded(
    names: Sequence[str], read: Callable[[int], Pixels]
) -> Iterator[tuple[str, Pixels | PictureError]]:
    """Each name with what ``read`` gives for its place, or with its error; a few at a time, in order."""

    def attempt(index: int) -> Pixels | PictureError:
        try:
            return read(index)
        except PictureError as error:
            return error

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(names), _GROUP):
            group = range(start, min(start + _GROUP, len(names)))
            yield from zip(names[start : group.stop], pool.map(attempt, group), strict=True)
