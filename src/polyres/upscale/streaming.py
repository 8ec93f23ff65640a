"""Large results: the memory they take is predicted, and they go to disk in bands."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from polyres.pictures import Picture, Pixels, bleed, format_of, to_depth
from polyres.pictures.resample import resample_bands
from polyres.pictures.streaming import can_stream, write_bands
from polyres.scale import Scale
from polyres.upscale.planning import Plan
from polyres.upscale.tiling import SMALLEST
from polyres.upscale.upscaler import Progress, Tiling, Upscaler

#: Bytes of a result from which it is streamed where that is possible.
STREAM_FROM = 256 * 2**20

#: Bytes that a band of a streamed result has at most: tiles are made lower for it, where they may be.
BAND = 128 * 2**20

#: Rows of a result that are in use where bands are written: 256, as they come, filtered, and packed.
_WRITTEN = 4 * 256

#: Bytes a pixel that carrying colour under transparent pixels takes: floats at every size down to one pixel.
_BLEEDING = 60

#: Pixels of the longer side of the part of a picture that tiles are verified on, at least; the other is half of it.
VERIFIED = 384


def is_streamed(picture: Picture, work: Plan, target: Path) -> bool:
    """Whether the result of ``picture`` goes to ``target`` in bands: it is large, and its format allows it."""
    large = result_bytes(picture, work) >= STREAM_FROM
    return work.model_scale is not None and large and can_stream(format_of(target))


def write_streamed(
    upscaler: Upscaler, picture: Picture, work: Plan, target: Path, on_progress: Progress = lambda done: None
) -> None:
    """Enlarge ``picture`` into the file ``target``, holding a few bands of the result at a time.

    Raises:
        OutputError: ``target`` cannot be written; nothing half-written remains.
    """
    if work.model_scale is None:
        raise ValueError("a plan without the network is not streamed")
    width, height = work.cut_from or (work.width, work.height)
    made = work.model_scale.output_size(picture.height, picture.width)
    bands = _low(upscaler, picture, work).bands(bleed(picture), work.model_scale)
    bands = _told(bands, made[0], on_progress)
    if work.resample_to is not None:
        bands = resample_bands(bands, made[0], height, width)
    if work.cut_from is not None:
        bands = _cut(bands, *work.kept)
    if picture.alpha is not None:
        alpha = resample_bands(iter([picture.alpha]), picture.height, height, width, sharp=False)
        bands = _joined(bands, _cut(alpha, *work.kept))
    write_bands(target, bands, work.height, work.width, picture)


def _cut(bands: Iterator[Pixels], rows: slice, columns: slice) -> Iterator[Pixels]:
    """The rows and columns that are kept. The bands below them are taken too, so that what makes them ends well."""
    top = 0
    for band in bands:
        part = band[max(0, rows.start - top) : max(0, rows.stop - top), columns]
        top += len(band)
        if len(part):
            yield part
        del band, part


def _joined(colours: Iterator[Pixels], alphas: Iterator[Pixels]) -> Iterator[Pixels]:
    """Bands of colours, each with its opacity as the last channel."""
    rest: Pixels | None = None
    for band in colours:
        parts, missing = [], len(band)
        while missing:
            alpha = next(alphas) if rest is None else rest
            parts.append(alpha[:missing])
            rest = alpha[missing:] if len(alpha) > missing else None
            missing -= len(parts[-1])
        yield np.dstack((band, np.concatenate(parts)))
        del band


def result_bytes(picture: Picture, work: Plan) -> int:
    """Bytes of the pixels of the result."""
    return _bytes(picture, work.width, work.height)


def predicted_peak(upscaler: Upscaler, picture: Picture, work: Plan, streamed: bool) -> int:
    """Bytes that will be in use at once for ``picture``, on top of the program and the model themselves.

    That is the most of the steps: to enlarge, to resample where there is a detour, to write. A centre that is cut
    out holds the whole until it is written.
    """
    source = _bytes(picture, picture.width, picture.height)
    if streamed and work.model_scale is not None:
        return int(source + _streaming(upscaler, picture, work, work.model_scale))
    rows, columns = picture.height, picture.width
    steps, windows = [_bleeding(picture)], 0.0
    if work.model_scale is not None:
        band, windows = _network(upscaler, picture, work.model_scale)
        rows, columns = work.model_scale.output_size(rows, columns)
        steps.append(_bytes(picture, columns, rows) + band)
    whole = _bytes(picture, *(work.cut_from or (work.width, work.height)))
    if work.resample_to is not None:
        steps.append(_bytes(picture, columns, rows) + whole + _filtering(rows, columns, work))
    elif picture.alpha is not None:
        steps.append(whole + _filtering(rows, columns, work))
    steps.append(whole + result_bytes(picture, work))  # encoders hold the result a second time
    return int(source + windows + max(steps))


def tiling_of(upscaler: Upscaler, picture: Picture, work: Plan, streamed: bool) -> Tiling | None:
    """How ``picture`` is cut for the network; None where the network is not used."""
    if work.model_scale is None:
        return None
    chosen = _low(upscaler, picture, work) if streamed else upscaler
    return chosen.tiling(picture.height, picture.width, work.model_scale)


def tiling_error(upscaler: Upscaler, picture: Picture, scale: Scale) -> float:
    """Largest difference, of 1, between tiles and the whole, on the central part of ``picture``.

    The part is so long that it has seams with the overlap of the whole picture's tiles; its own are a third of it,
    or those of the whole picture where these are smaller.
    """
    tiling = upscaler.tiling(picture.height, picture.width, scale)
    length = max(VERIFIED, 4 * max(tiling.rows.overlap, tiling.columns.overlap))
    part = _centre(picture.pixels, length)
    whole, tiled = copy.copy(upscaler), copy.copy(upscaler)
    whole.tile, tiled.tile = 0, max(1, min(*tiling.tile, max(part.shape[:2]) // 3))
    values = to_depth(part, np.dtype(np.float32))
    one, many = (np.concatenate(list(each.bands(values, scale))) for each in (whole, tiled))
    return float(np.abs(one - many).max())


def _bytes(picture: Picture, width: int, height: int) -> int:
    """Bytes of a picture of the kind of ``picture``, transparency and all."""
    channels = picture.pixels.shape[2] + (picture.alpha is not None)
    return int(width * height * channels * picture.pixels.dtype.itemsize)


def _streaming(upscaler: Upscaler, picture: Picture, work: Plan, scale: Scale) -> float:
    """Bytes for a result that goes to disk in bands: the network's, and what is made of them before the next."""
    band, windows = _network(_low(upscaler, picture, work), picture, scale)
    if work.resample_to is not None:
        band *= 4  # joined to what was left of the last one, and as planes of floats before and after
    if picture.alpha is not None:
        band = 3 * band + picture.pixels.nbytes  # with opacity beside them; colour under transparent pixels
    return max(_bleeding(picture), windows + band + _WRITTEN * _bytes(picture, work.width, 1))


