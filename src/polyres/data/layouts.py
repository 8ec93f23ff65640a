"""Pairs found in the folder layouts of the field.

``4`` stands for any scale (``2``, ``2.5``, and ``7-3`` for 7/3), and the pictures may be of any usual format:

- ``Set5/HR`` or ``Set5/GTmod12``, with ``Set5/LR_bicubic/X4/babyx4.png`` or ``Set5/LRbicx4/baby.png``;
- ``DIV2K/DIV2K_valid_HR`` with ``DIV2K/DIV2K_valid_LR_bicubic/X4/0801x4.png``, a set for each prefix;
- ``img_001_SRF_4_HR.png`` beside ``img_001_SRF_4_LR.png``, in the folder or in ``image_SRF_4`` below it;
- a plain folder of HR pictures, and the first two without an LR folder of that scale: LR is made on reading;
- a folder of several such sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from polyres.data.files import list_pictures
from polyres.data.pairs import Pair
from polyres.errors import DataError, ScaleError
from polyres.scale import Scale

_HIGH_FOLDER = re.compile(r"(?:(?P<prefix>.+)_)?HR|GT(?:mod\d+)?", re.IGNORECASE)
_SELFEXSR = re.compile(r"(?P<name>.+)_SRF_(?P<scale>[\d.-]+)_(?P<kind>HR|LR)", re.IGNORECASE)

_LOW_FOLDER = re.compile(r"X(?P<a>[\d.-]+)|LRbicx(?P<b>[\d.-]+)", re.IGNORECASE)

#: File names that an error lists before it only counts.
_NAMED = 3


def find_pairs(folder: Path, scales: Iterable[Scale]) -> list[Pair]:
    """The pairs in ``folder`` at each of ``scales``: set by set, scale by scale, pictures by name.

    Raises:
        DataError: no folder, no pictures, two pictures of one name, or LR and HR that do not match one to one.
    """
    if not folder.is_dir():
        raise DataError(f"'{folder}' is not a folder; give one that holds pictures, or sets of pictures")
    wanted = list(scales)
    pairs = _set_in(folder, wanted)
    if not pairs:
        below = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        pairs = [pair for each in below for pair in _set_in(each, wanted)]
    if not pairs:
        raise DataError(
            f"'{folder}' and the folders in it hold no pictures; a set is a folder of HR pictures, or HR beside "
            "LR_bicubic/X4"
        )
    return pairs


def find_highs(folder: Path) -> list[Path]:
    """The HR pictures in ``folder``, whatever the state of their LR: directly in it, or in the sets in it.

    Raises:
        DataError: no folder.
    """
    direct = [
        p
        for p in list_pictures(folder)
        if not (m := _SELFEXSR.fullmatch(p.stem)) or m["kind"].upper() == "HR"
    ]
    below = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    highs = [p for p in below if _HIGH_FOLDER.fullmatch(p.name)]
    if direct or highs:
        return direct + [path for each in highs for path in list_pictures(each)]
    return [path for each in below if not _LOW_FOLDER.fullmatch(each.name) for path in find_highs(each)]


def find_scales(folder: Path) -> list[Scale]:
    """The scales that ``folder``, or a set in it, has LR pictures of, from small to large."""
    found = set[str]()
    for path in folder.rglob("*"):
        name = _LOW_FOLDER.fullmatch(path.name) if path.is_dir() else _SELFEXSR.fullmatch(path.stem)
        if name is not None:
            found.add(next(text for text in name.groups()[-2:] if text and text.upper() not in ("HR", "LR")))
    scales = set[Scale]()
    for text in found:
        with suppress(ScaleError):  # a folder of another meaning, such as X2024-01
            scales.add(Scale.of(text.replace("-", "/")))
    return sorted(scales, key=lambda scale: scale.y)


def _set_in(folder: Path, scales: Sequence[Scale]) -> list[Pair]:
    """The pairs of the set that ``folder`` itself is, or none; DIV2K's folder counts as one set a prefix."""
    name = folder.resolve().name
    highs = [
        (p, m["prefix"])
        for p in sorted(folder.iterdir())
        if (m := _HIGH_FOLDER.fullmatch(p.name)) and p.is_dir()
    ]
    if highs:
        _refuse_twins({prefix or name: p for p, prefix in highs}, [p for p, _ in highs])
        return [
            pair
            for p, prefix in highs
            for s in scales
            for pair in _from_folders(p, prefix, prefix or name, s)
        ]
    if any(_SELFEXSR.fullmatch(path.stem) for path in _selfexsr_files(folder)):
        return [pair for scale in scales for pair in _from_suffixes(folder, name, scale)]
    pictures = _by_stem(folder)
    return [Pair(name, stem, scale, path) for scale in scales for stem, path in pictures.items()]


