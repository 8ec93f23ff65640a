"""Writing packs: folders of pictures into one file that training maps into memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from polyres.data.files import list_pictures, read_rgb
from polyres.data.pack import HEADER, MAGIC, PAGE, VERSION, Item, Pack
from polyres.data.sources import Pixels, checksum
from polyres.data.sweeping import decoded
from polyres.errors import DataError, PictureError
from polyres.files import replacing

#: Damaged pictures that an error names before it only counts.
_NAMED = 5


def write_pack(
    folders: Sequence[Path], output: Path, progress: Callable[[int, int], None] | None = None
) -> Pack:
    """Pack the pictures directly in ``folders``, in the order of folders and names.

    A picture is called ``folder/name.png``, after its folder's last part.

    Args:
        folders: each with pictures; grey ones become RGB.
        output: the pack; replaced whole once everything is written.
        progress: called with (pictures done, pictures in all).

    Returns:
        The pack, opened.

    Raises:
        DataError: no folder, or one without pictures.
        PictureError: pictures that cannot be read: all are tried, and named together.
        OutputError: ``output`` cannot be written.
    """
    files = _files(folders)
    items: list[Item] = []
    problems: list[str] = []
    with replacing(output) as stream:
        stream.write(bytes(PAGE))
        names = [f"{path.parent.name}/{path.name}" for path in files]
        for done, (name, result) in enumerate(decoded(names, lambda index: read_rgb(files[index])), 1):
            if isinstance(result, PictureError):
                problems.append(str(result))
            elif not problems:  # what cannot be finished need not be written
                items.append(_append(stream, name, result))
            if progress is not None:
                progress(done, len(files))
        if problems:
            more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
            raise PictureError(
                f"{len(problems)} of {len(files)} pictures cannot be packed: {'; '.join(problems[:_NAMED])}{more}"
            )
        _finish(stream, items)
    return Pack(output)


def _files(folders: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for folder in folders:
        found = list_pictures(folder)
        if not found:
            raise DataError(f"there are no pictures in '{folder}'")
        files += [path.resolve() for path in found]
    return files


def _append(stream: BinaryIO, name: str, picture: Pixels) -> Item:
    """Write the pixels at the next page."""
    end = stream.tell()
    offset = -(-end // PAGE) * PAGE
    stream.write(bytes(offset - end))
    stream.write(picture.tobytes())
    return Item(name, picture.shape[0], picture.shape[1], offset, checksum(picture))


def _finish(stream: BinaryIO, items: Sequence[Item]) -> None:
    """Write the index behind the pixels and the header before them."""
    index = json.dumps([asdict(item) for item in items], separators=(",", ":")).encode()
    offset = stream.tell()
    stream.write(index)
    stream.seek(0)
    stream.write(HEADER.pack(MAGIC, VERSION, len(items), offset, len(index), hashlib.sha256(index).digest()))
