"""The parts of pictures that a model gets most wrong, beside bicubic's and the original."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from polyres.data import Pair
from polyres.errors import DataError
from polyres.evaluation.baselines import BASELINES
from polyres.evaluation.crops import best_window
from polyres.evaluation.report import Report, Row
from polyres.evaluation.routes import Upscale
from polyres.metrics import quantise
from polyres.metrics.colour import to_y
from polyres.pictures import Picture


@dataclass(frozen=True)
class Crop:
    """One part of one picture, three times.

    Attributes:
        row: the scores of the whole picture.
        corner: its first pixel's place in the original, (row, column).
        bicubic: what bicubic makes of it.
        result: what the model makes of it.
        original: as it should be.
    """

    row: Row
    corner: tuple[int, int]
    bicubic: Picture
    result: Picture
    original: Picture


def worst_crops(
    report: Report, model: str, upscale: Upscale, pairs: Iterable[Pair], count: int = 6, side: int = 96
) -> list[Crop]:
    """From each of the ``count`` pictures of lowest PSNR the part of ``side`` pixels square with the largest error.

    A picture that was measured at several scales counts once, at its worst.

    Args:
        report: where ``model`` has rows.
        model: as its rows call it.
        upscale: the same model.
        pairs: the pictures that were measured, or some of them.
        count: pictures at most.
        side: of the parts, less in smaller pictures.

    Raises:
        DataError: no picture of ``pairs`` has a row of ``model``, or one has another size than it should.
    """
    known = {(pair.group, pair.name, str(pair.scale)): pair for pair in pairs}
    rows = sorted((row for row in report.rows if row.model == model), key=lambda row: row.psnr)
    chosen: dict[tuple[str, str], Row] = {}
    for row in rows:
        if (row.group, row.picture, row.scale) in known:
            chosen.setdefault((row.group, row.picture), row)
    if not chosen:
        raise DataError(
            f"none of the {len(known)} pictures given was measured for '{model}'; expected those of "
            f"{', '.join(dict.fromkeys(row.group for row in rows)) or 'an evaluation that holds it'}"
        )
    return [
        _crop(row, upscale, known[row.group, row.picture, row.scale], side)
        for row in list(chosen.values())[:count]
    ]


def _crop(row: Row, upscale: Upscale, pair: Pair, side: int) -> Crop:
    low, high = pair.read()
    result = _eight_bits(upscale(low, pair.scale))
    error = (to_y(result.astype(np.float64)) - to_y(high.astype(np.float64))) ** 2
    rows, columns = best_window(error, side)
    bicubic = _eight_bits(BASELINES["bicubic"](low, pair.scale))
    parts = (Picture(np.ascontiguousarray(whole[rows, columns])) for whole in (bicubic, result, high))
    return Crop(row, (rows.start, columns.start), *parts)


def _eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return quantise(np.asarray(values, dtype=np.float64) * 255).astype(np.uint8)
