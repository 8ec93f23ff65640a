"""What an analysis is, and what it found: a table for a CSV file and a figure for a PNG."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from polyres._version import __version__
from polyres.evaluation.figures import encoded
from polyres.files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What a cell of a table may be.
Cell: TypeAlias = "str | int | float"


@dataclass(frozen=True)
class Analysis:
    """A kind of analysis.

    Attributes:
        name: what users write.
        summary: one line for help texts.
        formula: what is computed, in a sentence or two.
        source: the paper that it follows, or ``polyres``.
    """

    name: str
    summary: str
    formula: str
    source: str


@dataclass(frozen=True)
class Table:
    """A table: names of its columns, and rows of as many cells."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Finding:
    """The outcome of one analysis.

    Attributes:
        analysis: which one.
        headline: the outcome in a sentence.
        table: written as ``NAME.csv``.
        draw: makes the figure that is written as ``NAME.png``.
        more: further tables by name, written as ``NAME-THEIRS.csv``.
    """

    analysis: Analysis
    headline: str
    table: Table
    draw: Callable[[], Figure]
    more: Mapping[str, Table] = field(default_factory=dict)


def write_finding(finding: Finding, folder: Path, subject: str) -> list[Path]:
    """Write the tables and the figure of ``finding`` into ``folder``; returns the paths.

    Args:
        finding: what to write.
        folder: made if it is missing.
        subject: what was analysed, in a line: models, scales, picture.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: a file cannot be written.
    """
    name = finding.analysis.name
    figure = encoded(finding.draw())  # first: without matplotlib nothing is written at all
    tables = {name: finding.table} | {f"{name}-{_safe(key)}": table for key, table in finding.more.items()}
    paths = []
    for stem, table in tables.items():
        paths.append(folder / f"{stem}.csv")
        write_file(paths[-1], _csv(finding, table, subject).encode())
    paths.append(folder / f"{name}.png")
    write_file(paths[-1], figure)
    return paths


def _csv(finding: Finding, table: Table, subject: str) -> str:
    """The table below lines of comment, each after ``#``."""
    analysis, stream = finding.analysis, io.StringIO()
    for line in (
        f"{analysis.name}: {analysis.summary}",
        f"formula: {analysis.formula}",
        f"source: {analysis.source}",
        f"of: {subject}; polyres {__version__}",
        f"found: {finding.headline}",
    ):
        stream.write(f"# {' '.join(line.split())}\n")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([[_text(cell) for cell in row] for row in table.rows])
    return stream.getvalue()


def _text(cell: Cell) -> str:
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)
