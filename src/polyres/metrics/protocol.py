"""Measuring protocols: every choice between two pictures and a number, under a name.

One picture has twelve values of PSNR and SSIM, depending on the choices; so a number without its protocol is none.
A protocol states its own definition, composed from its fields, to be printed below every table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from polyres.errors import DataError, UnknownNameError, nearest
from polyres.metrics.colour import Float, quantise, to_full_range_y, to_y
from polyres.metrics.fidelity import SSIM_K, SSIM_SIGMA, SSIM_WINDOW, psnr, ssim
from polyres.metrics.multiscale import ms_ssim
from polyres.scale import Scale

Colour: TypeAlias = Literal["y", "y-rounded", "y-full", "rgb"]

_PLANES: dict[str, tuple[Callable[[npt.NDArray[Any]], Float], str]] = {
    "y": (to_y, "BT.601 luma (limited range, not rounded)"),
    "y-rounded": (
        lambda picture: quantise(to_y(picture)),
        "BT.601 luma (limited range, rounded to integers)",
    ),
    "y-full": (to_full_range_y, "BT.601 luma in full range (not rounded)"),
    "rgb": (lambda picture: np.asarray(picture, dtype=np.float64), "RGB (SSIM: mean of the three channels)"),
}


@dataclass(frozen=True)
class Scores:
    """What a protocol says of one picture: PSNR in dB; SSIM and MS-SSIM, or None where they were left out."""

    psnr: float
    ssim: float | None
    ms_ssim: float | None = None


@dataclass(frozen=True)
class Protocol:
    """How a super-resolved picture is compared with the original.

    Attributes:
        name: what tables and reports call it.
        colour: the planes compared: limited-range luma, the same rounded, full-range luma, or RGB.
        shave_scales: pixels shaved from every border, in units of the scale (rounded up if it is no integer).
        shave_pixels: pixels shaved on top.
        quantise: whether the result is rounded to 8 bits first; it is clamped in any case.
        peak: the range of values in PSNR and SSIM.
    """

    name: str
    colour: Colour = "y"
    shave_scales: int = 1
    shave_pixels: int = 0
    quantise: bool = True
    peak: float = 255.0

    def __post_init__(self) -> None:
        if self.colour not in _PLANES:
            raise UnknownNameError(
                f"no colour is called '{self.colour}'; there are {', '.join(_PLANES)}.{nearest(self.colour, _PLANES)}"
            )

    @property
    def definition(self) -> str:
        """The protocol in one sentence."""
        rounding = "rounded to 8 bits" if self.quantise else "not rounded"
        low, high = SSIM_K
        return (
            f"{self.name}: PSNR and SSIM on {_PLANES[self.colour][1]} of results clamped and {rounding}, "
            f"{self._shave_text()}, peak {self.peak:g}; SSIM with an {SSIM_WINDOW}×{SSIM_WINDOW} Gaussian window of "
            f"sigma {SSIM_SIGMA}, K = ({low}, {high}), inside the picture only, MS-SSIM with the same at five "
            "resolutions; a set's value is the mean of its pictures'."
        )

    def border(self, scale: Scale) -> tuple[int, int]:
        """Pixels shaved (from top and bottom, from left and right) at ``scale``."""
        rows, columns = (
            self.shave_scales * math.ceil(factor) + self.shave_pixels for factor in (scale.y, scale.x)
        )
        return rows, columns

    def planes(self, picture: npt.NDArray[Any]) -> Float:
        """What is compared of ``picture``, (H, W, 3) in [0, 255]: (H, W) luma, or (H, W, 3)."""
        return _PLANES[self.colour][0](picture)

    def prepare(self, result: npt.NDArray[Any]) -> Float:
        """``result`` in [0, 1], of any shape, as this protocol sees it: float64 in [0, 255], clamped, maybe rounded.

        Raises:
            DataError: values that are not finite.
        """
        values = np.multiply(result, 255, dtype=np.float64)
        # Not finite are the least or the largest, NaN being both.
        if values.size and not np.isfinite((values.min(), values.max())).all():
            raise DataError(
                "the result holds values that are not finite (NaN or infinity): it cannot be measured"
            )
        return quantise(values) if self.quantise else np.clip(values, 0, 255)

    def score(
        self,
        result: npt.NDArray[Any],
        reference: npt.NDArray[Any],
        scale: Scale,
        *,
        with_ssim: bool = True,
        with_ms_ssim: bool = False,
    ) -> Scores:
        """Scores of a network's ``result``, (H, W, 3) in about [0, 1], against ``reference``, uint8 (H, W, 3).

        Raises:
            DataError: shapes that differ, a picture that is all border, or values that are not finite.
        """
        planes = self.planes(self.prepare(result)), self.planes(reference)
        return self.compare(*planes, scale, with_ssim=with_ssim, with_ms_ssim=with_ms_ssim)

    def compare(
        self,
        result: Float,
        reference: Float,
        scale: Scale,
        *,
        with_ssim: bool = True,
        with_ms_ssim: bool = False,
    ) -> Scores:
        """Scores of two pictures that are planes in [0, 255] already: shave, then compare.

        Raises:
            DataError: shapes that differ, a picture that is all border, or too small for what is wanted.
        """
        if result.shape != reference.shape:
            raise DataError(f"the result has the shape {result.shape}, but the original {reference.shape}")
        rows, columns = self.border(scale)
        height, width = result.shape[:2]
        if height <= 2 * rows or width <= 2 * columns:
            raise DataError(f"nothing is left of {width}×{height} pixels after shaving {columns} and {rows}")
        inside = (slice(rows, height - rows), slice(columns, width - columns))
        a, b = result[inside], reference[inside]
        return Scores(
            psnr(a, b, self.peak),
            ssim(a, b, self.peak) if with_ssim else None,
            ms_ssim(a, b, self.peak) if with_ms_ssim else None,
        )

    def _shave_text(self) -> str:
        parts = [{0: "", 1: "s"}.get(self.shave_scales, f"{self.shave_scales}s")]
        parts += [str(self.shave_pixels)] if self.shave_pixels else []
        text = " + ".join(part for part in parts if part)
        return (
            f"{text} pixels shaved from every border (s = the scale, rounded up)"
            if text
            else "nothing shaved"
        )


#: The protocols that have names; ``paper-y`` is the one of nearly every table in the literature.
PROTOCOLS: dict[str, Protocol] = {
    each.name: each
    for each in (
        Protocol("paper-y"),
        Protocol("rgb", colour="rgb"),
        Protocol("edsr-div2k", colour="rgb", shave_pixels=6),
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol called ``name``.

    Raises:
        UnknownNameError: there is none; the message lists them.
    """
    if name not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise UnknownNameError(
            f"no protocol is called '{name}'; there are {known}.{nearest(name, PROTOCOLS)}"
        )
    return PROTOCOLS[name]