def _from_folders(high: Path, prefix: str | None, group: str, scale: Scale) -> list[Pair]:
    """Pairs of an HR folder and the LR folder beside it, if there is one of this scale."""
    pictures = _by_stem(high)
    if not pictures:
        raise DataError(f"'{high}' holds no pictures; it should hold the HR pictures of {group}")
    text = _text(scale)
    stem = f"{prefix}_LR_bicubic" if prefix else "LR_bicubic"
    for low in (
        high.parent / stem / f"X{text}",
        high.parent / stem / f"x{text}",
        high.parent / f"LRbicx{text}",
    ):
        if low.is_dir():
            # A picture called "abcx4" whose LR bears the same name must not lose its ending.
            lows = {
                name if name in pictures else name.removesuffix(f"x{text}"): p
                for name, p in _by_stem(low).items()
            }
            _refuse_twins(lows, list_pictures(low))
            _refuse_unpaired(pictures, lows, high, low)
            return [Pair(group, name, scale, path, lows[name]) for name, path in pictures.items()]
    return [Pair(group, name, scale, path) for name, path in pictures.items()]


def _from_suffixes(folder: Path, group: str, scale: Scale) -> list[Pair]:
    """Pairs told apart by the ends of their names, as SelfExSR publishes them."""
    found: dict[str, dict[str, Path]] = {"HR": {}, "LR": {}}
    for path in _selfexsr_files(folder):
        match = _SELFEXSR.fullmatch(path.stem)
        if match and match["scale"] == _text(scale):
            found[match["kind"].upper()][match["name"]] = path
    if not found["HR"]:
        raise DataError(
            f"'{folder}' holds no pictures called ..._SRF_{_text(scale)}_HR; leave out scale {scale}"
        )
    _refuse_unpaired(found["HR"], found["LR"], folder, folder)
    return [Pair(group, name, scale, path, found["LR"][name]) for name, path in found["HR"].items()]


def _selfexsr_files(folder: Path) -> list[Path]:
    folders = [folder, *sorted(p for p in folder.glob("image_SRF_*") if p.is_dir())]
    return [path for each in folders for path in list_pictures(each)]


def _by_stem(folder: Path) -> dict[str, Path]:
    """The pictures of ``folder`` by name without ending."""
    paths = list_pictures(folder)
    pictures = {path.stem: path for path in paths}
    _refuse_twins(pictures, paths)
    return pictures


def _refuse_twins(named: Mapping[str, Path], paths: Sequence[Path]) -> None:
    twins = [path for path in paths if path not in named.values()]
    if twins:
        raise DataError(f"'{twins[0]}' has the name of another beside it: keep one of them")


def _refuse_unpaired(
    highs: Mapping[str, Path], lows: Mapping[str, Path], high_folder: Path, low_folder: Path
) -> None:
    for ours, theirs, folder in ((highs, lows, low_folder), (lows, highs, high_folder)):
        lonely = [str(path) for name, path in ours.items() if name not in theirs]
        if lonely:
            more = f" and {len(lonely) - _NAMED} more" if len(lonely) > _NAMED else ""
            raise DataError(
                f"no partner in '{folder}' for {', '.join(lonely[:_NAMED])}{more}: complete or remove them"
            )


def _text(scale: Scale) -> str:
    """``scale`` as it stands in file names."""
    return str(scale).replace("/", "-")
