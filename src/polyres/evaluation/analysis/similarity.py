"""How alike encoders' features are: linear CKA between models, and between the scales that a picture is shrunk by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from polyres.errors import DataError
from polyres.evaluation.analysis.findings import Analysis, Cell, Finding, Table
from polyres.evaluation.analysis.inputs import shrunk, tensor
from polyres.evaluation.figures import draw_matrix, new_figure
from polyres.model import SRModel, prepare
from polyres.scale import Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = Analysis(
    "similarity",
    "how alike the encoders' features are, across models and scales (CKA)",
    "CKA(X, Y) = ||Y'X||^2 / (||X'X|| ||Y'Y||), Frobenius norms, columns centred; a row of X is one place, a column "
    "one channel of the features; pictures shrunk by different scales are compared on a common grid, to which their "
    "features are averaged; 1 = equal but for rotation and scaling, 0 = nothing in common",
    "Kornblith et al., Similarity of Neural Network Representations Revisited, arXiv 1905.00414",
)

Features = npt.NDArray[np.float64]


def find(models: Mapping[str, SRModel], scales: Sequence[Scale], high: npt.NDArray[np.uint8]) -> Finding:
    """The finding for every model on ``high`` (H, W, 3) shrunk by every scale.

    Raises:
        UsageError: a picture too small for a scale.
    """
    maps = {
        f"{name} ×{scale}": features(model, tensor(shrunk(high, scale)[0]))
        for scale in scales
        for name, model in models.items()
    }
    grid = min(each.shape[2] for each in maps.values()), min(each.shape[3] for each in maps.values())
    tables = {name: columns(F.adaptive_avg_pool2d(each, grid)) for name, each in maps.items()}
    names = list(tables)
    matrix = np.array([[linear_cka(tables[a], tables[b]) for b in names] for a in names])

    def draw() -> Figure:
        figure = new_figure(3 + 0.6 * len(names), 2.4 + 0.6 * len(names))
        axes = figure.add_subplot()
        draw_matrix(figure, axes, matrix, "CKA", cmap="viridis", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        return figure

    lowest = float(matrix.min())
    rows: list[tuple[Cell, ...]] = [(name, *map(float, row)) for name, row in zip(names, matrix, strict=True)]
    return Finding(
        ABOUT,
        f"the least alike of {len(names)} have a CKA of {lowest:.3f}",
        Table(("features", *names), rows),
        draw,
    )


def features(model: SRModel, image: Tensor) -> Tensor:
    """What the encoder of ``model`` makes of ``image`` (1, C, H, W): (1, F, H, W)."""
    with torch.no_grad():
        _, normalised = prepare(image, model.encoder, model.mean, model.value_range)
        made: Tensor = model.encoder(normalised)
    return made[..., : image.shape[-2], : image.shape[-1]]


def columns(maps: Tensor) -> Features:
    """(1, F, H, W) as (H * W, F)."""
    return np.asarray(maps[0].flatten(1).T.double().numpy())


def linear_cka(first: Features, second: Features) -> float:
    """Linear CKA, 0 to 1, of two tables of features: a row a place, (n, a) and (n, b).

    Raises:
        DataError: different numbers of rows, or features that are the same everywhere.
    """
    if len(first) != len(second):
        raise DataError(f"CKA compares features at the same places; got {len(first)} and {len(second)}")
    x, y = first - first.mean(axis=0), second - second.mean(axis=0)
    scale = float(np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    if scale == 0:
        raise DataError("CKA is not defined for features that are the same everywhere")
    return float(np.linalg.norm(y.T @ x) ** 2 / scale)
