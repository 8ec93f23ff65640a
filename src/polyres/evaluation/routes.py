"""The two ways from an original to a score: like a network, or as the bicubic rows of the older papers were made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from polyres.data import Pair, resize
from polyres.data.pairs import inverse
from polyres.errors import UnknownNameError, UsageError, nearest
from polyres.evaluation.baselines import Baseline
from polyres.metrics import Protocol, Scores, quantise, to_y
from polyres.scale import Scale

#: (h, w, 3) uint8 and a scale -> (H, W, 3) float in about [0, 1], not clamped.
Upscale: TypeAlias = Callable[[npt.NDArray[np.uint8], Scale], npt.NDArray[np.floating[Any]]]
#: Scores of one picture, and the result in 8 bits.
Measured: TypeAlias = tuple[Scores, npt.NDArray[np.uint8]]

#: Pictures that have one channel in the copies the papers used, whatever the file here: no conversion to luma.
ONE_CHANNEL = frozenset({"bridge"})


@dataclass(frozen=True)
class Route:
    """One way of measuring a pair: ``measure``, and the sentence that belongs below a table made by it.

    ``measure`` takes the upscaler, the pair, the protocol, and the options of :meth:`Protocol.score`.
    """

    name: str
    definition: str
    measure: Callable[[Upscale, Pair, Protocol, Mapping[str, bool]], Measured]


def by_rgb(upscale: Upscale, pair: Pair, protocol: Protocol, metrics: Mapping[str, bool]) -> Measured:
    """RGB in, RGB out, then the protocol's colours: how every network is measured."""
    low, high = pair.read()
    result = upscale(low, pair.scale)
    seen = protocol.prepare(result)
    scores = protocol.compare(protocol.planes(seen), protocol.planes(high), pair.scale, **metrics)
    return scores, (seen if protocol.quantise else quantise(seen)).astype(np.uint8)


def by_y8(upscale: Upscale, pair: Pair, protocol: Protocol, metrics: Mapping[str, bool]) -> Measured:
    """Luma of HR rounded to 8 bits, shrunk and enlarged in double precision, rounded once; LR files are not read."""
    if not isinstance(upscale, Baseline):
        raise UsageError(
            "route y8 works on luma in double precision: it takes bicubic, lanczos or nearest, no network"
        )
    if protocol.colour != "y":
        raise UsageError(f"route y8 compares luma; protocol '{protocol.name}' compares {protocol.colour}")
    high = pair.read_high()
    luma = high[..., 0].astype(np.float64) if pair.name in ONE_CHANNEL else quantise(to_y(high))
    low = resize(luma, scale=inverse(pair.scale))
    result = quantise(resize(low, scale=pair.scale, size=(luma.shape[0], luma.shape[1]), kernel=upscale.name))
    return protocol.compare(result, luma, pair.scale, **metrics), result.astype(np.uint8)


ROUTES: dict[str, Route] = {
    route.name: route
    for route in (
        Route(
            "rgb",
            "LR from its file, or by MATLAB's imresize (bicubic, 8 bits after each axis) of the RGB picture, which is "
            "cropped to a multiple of the scale; enlarged as RGB.",
            by_rgb,
        ),
        Route(
            "y8",
            "Route y8, the older papers' bicubic: luma of the original rounded to 8 bits, cropped to a multiple of the "
            "scale, shrunk and enlarged by imresize in double precision, rounded once; bridge taken as one channel.",
            by_y8,
        ),
    )
}


def find_route(name: str) -> Route:
    """The route called ``name``.

    Raises:
        UnknownNameError: there is none; the message lists them.
    """
    if name not in ROUTES:
        raise UnknownNameError(
            f"no route is called '{name}'; there are {', '.join(ROUTES)}.{nearest(name, ROUTES)}"
        )
    return ROUTES[name]
