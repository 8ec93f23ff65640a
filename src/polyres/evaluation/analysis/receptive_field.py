"""Which input pixels an output depends on, and how much: the effective receptive field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polyres.evaluation.analysis.findings import Analysis, Finding, Table
from polyres.evaluation.figures import draw_matrix, new_figure
from polyres.model import SRModel
from polyres.scale import Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = Analysis(
    "receptive-field",
    "how much each input pixel changes the middle of the result",
    "field(y, x) = sum over input channels of |d out / d in(y, x)|, where out is the sum of the result over the pixels "
    "that belong to the middle input pixel; radius of p % = smallest r such that the square of 2r + 1 pixels around "
    "the middle holds p % of the field's sum",
    "Luo et al., Understanding the Effective Receptive Field, arXiv 1701.04128",
)

Field: TypeAlias = npt.NDArray[np.float64]
#: Shares of the field whose radius is told.
SHARES = (0.5, 0.9, 0.99, 1.0)


def find(models: Mapping[str, SRModel], scale: Scale, image: Tensor) -> Finding:
    """The finding for every model at ``scale`` on ``image`` (1, C, H, W) in [0, 1]."""
    fields = {name: of_model(model, scale, image) for name, model in models.items()}
    rows = [
        (
            name,
            *(radius(field, share) for share in SHARES),
            "whole picture" if models[name].context is None else int(models[name].context or 0),
        )
        for name, field in fields.items()
    ]

    def draw() -> Figure:
        figure = new_figure(4.4 * len(fields), 3.8)
        for index, (name, field) in enumerate(fields.items(), 1):
            axes = figure.add_subplot(1, len(fields), index)
            shown = np.log10(np.maximum(field / field.max(), 1e-6))
            draw_matrix(
                figure, axes, shown, "log10 of the share of the largest", cmap="magma", vmin=-6, vmax=0
            )
            axes.set_title(f"{name} ×{scale}", fontsize=9)
        return figure

    texts = ", ".join(f"{row[0]} {row[2]}" for row in rows)
    return Finding(
        ABOUT,
        f"90 % of the influence on a pixel comes from within (pixels): {texts}",
        Table(("model", *(f"radius_{share:.0%}" for share in SHARES), "declared_context"), rows),
        draw,
    )


def of_model(model: SRModel, scale: Scale, image: Tensor) -> Field:
    """The field of the pixels of the result that belong to the middle pixel of ``image``: (H, W)."""
    middle = image.shape[-2] // 2, image.shape[-1] // 2
    spans = [
        slice(round(place * factor), max(round(place * factor) + 1, round((place + 1) * factor)))
        for place, factor in zip(middle, (scale.y, scale.x), strict=True)
    ]
    return effective_field(lambda given: model(given, scale)[..., spans[0], spans[1]], image)


def effective_field(call: Callable[[Tensor], Tensor], image: Tensor) -> Field:
    """Sum over channels of the magnitude of the gradient of the sum of ``call(image)``: (1, C, H, W) to (H, W)."""
    given = image.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(call(given).sum(), given)
    return np.asarray(gradient[0].abs().sum(dim=0).double().cpu().numpy())


def radius(field: Field, share: float) -> int:
    """Smallest r such that the square of 2r + 1 pixels around the middle holds ``share`` of the sum of ``field``."""
    middle = np.array(field.shape) // 2
    y, x = np.indices(field.shape)
    rings = np.maximum(np.abs(y - middle[0]), np.abs(x - middle[1]))
    within = np.cumsum(np.bincount(rings.ravel(), weights=field.ravel()))
    # Rounding of the sum must not send the radius of all of it to the border.
    return int(np.searchsorted(within, share * within[-1] * (1 - 1e-12)))
