"""LMDB databases as BasicSR's tools write them, read as a source.

A database is a folder with ``data.mdb`` and ``meta_info.txt``. Each line of the latter is a picture:
``0001_s001.png (480,480,3) 1``, its name, its shape and the PNG compression level. The key is the name without
ending, the value an encoded picture.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from polyres.data.files import read_rgb
from polyres.data.kept import Kept
from polyres.data.sources import Pixels, digest_of
from polyres.errors import DataError, MissingExtraError, PictureError

_LINE = re.compile(r"(?P<name>.+?)\s+\((?P<height>\d+),\s*(?P<width>\d+)(?:,\s*\d+)?\)(?:\s+\d+)?")


class LmdbPictures:
    """The pictures of one database; nothing is ever written to it.

    Args:
        folder: holds ``data.mdb`` and ``meta_info.txt``.
        memory: bytes of decoded pictures to keep; a quarter of the machine's memory if not given.

    Raises:
        MissingExtraError: the extra ``lmdb`` is not installed.
        DataError: no ``meta_info.txt``, a line of another form, or no database.
    """

    def __init__(self, folder: Path, memory: int | None = None) -> None:
        self._folder, self._memory, self._kept = folder, memory, Kept(memory)
        entries = _read_meta(folder / "meta_info.txt")
        self._keys = [Path(name).with_suffix("").as_posix().encode() for name, _ in entries]
        self.names: Sequence[str] = [f"{folder}/{name}" for name, _ in entries]
        self.sizes: Sequence[tuple[int, int]] = [size for _, size in entries]
        self._database = _open(folder.resolve())

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process opens the database itself; an open one cannot be handed over.
        return LmdbPictures, (self._folder, self._memory)

    @property
    def fingerprint(self) -> str:
        """Of the lines of ``meta_info.txt`` and the length of the database."""
        length = (self._folder / "data.mdb").stat().st_size
        return digest_of(
            [*(f"{key!r} {size}" for key, size in zip(self._keys, self.sizes, strict=True)), str(length)]
        )

    def crop(self, index: int, rows: slice, columns: slice) -> Pixels:
        """Rows and columns of picture ``index``, decoded now unless it was kept."""
        return self._kept.get(index, lambda: self._decode(index))[rows, columns]

    def _decode(self, index: int) -> Pixels:
        with self._database.begin() as transaction:
            encoded = transaction.get(self._keys[index])
        name = self.names[index]
        if encoded is None:
            raise PictureError(
                f"'{name}' stands in meta_info.txt but not in the database: write the LMDB again"
            )
        picture = read_rgb(Path(name), io.BytesIO(encoded))
        if picture.shape[:2] != self.sizes[index]:
            raise PictureError(
                f"'{name}' is {picture.shape[:2]} (height, width), but meta_info.txt says {self.sizes[index]}: "
                "write the LMDB again"
            )
        return picture


def _read_meta(path: Path) -> list[tuple[str, tuple[int, int]]]:
    """(name, (height, width)) of each line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"'{path}' cannot be read ({error}); an LMDB written by BasicSR's tools has this list of its pictures"
        ) from error
    entries = []
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise DataError(
                f"'{path}', line {number}: expected 'name.png (height,width,channels) level', got '{line[:80]}'"
            )
        entries.append((match["name"], (int(match["height"]), int(match["width"]))))
    if not entries:
        raise DataError(f"'{path}' lists no pictures")
    return entries


@cache
def _open(folder: Path) -> Any:
    """The database, opened once however many sources read it: LMDB allows no more in one process."""
    try:
        import lmdb
    except ImportError:
        raise MissingExtraError(f"reading '{folder}', an LMDB,", "lmdb") from None
    try:
        # Without lock and readahead: read-only folders work, and random crops do not drag neighbours in.
        return lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise DataError(f"'{folder}' holds no LMDB that can be read: {error}") from error
