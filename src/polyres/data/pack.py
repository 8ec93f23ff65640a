"""Packs: one file with every picture of a training set uncompressed, mapped into memory.

::

    0      64 bytes   magic, version, count of pictures, offset and length of the index, its SHA-256
    4096   pixels     (H, W, 3) uint8, row after row; each picture begins on a page of 4096 bytes
    ...    index      JSON: name, height, width, offset and checksum of each picture, in their order

A crop reads only its rows, nothing is decoded, and processes share the memory. The digest of the index, which holds
the checksum of every picture, is the fingerprint of the set.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polyres.data.sources import Pixels, checksum
from polyres.errors import DataError

MAGIC = b"\x89polypak"
VERSION = 1
PAGE = 4096
#: magic, version, count, offset and length of the index, its SHA-256; little endian.
HEADER = struct.Struct("<8sIIQQ32s")


@dataclass(frozen=True)
class Item:
    """One picture of a pack: where its (height, width, 3) bytes begin, and their checksum."""

    name: str
    height: int
    width: int
    offset: int
    checksum: str

    @property
    def end(self) -> int:
        """The first byte after its pixels."""
        return self.offset + self.height * self.width * 3


class Pack:
    """A pack file as a source. The header and index are checked on opening, pixels by :meth:`damaged` only.

    Args:
        path: the file.

    Raises:
        DataError: not a pack, of another version, truncated, or with a header or index that contradicts the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.items, self.fingerprint = _read_index(path)
            self._bytes = np.memmap(path, dtype=np.uint8, mode="r")
        except OSError as error:
            raise DataError(f"'{path}' cannot be read: {error.strerror or error}") from error
        self.names: Sequence[str] = [f"{path}/{item.name}" for item in self.items]
        self.sizes: Sequence[tuple[int, int]] = [(item.height, item.width) for item in self.items]

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process maps the file itself instead of receiving its bytes.
        return Pack, (self.path,)

    def crop(self, index: int, rows: slice, columns: slice) -> Pixels:
        """A copy of rows and columns of picture ``index``; the rest of it is not touched."""
        return np.array(self._picture(self.items[index])[rows, columns])

    def damaged(self) -> Iterator[str]:
        """The names of pictures whose pixels do not match their checksum; reads the whole file."""
        for item in self.items:
            if checksum(self._picture(item)) != item.checksum:
                yield item.name

    def _picture(self, item: Item) -> Pixels:
        return self._bytes[item.offset : item.end].reshape(item.height, item.width, 3)


def _read_index(path: Path) -> tuple[list[Item], str]:
    """The pictures and the fingerprint; everything that could lead outside the file is refused."""
    length = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(HEADER.size)
        if len(head) < HEADER.size or not head.startswith(MAGIC):
            raise DataError(
                f"'{path}' is not a pack; make one with: polyres data pack FOLDER -o {path.stem}.pack"
            )
        _, version, count, offset, size, digest = HEADER.unpack(head)
        if version != VERSION:
            raise DataError(
                f"'{path}' is a pack of version {version}, this polyres reads {VERSION}: pack it again"
            )
        if offset + size != length:
            raise DataError(
                f"'{path}' should be {offset + size} bytes long and is {length}: it is truncated or damaged, "
                "copy or pack it again"
            )
        stream.seek(offset)
        index = stream.read(size)
    if hashlib.sha256(index).digest() != digest:
        raise DataError(f"'{path}' has a damaged index: copy or pack it again")
    try:
        items = [Item(**entry) for entry in json.loads(index)]
        _check(items, count, offset)
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"'{path}' has an index that contradicts the file ({error}): pack it again"
        ) from error
    return items, digest.hex()


def _check(items: Sequence[Item], count: int, limit: int) -> None:
    """ValueError unless the pictures lie one after the other, aligned, inside the file and are as many as stated."""
    if not items or len(items) != count:
        raise ValueError(f"{count} pictures stated, {len(items)} listed")
    free = PAGE
    for item in items:
        numbers = (item.height, item.width, item.offset)
        if not all(type(n) is int and n > 0 for n in numbers) or not isinstance(item.name, str):
            raise ValueError("sizes and offsets are not whole numbers above zero")
        if item.offset % PAGE or item.offset < free or item.end > limit:
            raise ValueError(f"the pixels of '{item.name}' lie outside their place")
        free = item.end
