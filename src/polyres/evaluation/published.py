"""Rows that papers print, kept in a data file with their sources, to be set beside one's own.

They are by the protocol ``paper-y``. How their LR pictures were made, and what else a paper does not say, may differ.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from polyres.errors import DataError, UnknownNameError, nearest

#: The protocol that papers follow.
PROTOCOL = "paper-y"

_FIELDS = ("method", "source", "training", "scale", "set", "psnr", "ssim", "note")


@dataclass(frozen=True)
class Published:
    """One printed row.

    Attributes:
        method: as its paper calls it.
        source: where it is printed.
        training: the training set, where the source tells.
        scale: such as ``4``.
        group: the benchmark set.
        psnr: in dB.
        ssim: or None where the source has none.
        note: what to know of it.
    """

    method: str
    source: str
    training: str
    scale: str
    group: str
    psnr: float
    ssim: float | None
    note: str

    @property
    def label(self) -> str:
        """The method, with its training set if that is known."""
        return f"{self.method} ({self.training})" if self.training else self.method


def read_published(path: Path | None = None) -> list[Published]:
    """The rows in the CSV file at ``path``, by default in the package's own.

    Its header is ``method,source,training,scale,set,psnr,ssim,note``; training, ssim and note may be empty.

    Raises:
        DataError: no such file, other columns, or a line that is no row; the message names the line.
    """
    name = str(path) if path else "published.csv"
    try:
        own = resources.files("polyres.evaluation").joinpath("published.csv")
        text = (path or own).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{name}' cannot be read as a file of published rows: {error}") from error
    reader = csv.DictReader(io.StringIO(text), strict=True)
    if tuple(reader.fieldnames or ()) != _FIELDS:
        raise DataError(
            f"'{name}' is no file of published rows: its first line should be {','.join(_FIELDS)}"
        )
    return [_row(line, f"'{name}', line {reader.line_num}") for line in reader]


def choose(words: Iterable[str]) -> list[Published]:
    """The rows that ``words`` ask for: ``all``, names of methods, and CSV files of one's own.

    Raises:
        UnknownNameError: a method that is not in the package's file.
        DataError: see :func:`read_published`.
    """
    own, chosen = read_published(), list[Published]()
    for word in words:
        if word.lower().endswith(".csv"):
            chosen += read_published(Path(word))
            continue
        rows = [
            row for row in own if word == "all" or word.lower() in (row.method.lower(), row.label.lower())
        ]
        if not rows:
            known = dict.fromkeys(row.method for row in own)
            raise UnknownNameError(
                f"no published method is called '{word}'; there are all, {', '.join(known)}.{nearest(word, known)}"
            )
        chosen += rows
    return list(dict.fromkeys(chosen))


def beside(rows: Sequence[Published], wanted: Collection[tuple[str, str]]) -> list[Published]:
    """Those of ``rows`` whose (set, scale) is among ``wanted``; sets are told apart whatever their case."""
    keys = {(group.lower(), scale) for group, scale in wanted}
    return [row for row in rows if (row.group.lower(), row.scale) in keys]


def sources(rows: Iterable[Published]) -> list[str]:
    """A line for each source of ``rows``, with the methods and notes that belong to it."""
    listed: dict[str, dict[str, None]] = {}
    for row in rows:
        listed.setdefault(row.source, {})[f"{row.method}: {row.note}" if row.note else row.method] = None
    return [f"{source}: {'; '.join(what)}" for source, what in listed.items()]


def _row(line: dict[str, str], where: str) -> Published:
    try:
        return Published(
            line["method"],
            line["source"],
            line["training"],
            line["scale"],
            line["set"],
            float(line["psnr"]),
            float(line["ssim"]) if line["ssim"] else None,
            line["note"],
        )
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{where} is no published row: {error}") from error
