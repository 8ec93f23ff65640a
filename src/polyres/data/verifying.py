"""What an LR folder is: made by which kernel, aligned with its HR or shifted, equal to a public set or not."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from polyres.data.files import read_rgb
from polyres.data.makers import MAKERS, Maker, Pixels, low_size
from polyres.data.pairs import Pair
from polyres.data.resize import resize
from polyres.data.sources import checksum
from polyres.errors import DataError
from polyres.scale import Scale

#: From this distance in LR pixels on, HR and LR do not lie on each other. A row of HR is 1/4 at x4; aliasing alone
#: (OpenCV's cubic on small pictures) was measured as up to 0.09.
SHIFTED = 0.15


@dataclass(frozen=True)
class Recognition:
    """What the LR of one pair looks like.

    Attributes:
        pair: the pair.
        maker: name of the way to make LR that comes nearest.
        psnr: of LR against it in dB, over RGB; infinite if equal.
        equal: part of the values that are equal, 0 to 1.
        shift: (down, right) distance in LR pixels by which LR is displaced against HR.
    """

    pair: Pair
    maker: str
    psnr: float
    equal: float
    shift: tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """What the pairs of one set and scale have in common.

    Attributes:
        group: the set.
        scale: the scale.
        maker: the way to make LR that comes nearest for most pictures.
        exact: how many are equal to it in every value.
        pictures: the recognitions, in the order of the pairs.
    """

    group: str
    scale: Scale
    maker: str
    exact: int
    pictures: tuple[Recognition, ...]

    @property
    def shift(self) -> tuple[float, float]:
        """Median (down, right) displacement in LR pixels."""
        down, right = np.median([r.shift for r in self.pictures], axis=0)
        return float(down), float(right)

    @property
    def shifted(self) -> tuple[Recognition, ...]:
        """Pairs that do not lie on each other."""
        return tuple(r for r in self.pictures if max(map(abs, r.shift)) >= SHIFTED)


def recognise(pair: Pair) -> Recognition:
    """Compare the LR of ``pair`` with what each known maker gives.

    Raises:
        DataError: a pair without an LR file, or of sizes that do not fit.
        PictureError: a file that cannot be read.
    """
    if pair.low is None:
        raise DataError(f"'{pair.high}' has no LR file of scale {pair.scale}; there is nothing to recognise")
    low, high = pair.read()
    if low_size(high, pair.scale) != low.shape[:2]:
        raise DataError(f"'{pair.low}' does not cover '{pair.high}' in whole pixels at scale {pair.scale}")
    scores = [
        (_psnr(made, low), maker.name, float((made == low).mean())) for maker, made in _made(high, pair.scale)
    ]
    psnr, name, equal = max(scores, key=lambda score: score[0])
    reference = resize(high, size=(low.shape[0], low.shape[1]))
    return Recognition(pair, name, psnr, equal, measure_shift(reference, low))


def verdict(pairs: Sequence[Pair]) -> Verdict:
    """The common verdict on ``pairs``, all of one set and scale; at least one.

    Raises:
        DataError, PictureError: as :func:`recognise`.
    """
    found = tuple(recognise(pair) for pair in pairs)
    name = Counter(each.maker for each in found).most_common(1)[0][0]
    exact = sum(each.maker == name and math.isinf(each.psnr) for each in found)
    return Verdict(pairs[0].group, pairs[0].scale, name, exact, found)


def spread(pairs: Sequence[Pair], at_most: int) -> Sequence[Pair]:
    """At most ``at_most`` of ``pairs``, evenly spread."""
    count = min(max(at_most, 1), len(pairs))
    return [pairs[i * len(pairs) // count] for i in range(count)]


def shifted_text(found: Recognition) -> str:
    """One sentence on a pair that does not lie on itself."""
    down, right = found.shift
    return f"'{found.pair.low}' is displaced by {down:+.2f} rows and {right:+.2f} columns against '{found.pair.high}'"


def measure_shift(reference: Pixels, picture: Pixels) -> tuple[float, float]:
    """(down, right) by which ``picture`` is displaced against ``reference``, both (H, W, 3), in pixels.

    Whole pixels from the peak of the phase correlation (Kuglin and Hines 1975), the rest from the slope of the phases
    of low frequencies by least squares (Stone et al. 2001). Flat pictures count as not displaced.
    """
    one, two = (_windowed(each) for each in (reference, picture))
    cross = np.fft.rfft2(two) * np.conj(np.fft.rfft2(one))
    if not np.abs(cross).max() > 1e-6:
        return 0.0, 0.0
    peaks = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-12), one.shape)
    rows, columns = np.unravel_index(int(peaks.argmax()), peaks.shape)
    whole = _signed(int(rows), one.shape[0]), _signed(int(columns), one.shape[1])
    y, x = np.fft.fftfreq(one.shape[0])[:, None], np.fft.rfftfreq(one.shape[1])[None]
    # Above a quarter of the sampling rate aliasing speaks louder than the picture.
    low = (np.hypot(y, x) < 0.25) & (np.hypot(y, x) > 0)
    phase = np.angle(cross * np.exp(2j * np.pi * (y * whole[0] + x * whole[1])))[low]
    weight = np.sqrt(np.abs(cross))[low]
    slopes = np.stack([np.broadcast_to(y, cross.shape)[low], np.broadcast_to(x, cross.shape)[low]], axis=1)
    rest, *_ = np.linalg.lstsq(slopes * weight[:, None], -phase / (2 * np.pi) * weight, rcond=None)
    return whole[0] + float(rest[0]), whole[1] + float(rest[1])


def public_matches(paths: Sequence[Path]) -> tuple[Counter[str], list[Path]]:
    """How many pictures of ``paths`` are equal, in every pixel, to pictures of which public set; and the others.

    Returns:
        A count for each set, such as ``Set5/HR`` or ``Set5/X4``, and the paths that are in none.

    Raises:
        PictureError: a file that cannot be read.
    """
    known, matches, others = public_checksums(), Counter[str](), list[Path]()
    for path in paths:
        sets = known.get(checksum(read_rgb(path)))
        if sets is None:
            others.append(path)
        else:
            matches[sets] += 1
    return matches, others


@lru_cache(maxsize=1)
def public_checksums() -> dict[str, str]:
    """Checksum of the pixels -> set, such as ``Set5/X4``, of every picture in ``public_sets.json``."""
    content = json.loads(files("polyres.data").joinpath("public_sets.json").read_text(encoding="utf-8"))
    return {digest: name for name, digests in content["sets"].items() for digest in digests.values()}


def public_size(name: str) -> int:
    """How many pictures the public set ``name``, such as ``Set5/X4``, has."""
    return sum(each == name for each in public_checksums().values())


def _made(high: Pixels, scale: Scale) -> list[tuple[Maker, Pixels]]:
    return [(maker, maker.make(high, scale)) for maker in MAKERS]


def _psnr(one: Pixels, two: Pixels) -> float:
    error = float(np.square(one.astype(np.float64) - two).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _windowed(picture: Pixels) -> npt.NDArray[np.float64]:
    """The grey picture, without mean, fading out towards its borders."""
    grey = picture.mean(axis=2)
    return np.asarray((grey - grey.mean()) * np.hanning(grey.shape[0])[:, None] * np.hanning(grey.shape[1]))


def _signed(place: int, length: int) -> int:
    return place - length if place > length // 2 else place
