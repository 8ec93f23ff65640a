"""A folder of picture files as a source: decoded once while memory lasts, again and again beyond."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from polyres.data.files import list_pictures, read_rgb, read_size
from polyres.data.kept import Kept
from polyres.data.sources import Pixels, digest_of
from polyres.errors import DataError


class PictureFolder:
    """The pictures directly in a folder, by name.

    If all of them together fit into ``memory`` they are decoded at once, and a damaged one is found here. Otherwise
    those drawn first are kept until ``memory`` is full and the rest are decoded for every crop; a pack is then faster.

    Args:
        folder: holds the files.
        memory: bytes of decoded pictures to keep; a quarter of the machine's memory if not given.

    Raises:
        DataError: no folder, or no pictures in it.
        PictureError: a picture that cannot be read, named.
    """

    def __init__(self, folder: Path, memory: int | None = None) -> None:
        self._paths = list_pictures(folder)
        if not self._paths:
            raise DataError(f"there are no pictures in '{folder}'")
        self._folder, self._memory, self._kept = folder, memory, Kept(memory)
        self.names: Sequence[str] = [str(path) for path in self._paths]
        with ThreadPoolExecutor() as pool:
            self.sizes: Sequence[tuple[int, int]] = list(pool.map(read_size, self._paths))
            if sum(height * width * 3 for height, width in self.sizes) <= self._kept.room:
                list(pool.map(self._picture, range(len(self._paths))))

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process decodes for itself what it draws.
        return PictureFolder, (self._folder, self._memory)

    @property
    def fingerprint(self) -> str:
        """Of the names, sizes and lengths of the files; their contents are not read for it."""
        facts = zip(self._paths, self.sizes, strict=True)
        return digest_of([f"{path.name} {size} {path.stat().st_size}" for path, size in facts])

    def crop(self, index: int, rows: slice, columns: slice) -> Pixels:
        """Rows and columns of picture ``index``, decoded now unless it was kept."""
        return self._picture(index)[rows, columns]

    def _picture(self, index: int) -> Pixels:
        return self._kept.get(index, lambda: read_rgb(self._paths[index]))
