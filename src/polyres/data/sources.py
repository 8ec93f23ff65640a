"""Where training pictures come from: folders, packs and LMDB databases behind one small contract."""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from polyres.data.files import list_pictures, read_rgb
from polyres.errors import DataError

Pixels: TypeAlias = npt.NDArray[np.uint8]

_WHOLE = slice(None)


class Source(Protocol):
    """Pictures that crops are cut from. Calls may come from several threads at once.

    Attributes:
        names: one for each picture; messages use them.
        sizes: (height, width) of each.
        fingerprint: hexadecimal digest that changes with the pictures.
    """

    @property
    def names(self) -> Sequence[str]:
        """Of each picture."""
        ...

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """(height, width) of each picture."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of all of them."""
        ...

    def crop(self, index: int, rows: slice, columns: slice) -> Pixels:
        """Rows and columns of picture ``index`` as (H, W, 3) uint8.

        Raises:
            PictureError: the picture cannot be read; the message names it.
        """
        ...


class Memory:
    """Pictures that are held in memory.

    Args:
        pictures: (H, W, 3) uint8 each.
        names: what to call them; numbers if not given.
    """

    def __init__(self, pictures: Sequence[Pixels], names: Sequence[str] | None = None) -> None:
        self.pictures = list(pictures)
        self.names: Sequence[str] = list(names or (f"picture {i}" for i in range(len(self.pictures))))
        self.sizes: Sequence[tuple[int, int]] = [(p.shape[0], p.shape[1]) for p in self.pictures]

    @property
    def fingerprint(self) -> str:
        """Of the sizes and pixels."""
        return digest_of([f"{p.shape} {checksum(p)}" for p in self.pictures])

    def crop(self, index: int, rows: slice, columns: slice) -> Pixels:
        """A view of the picture."""
        return self.pictures[index][rows, columns]


class Joined:
    """Several sources as one, in their order."""

    def __init__(self, parts: Sequence[Source]) -> None:
        self._parts = list(parts)
        self._starts = list(itertools.accumulate((len(p.names) for p in self._parts), initial=0))
        self.names: Sequence[str] = [name for p in self._parts for name in p.names]
        self.sizes: Sequence[tuple[int, int]] = [size for p in self._parts for size in p.sizes]

    @property
    def fingerprint(self) -> str:
        """Of the parts' fingerprints, in their order."""
        return digest_of([part.fingerprint for part in self._parts])

    def crop(self, index: int, rows: slice, columns: slice) -> Pixels:
        """As the part that holds the picture gives it."""
        place = bisect.bisect_right(self._starts, index) - 1
        return self._parts[place].crop(index - self._starts[place], rows, columns)


def open_source(path: Path) -> Source:
    """The pictures at ``path``: a folder of pictures, a pack, or the folder of an LMDB database.

    Raises:
        DataError: nothing there, no pictures in it, or a damaged pack or database.
        PictureError: a picture of a folder that cannot be read.
        MissingExtraError: LMDB without the extra ``lmdb``.
    """
    from polyres.data.folder import PictureFolder
    from polyres.data.lmdb_reader import LmdbPictures
    from polyres.data.pack import Pack

    if path.is_file():
        return Pack(path)
    if (path / "data.mdb").is_file():
        return LmdbPictures(path)
    return PictureFolder(path)


def open_sources(paths: Sequence[Path]) -> Source:
    """All pictures of ``paths``, each a folder, a pack or a database, as one source; see :func:`open_source`."""
    if not paths:
        raise DataError("no pictures to train on: name at least one folder, pack or LMDB")
    parts = [open_source(path) for path in paths]
    return parts[0] if len(parts) == 1 else Joined(parts)


def load_pictures(paths: Sequence[Path], at_most: int | None = None) -> list[Pixels]:
    """The pictures of ``paths``, decoded, in their order; for validation sets, which are small.

    Args:
        paths: folders, packs or databases; none is no pictures.
        at_most: stop after this many.

    Raises:
        DataError, PictureError, MissingExtraError: as :func:`open_source`.
    """
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda reader: reader[1](), readers(paths)[:at_most]))


def readers(paths: Sequence[Path]) -> list[tuple[str, Callable[[], Pixels]]]:
    """The name of each picture of ``paths`` and what decodes it, in their order; none is decoded yet.

    Unlike :func:`open_sources` this opens no file of a folder, so it is quick however many there are.

    Raises:
        DataError, PictureError, MissingExtraError: as :func:`open_source`.
    """
    return [reader for path in paths for reader in _readers(path)]


def _readers(path: Path) -> list[tuple[str, Callable[[], Pixels]]]:
    if path.is_file() or (path / "data.mdb").is_file():
        source = open_source(path)
        return [(name, partial(_whole, source, index)) for index, name in enumerate(source.names)]
    found = list_pictures(path)
    if not found:
        raise DataError(f"there are no pictures in '{path}'")
    return [(str(each), partial(read_rgb, each)) for each in found]


def _whole(source: Source, index: int) -> Pixels:
    return np.array(source.crop(index, _WHOLE, _WHOLE))


def checksum(pixels: Pixels) -> str:
    """Hexadecimal digest of a picture's pixels, whatever file they came from; its shape is not part of it."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).hexdigest()


def digest_of(lines: Sequence[str]) -> str:
    """Hexadecimal digest of ``lines`` in their order."""
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()
