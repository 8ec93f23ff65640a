"""Pairs in, report out: every picture enlarged, compared and recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from polyres.data import Pair, read_rgb
from polyres.errors import DataError, UsageError
from polyres.evaluation.fingerprints import of_pair
from polyres.evaluation.judges import Judge
from polyres.evaluation.pipeline import in_order, longest_first, shared, worker_count
from polyres.evaluation.report import Report, Row
from polyres.evaluation.routes import Measured, Route, Upscale, find_route
from polyres.metrics import PROTOCOLS, Protocol, find_protocol

#: Called after each picture with its row and the 8-bit result, (H, W, 3), or (H, W) by the route ``y8``.
OnPicture: TypeAlias = Callable[[Row, npt.NDArray[np.uint8]], None]


def evaluate(
    upscale: Upscale,
    pairs: Iterable[Pair],
    protocol: Protocol | str = PROTOCOLS["paper-y"],
    *,
    name: str = "model",
    route: str = "rgb",
    with_ssim: bool = True,
    with_ms_ssim: bool = False,
    on_picture: OnPicture | None = None,
    judges: Sequence[Judge] = (),
    made_by: str = "",
    workers: int | None = None,
) -> Report:
    """The report of ``upscale`` on ``pairs``.

    Args:
        upscale: called with a picture (h, w, 3) uint8 and a scale, gives (H, W, 3) float in about [0, 1].
        pairs: as :func:`polyres.data.find_pairs` finds them, of any number of sets and scales.
        protocol: how results are compared, or its name.
        name: what the rows call the model.
        route: ``rgb``, or ``y8`` for the bicubic rows of the older papers; see :mod:`polyres.evaluation.routes`.
        with_ssim: False leaves SSIM out, which takes longer than PSNR.
        with_ms_ssim: True adds MS-SSIM, which takes pictures of at least 161 pixels a side.
        on_picture: called after each picture, for progress or to keep the result; the largest pictures come first
            where several are measured at a time, whatever the order of ``pairs``, which is that of the rows.
        judges: further metrics, from ONNX files; see :mod:`polyres.evaluation.judges`.
        made_by: fingerprint of ``upscale`` for the rows.
        workers: pictures measured at a time, by default one a core. An ``upscale`` that does not say that threads
            may share it is called by the caller's thread alone; see :class:`polyres.evaluation.pipeline.Shareable`.

    Raises:
        DataError: no pairs, two of the same set, name and scale, or pictures that do not fit each other.
        PictureError: a file that cannot be read.
        UnknownNameError: an unknown protocol or route.
        UsageError: a route that this ``upscale`` or protocol, or judges, cannot take.
    """
    listed = distinct(pairs)
    chosen = find_protocol(protocol) if isinstance(protocol, str) else protocol
    way = find_route(route)
    if judges and way.name != "rgb":
        raise UsageError(f"metrics in ONNX files compare RGB pictures; leave them out with route {way.name}")
    metrics = {"with_ssim": with_ssim, "with_ms_ssim": with_ms_ssim}
    threads, rows = worker_count(upscale, workers), dict[int, Row]()
    places = longest_first(listed) if threads > 1 else list(range(len(listed)))
    with shared(upscale, threads) as call:
        work = partial(_row, way, call, chosen, metrics, judges, name, made_by)
        done = in_order([listed[place] for place in places], work, threads)
        for place, (row, picture) in zip(places, done, strict=True):
            rows[place] = row
            if on_picture:
                on_picture(row, picture)
    definition, ordered = define(chosen, way, judges), tuple(rows[place] for place in sorted(rows))
    return Report(protocol=chosen.name, definition=definition, route=route, rows=ordered)


def define(protocol: Protocol, route: Route, judges: Iterable[Judge] = ()) -> str:
    """The definition that a report by these carries."""
    return " ".join([protocol.definition, route.definition, *(each.definition for each in judges)])


def _row(
    route: Route,
    upscale: Upscale,
    protocol: Protocol,
    metrics: Mapping[str, bool],
    judges: Sequence[Judge],
    name: str,
    made_by: str,
    pair: Pair,
) -> tuple[Row, npt.NDArray[np.uint8]]:
    """The row of one picture, and the result."""
    scores, picture = _measure(route, upscale, pair, protocol, metrics)
    row = Row(
        model=name,
        group=pair.group,
        scale=str(pair.scale),
        picture=pair.name,
        psnr=scores.psnr,
        ssim=scores.ssim,
        ms_ssim=scores.ms_ssim,
        extra=_judged(judges, protocol, pair, picture) if judges else {},
        made_by=made_by,
        made_from=of_pair(pair),
    )
    return row, picture


def _judged(
    judges: Sequence[Judge], protocol: Protocol, pair: Pair, picture: npt.NDArray[np.uint8]
) -> dict[str, float]:
    """What ``judges`` say of a result."""
    height, width = picture.shape[:2]
    rows, columns = protocol.border(pair.scale)
    inside = (slice(rows, height - rows), slice(columns, width - columns))
    original = read_rgb(pair.high)[:height, :width]
    return {each.name: each(picture[inside], original[inside]) for each in judges}


def _measure(
    route: Route, upscale: Upscale, pair: Pair, protocol: Protocol, metrics: Mapping[str, bool]
) -> Measured:
    """One measurement; a complaint about the data names the picture."""
    try:
        return route.measure(upscale, pair, protocol, metrics)
    except DataError as error:
        if str(pair.high) in str(error):
            raise
        raise DataError(f"'{pair.high}' at scale {pair.scale}: {error}") from error


def distinct(pairs: Iterable[Pair]) -> list[Pair]:
    """``pairs`` as a list.

    Raises:
        DataError: no pairs, or two that would share a row.
    """
    seen: dict[tuple[str, str, str], Pair] = {}
    for pair in pairs:
        twin = seen.setdefault((pair.group, pair.name, str(pair.scale)), pair)
        if twin is not pair:
            raise DataError(
                f"'{twin.high}' and '{pair.high}' are both called {pair.name} of {pair.group} at scale {pair.scale}; "
                "rename one of the folders"
            )
    if not seen:
        raise DataError("there are no pictures to evaluate: the list of pairs is empty")
    return list(seen.values())
