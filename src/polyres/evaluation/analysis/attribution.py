"""Which input pixels a patch of the result was made from: local attribution maps (LAM)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from polyres.errors import UsageError
from polyres.evaluation.analysis.findings import Analysis, Finding, Table
from polyres.evaluation.figures import draw_matrix, new_figure
from polyres.model import SRModel
from polyres.scale import Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

ABOUT = Analysis(
    "attribution",
    "which input pixels the details of a patch of the result come from (local attribution maps)",
    "LAM = sum over k of dD(F(g(a_k)))/dg * (g(a_k) - g(a_(k-1))), g(a) = the input blurred by a Gaussian of sigma "
    "(1 - a) * 8 pixels, a from 0 to 1 in steps, the gradient taken halfway; D = sum of |gradient| over the patch in "
    "the middle; diffusion index = 100 (1 - G), G = Gini coefficient of |LAM| summed over channels",
    "Gu and Dong, Interpreting Super-Resolution Networks with Local Attribution Maps, arXiv 2011.11036",
)

#: Standard deviation in pixels of the blur that attribution starts from.
SIGMA = 8.0

Map: TypeAlias = npt.NDArray[np.float64]


def find(
    models: Mapping[str, SRModel], scale: Scale, image: Tensor, patch: int = 16, steps: int = 20
) -> Finding:
    """The finding for every model at ``scale`` on ``image`` (1, C, H, W) in [0, 1].

    Args:
        models: by name.
        scale: of the result.
        image: what is enlarged.
        patch: side of the patch in pixels of the result, in its middle.
        steps: of the path from blurred to sharp.

    Raises:
        UsageError: a patch that is larger than the result, or no steps.
    """
    size = scale.output_size(*image.shape[-2:])
    if steps < 1 or not 2 <= patch <= min(size):
        raise UsageError(
            f"attribution takes 1 step or more and a patch of 2 to {min(size)} pixels; got {steps} and {patch}"
        )
    top, left = ((side - patch) // 2 for side in size)
    maps = {}
    for name, model in models.items():

        def call(given: Tensor, model: SRModel = model) -> Tensor:
            return detail(model(given, scale)[..., top : top + patch, left : left + patch])

        maps[name] = attribution(call, image, steps).abs().sum(dim=(0, 1)).double().numpy()
    rows = [(name, diffusion_index(values), gini(values)) for name, values in maps.items()]

    def draw() -> Figure:
        figure = new_figure(4.4 * len(maps) + 3.4, 3.8)
        shown = figure.add_subplot(1, len(maps) + 1, 1)
        shown.imshow(image[0].permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
        y, x = top / float(scale.y) - 0.5, left / float(scale.x) - 0.5
        shown.add_patch(_frame(x, y, patch / float(scale.x), patch / float(scale.y)))
        for index, (name, values) in enumerate(maps.items(), 2):
            axes = figure.add_subplot(1, len(maps) + 1, index)
            draw_matrix(figure, axes, np.sqrt(values / max(values.max(), 1e-30)), "sqrt(|LAM|)", cmap="Reds")
            axes.set_title(f"{name} ×{scale}, DI {diffusion_index(values):.1f}", fontsize=9)
        return figure

    found = ", ".join(f"{row[0]} {row[1]:.2f}" for row in rows)
    return Finding(
        ABOUT,
        f"diffusion index (larger = details come from more of the picture): {found}",
        Table(("model", "diffusion_index", "gini"), rows),
        draw,
        {name: Table(("row", "column", "lam"), _cells(values)) for name, values in maps.items()},
    )


def attribution(call: Callable[[Tensor], Tensor], image: Tensor, steps: int) -> Tensor:
    """Path-integrated gradients of ``call`` (a number) from the blurred ``image`` to the sharp one, in its shape.

    They sum to ``call(image) - call(blurred)``, up to the error of the steps.
    """
    total, before = torch.zeros_like(image), blurred(image, SIGMA)
    for step in range(1, steps + 1):
        after = blurred(image, SIGMA * (1 - step / steps))
        middle = ((before + after) / 2).detach().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(call(middle), middle)
        total += gradient * (after - before)
        before = after
    return total


def detail(patch: Tensor) -> Tensor:
    """The sum of the magnitudes of the differences between neighbours, over all channels: a number."""
    return patch.diff(dim=-1).abs().sum() + patch.diff(dim=-2).abs().sum()


def blurred(image: Tensor, sigma: float) -> Tensor:
    """``image`` convolved with a Gaussian of ``sigma`` pixels, borders repeated; itself for sigma 0."""
    if sigma <= 0:
        return image
    reach = max(1, int(np.ceil(3 * sigma)))
    offsets = torch.arange(-reach, reach + 1, dtype=image.dtype)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).expand(image.shape[1], 1, -1)
    padded = F.pad(image, (reach,) * 4, mode="replicate")
    across = F.conv2d(padded, weights[:, :, None, :], groups=image.shape[1])
    return F.conv2d(across, weights[:, :, :, None], groups=image.shape[1])


def gini(values: Map) -> float:
    """Gini coefficient of non-negative values: 0 if all are equal, near 1 if one holds everything."""
    flat = np.sort(values.ravel())
    if not flat.sum():
        return 0.0
    ranks = np.arange(1, flat.size + 1)
    return float((2 * ranks - flat.size - 1) @ flat / (flat.size * flat.sum()))


def diffusion_index(values: Map) -> float:
    """100 (1 - Gini coefficient): larger if more pixels take part."""
    return 100 * (1 - gini(values))


def _cells(values: Map) -> list[tuple[int, int, float]]:
    return [(y, x, float(value)) for (y, x), value in np.ndenumerate(values)]


def _frame(x: float, y: float, width: float, height: float) -> Patch:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, fill=False, edgecolor="red", linewidth=1.5)
