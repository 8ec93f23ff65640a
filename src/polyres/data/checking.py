"""Looking through a data set before a run: damaged files, wrong pairs, duplicates, test pictures in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from polyres.data.layouts import find_pairs, find_scales
from polyres.data.likeness import distances, perceptual_hash, turned_hashes
from polyres.data.pack import Pack
from polyres.data.pairs import Pair
from polyres.data.sources import Pixels, checksum
from polyres.data.sweeping import every_picture
from polyres.data.verifying import Verdict, shifted_text, spread, verdict
from polyres.errors import DataError, PictureError
from polyres.scale import Scale

#: Hashes that differ in at most this many of 63 bits belong to versions of one picture.
NEAR = 6

Kind = Literal["unreadable", "damaged", "pairs", "shifted", "duplicate", "in test set", "near test set"]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: its kind and a sentence that names the files."""

    kind: Kind
    message: str


@dataclass
class Check:
    """What was found.

    Attributes:
        pictures: how many were read.
        pixels: how many they have together.
        smallest: (height, width) of the one with the shortest side; None without pictures.
        verdicts: for each set of pairs and scale, how its LR was made.
        findings: what is wrong, in the order of the folders.
    """

    pictures: int = 0
    pixels: int = 0
    smallest: tuple[int, int] | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def check(
    paths: Sequence[Path],
    against: Sequence[Path] = (),
    progress: Callable[[str], None] | None = None,
    at_most: int = 10,
) -> Check:
    """Read everything in ``paths`` and say what is wrong with it.

    Args:
        paths: folders of pictures, sets with HR and LR folders, packs, or LMDBs.
        against: test sets, of the same kinds, whose pictures must not be among them, mirrored or turned ones neither.
        progress: called with the name of each picture.
        at_most: pairs of a set and scale whose kernel is looked into, evenly spread.

    Raises:
        DataError: a path that is nothing of the kind, or without pictures.
        MissingExtraError: an LMDB without the extra ``lmdb``.
    """
    result, seen = Check(), _Seen()
    for path in paths:
        for name, picture in every_picture(path):
            if progress is not None:
                progress(name)
            if isinstance(picture, PictureError):
                result.findings.append(Finding("unreadable", str(picture)))
            else:
                _count(result, picture)
                result.findings += seen.add(name, picture)
        if path.is_file():
            damaged = Pack(path).damaged()
            result.findings += [Finding("damaged", f"'{path}': the pixels of '{n}' changed") for n in damaged]
        elif scales := find_scales(path):
            for scale in scales:
                _check_pairs(result, path, scale, at_most)
    for path in against:
        for name, picture in every_picture(path):
            if not isinstance(picture, PictureError):
                result.findings += seen.leaks(name, picture)
    return result


class _Seen:
    """The pictures so far, as far as comparing needs them."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._names: list[str] = []
        self._hashes: list[int] = []

    def add(self, name: str, picture: Pixels) -> list[Finding]:
        """Remember a picture; a twin of an earlier one is a finding."""
        twin = self._first.setdefault(_identity(picture), name)
        if twin != name:
            return [Finding("duplicate", f"'{name}' is the same picture as '{twin}'")]
        likeness = perceptual_hash(picture)
        if likeness is not None:
            self._names.append(name)
            self._hashes.append(likeness)
        return []

    def leaks(self, name: str, picture: Pixels) -> list[Finding]:
        """Whether a test picture, or a version of it, is among those remembered."""
        if twin := self._first.get(_identity(picture)):
            return [Finding("in test set", f"'{twin}' is the test picture '{name}': remove it")]
        turned = turned_hashes(picture)
        if not turned or not self._hashes:
            return []
        hashes = np.array(self._hashes, dtype=np.uint64)
        nearest = np.min([distances(hashes, each) for each in turned], axis=0)
        return [
            Finding("near test set", f"'{self._names[i]}' looks like the test picture '{name}': compare them")
            for i in np.flatnonzero(nearest <= NEAR)
        ]


def _identity(picture: Pixels) -> str:
    return f"{picture.shape} {checksum(picture)}"


def _count(result: Check, picture: Pixels) -> None:
    size = picture.shape[0], picture.shape[1]
    result.pictures += 1
    result.pixels += size[0] * size[1]
    result.smallest = size if result.smallest is None else min(result.smallest, size, key=min)


def _check_pairs(result: Check, folder: Path, scale: Scale, at_most: int) -> None:
    """Whether LR and HR of one scale belong together, and how LR was made."""
    try:
        pairs = [pair for pair in find_pairs(folder, [scale]) if pair.low is not None]
    except DataError as error:
        result.findings.append(Finding("pairs", str(error)))
        return
    for group in dict.fromkeys(pair.group for pair in pairs):
        fitting = [p for p in pairs if p.group == group and _fits(p, result.findings)]
        if fitting:
            found = verdict(spread(fitting, at_most))
            result.verdicts.append(found)
            result.findings += [Finding("shifted", shifted_text(each)) for each in found.shifted]


def _fits(pair: Pair, findings: list[Finding]) -> bool:
    try:
        pair.read()
    except (DataError, PictureError) as error:
        findings.append(Finding("pairs" if isinstance(error, DataError) else "unreadable", str(error)))
        return False
    return True
