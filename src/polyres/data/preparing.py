"""Sorting a downloaded public set into the folders that training and evaluation read.

::

    OUTPUT/DIV2K_train_HR/0001.png        OUTPUT/DIV2K_train_LR_bicubic/X4/0001x4.png
    OUTPUT/DIV2K_valid_HR/0801.png        OUTPUT/DIV2K_train_sub_HR/0001_s001.png   (with sub-images)
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from PIL import Image

from polyres.data.archives import files_in
from polyres.data.files import read_rgb
from polyres.data.public import Place, PublicSet
from polyres.data.windows import Windows
from polyres.errors import DataError
from polyres.files import write_file


@dataclass
class Prepared:
    """What was sorted.

    Attributes:
        pictures: how many pictures of the set were found, for each folder.
        missing: the numbers that are not there, for each folder of which the numbers are known.
        small: pictures that are smaller than a sub-image.
    """

    pictures: dict[str, int] = field(default_factory=dict)
    missing: dict[str, list[int]] = field(default_factory=dict)
    small: list[str] = field(default_factory=list)


def prepare(
    public: PublicSet,
    downloads: Path,
    output: Path,
    windows: Windows | None = None,
    progress: Callable[[str], None] | None = None,
) -> Prepared:
    """Sort the files of ``public`` in ``downloads``, loose or in zip and tar archives, into ``output``.

    Files are copied byte for byte. Those already there in the same length are left, so that an interrupted call can
    be repeated. Nothing is downloaded.

    Args:
        public: the set.
        downloads: folder with archives or unpacked folders, at any depth.
        output: folder to sort into; made if missing.
        windows: also cut sub-images this way, into folders beside.
        progress: called with each path found.

    Raises:
        DataError: no pictures of this set, or a damaged archive or picture.
        OutputError: ``output`` cannot be written.
    """
    result, found = Prepared(), defaultdict[str, set[int]](set)
    for path, content in files_in(downloads, ".png"):
        place = public.place(path)
        if place is None:
            continue
        if progress is not None:
            progress(path)
        found[_folder(public, place)].add(int(place.number))
        _put(output / _folder(public, place) / _name(place), content)
        if windows is not None and not _cut(public, place, path, content, output, windows):
            result.small.append(path)
    if not found:
        raise DataError(
            f"'{downloads}' holds no pictures of {public.name}, neither loose nor in zip or tar archives; they are "
            f"recognised by the folders and names of its archives"
        )
    result.pictures = {folder: len(numbers) for folder, numbers in sorted(found.items())}
    result.missing = _missing(public, found)
    return result


def ranges(numbers: Sequence[int]) -> str:
    """``1-3, 7``: sorted numbers, shortened."""
    runs = groupby(enumerate(numbers), key=lambda each: each[1] - each[0])
    ends = [[number for _, number in run] for _, run in runs]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in ends)


def _missing(public: PublicSet, found: dict[str, set[int]]) -> dict[str, list[int]]:
    """HR of every split whose numbers are known, and LR of every scale of which there is something."""
    expected = {_folder(public, Place(split, "", None)): split for split in public.numbers}
    for folder in found:
        split = next((s for s in public.numbers if folder.startswith(f"{public.name}_{s}_")), None)
        if split is not None:
            expected[folder] = split
    missing = {}
    for folder, split in sorted(expected.items()):
        first, last = public.numbers[split]
        missing[folder] = sorted(set(range(first, last + 1)) - found.get(folder, set()))
    return {folder: numbers for folder, numbers in missing.items() if numbers}


def _folder(public: PublicSet, place: Place, kind: str = "") -> str:
    stem = f"{public.name}_{place.split}{kind}"
    return f"{stem}_HR" if place.scale is None else f"{stem}_LR_bicubic/X{place.scale}"


def _name(place: Place, window: str = "") -> str:
    return f"{place.number}{window}{'' if place.scale is None else f'x{place.scale}'}.png"


def _cut(public: PublicSet, place: Place, path: str, content: bytes, output: Path, windows: Windows) -> bool:
    """Write the sub-images of one picture; False if it is too small for one."""
    picture = read_rgb(Path(path), io.BytesIO(content))
    number = 0
    for number, part in enumerate(windows.cut(picture, place.scale or 1), 1):
        stream = io.BytesIO()
        Image.fromarray(part).save(stream, "PNG", compress_level=3)
        _put(output / _folder(public, place, "_sub") / _name(place, f"_s{number:03}"), stream.getvalue())
    return number > 0


def _put(path: Path, content: bytes) -> None:
    if not (path.is_file() and path.stat().st_size == len(content)):
        write_file(path, content)
