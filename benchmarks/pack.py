"""Pictures of the training pack and of the validation folder, for benchmarks that train."""

from __future__ import annotations

import csv
from pathlib import Path

import polyres
from polyres.data.sources import Pixels

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def tiles(count: int, part: str | None = None) -> list[Pixels]:
    """``count`` tiles spread over the training pack, or over its part of that name."""
    with (SHARED / "train" / "manifest.csv").open(newline="") as stream:
        names = [row["file"] for row in csv.DictReader(stream) if part in (None, row["pack"])]
    return [_read(SHARED / "train" / names[index * len(names) // count]) for index in range(count)]


def held_out(choice: slice) -> list[Pixels]:
    """Pictures of the validation folder, which are in no part of the pack."""
    return [_read(path) for path in sorted((SHARED / "validation").glob("*.webp"))[choice]]


def _read(path: Path) -> Pixels:
    return polyres.read_picture(path).pixels
