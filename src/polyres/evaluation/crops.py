"""Crops side by side: the original and two results, where one of them is furthest ahead of the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from polyres.data import Pair, read_rgb
from polyres.errors import DataError
from polyres.evaluation.compare import Difference
from polyres.evaluation.fingerprints import of_pair
from polyres.evaluation.report import Row
from polyres.evaluation.saving import picture_path

Pixels = npt.NDArray[np.uint8]

#: Pixels on a side of a crop, and how often each is repeated.
SIDE, ZOOM = 80, 4

#: Pixels between crops, and of the line of text above them.
_GAP, _TEXT = 6, 18


def crop_sheet(difference: Difference, pair: Pair, folders: tuple[Path, Path]) -> Image.Image:
    """The original, the first's result and the second's, cropped where the better one gains most.

    Args:
        difference: of the picture.
        pair: its files.
        folders: where the pictures of the first and of the second were saved.

    Raises:
        DataError: the pair is not the one that was measured, or the results are of another size.
        PictureError: a result that was not saved.
    """
    if difference.first.made_from not in ("", of_pair(pair)):
        raise DataError(f"'{pair.high}' is not the picture that was measured: it has changed, or is another")
    results = [
        read_rgb(picture_path(folder, *row.key))
        for folder, row in zip(folders, (difference.first, difference.second), strict=True)
    ]
    height, width = results[0].shape[:2]
    original = read_rgb(pair.high)[:height, :width]
    if not original.shape == results[0].shape == results[1].shape:
        sizes = ", ".join(f"{each.shape[1]}×{each.shape[0]}" for each in (original, *results))
        raise DataError(f"'{pair.high}' and its two results should be of one size; they are {sizes}")
    first, second = (np.square(each.astype(np.float64) - original).sum(axis=2) for each in results)
    gain = first - second if difference.value >= 0 else second - first
    window = best_window(gain, SIDE)
    captions = ["original", *(_caption(row) for row in (difference.first, difference.second))]
    return _beside([each[window] for each in (original, *results)], captions)


def best_window(gain: npt.NDArray[np.float64], side: int) -> tuple[slice, slice]:
    """The window of ``side`` pixels (or the whole axis, if shorter) in which ``gain`` sums to most."""
    rows, columns = (min(side, length) for length in gain.shape)
    sums = np.pad(gain.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    top, left = np.unravel_index(int(np.argmax(inside)), inside.shape)
    return slice(int(top), int(top) + rows), slice(int(left), int(left) + columns)


def _beside(crops: list[Pixels], captions: list[str]) -> Image.Image:
    """The crops enlarged by repetition, with a line of text above each."""
    large = [each.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1) for each in crops]
    height, width = large[0].shape[:2]
    sheet = Image.new("RGB", (len(large) * (width + _GAP) - _GAP, height + _TEXT), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (crop, caption) in enumerate(zip(large, captions, strict=True)):
        left = index * (width + _GAP)
        sheet.paste(Image.fromarray(crop), (left, _TEXT))
        draw.text((left + 2, 2), _fitting(draw, caption, width), fill="black")
    return sheet


def _caption(row: Row) -> str:
    return f"{row.psnr:.2f} dB  {row.model}"


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """``text`` cut to ``width`` pixels, in letters that the built-in font has."""
    plain = text.encode("latin-1", "replace").decode("latin-1")
    while plain and draw.textlength(plain) > width - 4:
        plain = plain[:-1]
    return plain
