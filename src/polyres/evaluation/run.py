"""Pairs in, report out: every picture enlarged, compared and recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from polyres.data import Pair
from polyres.errors import DataError
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
    on_picture: OnPicture | None = None,
) -> Report:
    """The report of ``upscale`` on ``pairs``.

    Args:
        upscale: called with a picture (h, w, 3) uint8 and a scale, gives (H, W, 3) float in about [0, 1].
        pairs: as :func:`polyres.data.find_pairs` finds them, of any number of sets and scales.
        protocol: how results are compared, or its name.
        name: what the rows call the model.
        route: ``rgb``, or ``y8`` for the bicubic rows of the older papers; see :mod:`polyres.evaluation.routes`.
        with_ssim: False leaves SSIM out, which takes longer than PSNR.
        on_picture: called after each picture, for progress or to keep the result.

    Raises:
        DataError: no pairs, two of the same set, name and scale, or pictures that do not fit each other.
        PictureError: a file that cannot be read.
        UnknownNameError: an unknown protocol or route.
        UsageError: a route that this ``upscale`` or protocol cannot take.
    """
    listed = _distinct(pairs)
    chosen = find_protocol(protocol) if isinstance(protocol, str) else protocol
    way = find_route(route)
    rows = []
    for pair in listed:
        scores, picture = _measure(way, upscale, pair, chosen, with_ssim)
        row = Row(
            model=name,
            group=pair.group,
            scale=str(pair.scale),
            picture=pair.name,
            psnr=scores.psnr,
            ssim=scores.ssim,
        )
        rows.append(row)
        if on_picture:
            on_picture(row, picture)
    definition = f"{chosen.definition} {way.definition}"
    return Report(protocol=chosen.name, definition=definition, route=route, rows=tuple(rows))


def _measure(route: Route, upscale: Upscale, pair: Pair, protocol: Protocol, with_ssim: bool) -> Measured:
    """One measurement; a complaint about the data names the picture."""
    try:
        return route.measure(upscale, pair, protocol, with_ssim)
    except DataError as error:
        if str(pair.high) in str(error):
            raise
        raise DataError(f"'{pair.high}' at scale {pair.scale}: {error}") from error


def _distinct(pairs: Iterable[Pair]) -> list[Pair]:
    """``pairs`` as a list, refused if empty or if two would share a row."""
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
