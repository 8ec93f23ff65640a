"""The kernels that a hypernetwork writes, as pictures over the sub-pixel grid of several scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from polyres.errors import UsageError
from polyres.evaluation.analysis.findings import Analysis, Finding, Table
from polyres.evaluation.figures import new_figure
from polyres.model import SRModel
from polyres.upsamplers.kernels import KernelField, symmetrise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = Analysis(
    "generated",
    "the generated kernels over the sub-pixel grid of several scales",
    "map(i, j) = sum over colours of (0.2126, 0.7152, 0.0722) times the mean over taps of the kernel generated at the "
    "centre of sub-pixel (i, j) of an r x r grid, after geometric folding where the upsampler folds; correlation of "
    "each map with the finest, interpolated at the same centres",
    "Lee et al., Implicit Grid Convolution, arXiv 2408.09674, analysis notebook of its repository",
)

#: Weights of red, green and blue in grey (BT.709).
_GREY = (0.2126, 0.7152, 0.0722)

Maps = npt.NDArray[np.float64]


def find(model: SRModel, grids: Sequence[int] = (2, 3, 4, 32), channels: int = 8) -> Finding:
    """The finding for ``channels`` input channels whose kernels vary most, on grids of r x r for each of ``grids``.

    Raises:
        UsageError: an upsampler that generates no kernels, or numbers out of range.
    """
    field = getattr(model.upsampler, "kernels", None)
    if not isinstance(field, KernelField):
        raise UsageError("this model's upsampler generates no kernels; igconv and igconv+ do")
    if not grids or min(grids) < 2 or max(grids) > 64 or channels < 1:
        raise UsageError("grids have 2 to 64 sub-pixels a side, and one channel or more is shown")
    sizes = sorted(set(grids))
    maps = {
        size: grey_maps(field, size, bool(getattr(model.upsampler, "geometric", False))) for size in sizes
    }
    spread = maps[sizes[-1]].std(axis=(1, 2))
    shown = [int(index) for index in np.argsort(-spread, kind="stable")[:channels]]
    alike = {size: _agreement(maps[size], maps[sizes[-1]]) for size in sizes[:-1]}
    rows = [
        (channel, size, i, j, float(maps[size][channel, i, j]))
        for channel in shown
        for size in sizes
        for i in range(size)
        for j in range(size)
    ]
    texts = ", ".join(f"{value:.3f} at {size}" for size, value in alike.items())
    return Finding(
        ABOUT,
        f"correlation with the maps of {sizes[-1]} x {sizes[-1]}: {texts or 'one grid only'}",
        Table(("channel", "grid", "row", "column", "value"), rows),
        lambda: _draw(maps, shown, sizes),
    )


def grey_maps(field: KernelField, size: int, folded: bool) -> Maps:
    """(C, size, size): of each input channel, the mean tap in grey at the centres of that many sub-pixels."""
    centres = [-1 + (2 * index + 1) / size for index in range(size)]
    with torch.no_grad():
        kernels = field.at_positions([(y, x) for y in centres for x in centres], float(size))
        kernels = symmetrise(kernels) if folded else kernels
        colours = kernels.double().mean(dim=(-2, -1))  # (rows, S, C)
        weights = colours.new_tensor(_GREY if len(colours) == 3 else [1 / len(colours)] * len(colours))
        grey = torch.einsum("r,rsc->cs", weights, colours)
    return np.asarray(grey.reshape(-1, size, size).cpu().numpy())


def _agreement(coarse: Maps, fine: Maps) -> float:
    """Correlation of all channels' coarse maps with the fine ones at the coarse centres."""
    given = torch.from_numpy(fine)[:, None]
    size = coarse.shape[-1]
    centres = torch.from_numpy(-1 + (2 * np.arange(size) + 1) / size)
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)
    at = torch.nn.functional.grid_sample(
        given, grid.expand(len(fine), -1, -1, -1), align_corners=False, padding_mode="border"
    )
    pair = coarse.ravel(), at.numpy().ravel()
    return float(np.corrcoef(*pair)[0, 1]) if min(values.std() for values in pair) else 0.0


def _draw(maps: dict[int, Maps], shown: list[int], sizes: list[int]) -> Figure:
    figure = new_figure(1.3 * len(sizes) + 0.6, 1.3 * len(shown) + 0.4)
    grid = figure.subplots(len(shown), len(sizes), squeeze=False)
    for row, channel in zip(grid, shown, strict=True):
        limit = max(float(np.abs(maps[size][channel]).max()) for size in sizes)
        for axes, size in zip(row, sizes, strict=True):
            axes.imshow(maps[size][channel], cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            if channel == shown[0]:
                axes.set_title(f"{size} × {size}", fontsize=8)
        row[0].set_ylabel(f"channel {channel}", fontsize=7)
    return figure