def _bleeding(picture: Picture) -> int:
    """Bytes that are needed for colour under transparent pixels, at the size of ``picture``."""
    return 0 if picture.alpha is None else _BLEEDING * picture.width * picture.height


def _filtering(rows: int, columns: int, work: Plan) -> int:
    """Bytes that the fixed filter takes for one channel of floats: before, between its passes, and thrice after."""
    wide, tall = work.cut_from or (work.width, work.height)
    return 4 * (rows * columns + rows * wide + 3 * tall * wide)


def _network(upscaler: Upscaler, picture: Picture, scale: Scale) -> tuple[int, float]:
    """Bytes of the largest band of the result, and of all that the network is shown at once."""
    pixels, windows = upscaler.working_set(picture.height, picture.width, scale)
    return pixels * picture.pixels.shape[2] * picture.pixels.dtype.itemsize, windows


def _low(upscaler: Upscaler, picture: Picture, work: Plan) -> Upscaler:
    """``upscaler`` with tiles so low that no band of the result has more than :data:`BAND` bytes, one at a time: such
    results are made in bands to save memory, and windows of this size gain nothing from company."""
    if work.model_scale is None or upscaler.tile != "auto":
        return upscaler
    rows, columns = work.model_scale.output_size(picture.height, picture.width)
    row = max(1, _bytes(picture, columns, rows) // picture.height)
    most = max(SMALLEST, BAND // row)
    if upscaler.tiling(picture.height, picture.width, work.model_scale).tile[0] <= most:
        return upscaler
    low = copy.copy(upscaler)
    low.tile, low.batch = most, low.batch or 1
    return low


def _centre(pixels: Pixels, length: int) -> Pixels:
    """The middle of ``pixels``: ``length`` along the longer side, half of that along the other."""
    height, width = pixels.shape[:2]
    tall, wide = (length, length // 2) if height > width else (length // 2, length)
    top, left = max(0, (height - tall) // 2), max(0, (width - wide) // 2)
    return pixels[top : top + tall, left : left + wide]


def _told(bands: Iterator[Pixels], height: int, on_progress: Progress) -> Iterator[Pixels]:
    done = 0
    for band in bands:
        done += len(band)
        yield band
        del band  # or it would be held while the next is made
        on_progress(done / height)
