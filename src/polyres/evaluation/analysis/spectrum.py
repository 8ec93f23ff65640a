"""At which frequencies a result differs from the original: radial power spectra of the error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from polyres.evaluation.analysis.findings import Analysis, Finding, Table
from polyres.evaluation.analysis.inputs import shrunk, tensor
from polyres.evaluation.baselines import BASELINES
from polyres.evaluation.figures import new_figure
from polyres.metrics.colour import to_y
from polyres.model import SRModel
from polyres.scale import Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = Analysis(
    "spectrum",
    "power of the error of the result at each spatial frequency, beside bicubic's and the original's own",
    "P(f) = mean of |FFT(w x)|^2 / sum(w^2) over all frequencies whose distance from zero rounds to f; x = luma "
    "(BT.601, 0 to 255) of result less original, or of the original less its mean; w = Hann window; f in cycles per "
    "HR pixel; the LR picture holds frequencies up to 1 / (2 s)",
    "polyres (periodogram: Welch, IEEE Trans. Audio Electroacoust. 15, 1967, of one segment)",
)

Plane: TypeAlias = npt.NDArray[np.float64]


def find(models: Mapping[str, SRModel], scale: Scale, high: npt.NDArray[np.uint8]) -> Finding:
    """The finding for every model and bicubic on MATLAB's bicubic of ``high`` (H, W, 3).

    Raises:
        UsageError: a picture too small for the scale.
    """
    low, cropped = shrunk(high, scale)
    luma = to_y(cropped)
    errors = {"bicubic": to_y(BASELINES["bicubic"](low, scale) * 255) - luma}
    for name, model in models.items():
        with torch.no_grad():
            result = model(tensor(low), scale)[0].permute(1, 2, 0).clamp(0, 1).double().numpy()
        errors[name] = to_y(result * 255) - luma
    spectra = {"original": radial_spectrum(luma - luma.mean())}
    spectra.update({f"error of {name}": radial_spectrum(error) for name, error in errors.items()})
    frequencies = np.arange(len(spectra["original"])) / min(luma.shape)
    rows = [tuple(map(float, row)) for row in zip(frequencies, *spectra.values(), strict=True)]
    nyquist = 0.5 / scale.mean_factor

    def draw() -> Figure:
        figure = new_figure(6.4, 4.2)
        axes = figure.add_subplot()
        for name, values in spectra.items():
            axes.plot(frequencies[1:], np.maximum(values[1:], 1e-9), label=name)
        axes.axvline(nyquist, color="0.6", linestyle=":", label="limit of the LR picture")
        axes.set(yscale="log", xlabel="cycles per HR pixel", ylabel="power", title=f"×{scale}")
        axes.legend()
        return figure

    shares = ", ".join(
        f"{name} {_above(values, frequencies, nyquist):.0%}" for name, values in spectra.items()
    )
    return Finding(
        ABOUT,
        f"share of the power above the limit of the LR picture: {shares}",
        Table(("cycles_per_pixel", *spectra), rows),
        draw,
    )


def radial_spectrum(plane: Plane) -> Plane:
    """Mean power of ``plane`` (H, W) at distance 0, 1, ... from zero frequency, in steps of 1 / min(H, W)."""
    window = np.outer(np.hanning(plane.shape[0]), np.hanning(plane.shape[1]))
    power = np.abs(np.fft.fft2(window * plane)) ** 2 / (window**2).sum()
    side = min(plane.shape)
    y, x = (np.fft.fftfreq(length) * side for length in plane.shape)
    rings = np.rint(np.hypot(y[:, None], x[None, :])).astype(int)
    kept = rings <= side // 2  # beyond, rings are cut by the corners of the square of frequencies
    sums = np.bincount(rings[kept], weights=power[kept])
    return np.asarray(sums / np.maximum(np.bincount(rings[kept]), 1))


def _above(values: Plane, frequencies: Plane, limit: float) -> float:
    """The share of the power of all rings, each weighted by its circumference, beyond ``limit``."""
    total = values * frequencies
    return float(total[frequencies > limit].sum() / max(total.sum(), 1e-30))
