"""How alike the kernels of a layer are: KRGN's Figure 4, and measures beside it that do not depend on magnitude."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from polyres.errors import UsageError
from polyres.evaluation.analysis.findings import Analysis, Finding, Table
from polyres.evaluation.figures import draw_matrix, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = Analysis(
    "kernels",
    "how alike the kernels of each layer are, before and after recalibration",
    "KL_ij = sum_t p_i(t) log(p_i(t) / p_j(t)) with p_i = softmax of kernel i (natural logarithm, not normalised); the "
    "same of kernels less their mean and divided by their standard deviation; |cosine|; effective rank = exp(entropy "
    "of the singular values, normalised to sum 1); Frobenius norms of the weight and of its change by recalibration. "
    "KL of softmaxed kernels is about half the variance of their difference: it shows magnitude first of all",
    "KRGN, Figure 4 (KL); Roy and Vetterli, EUSIPCO 2007 (effective rank)",
)

Matrix: TypeAlias = npt.NDArray[np.float64]
#: One kernel an output channel, or one for each of its input channels; the same for depthwise convolutions.
Per = Literal["out-channel", "slice"]
#: KL as it is, its upper triangle mirrored (as the paper's script does), KL both ways summed, or Jensen-Shannon.
Symmetrise = Literal["none", "mirror", "jeffreys", "js"]

#: Layers with more kernels than this would take too much memory, each being compared with each.
MOST_KERNELS = 4096
#: Layers that get a heat map and a table of their own.
MOST_DRAWN = 6


@dataclass(frozen=True)
class Layer:
    """One layer's kernels, (n, taps): its weight, or the basis that this is computed from."""

    name: str
    which: Literal["basis", "weight"]
    kernels: Matrix
    change: float  # Frobenius norm of the weight less the basis


def find(
    model: nn.Module,
    layers: str = "*",
    per: Per = "out-channel",
    symmetrise: Symmetrise = "none",
    vmax: float = 0.1,
) -> Finding:
    """The finding for convolutions of ``model`` whose name fits the pattern ``layers`` (``*`` for anything).

    Args:
        model: unfused, to see both basis and weight of recalibrated layers.
        layers: such as ``encoder.body.*``; 1x1 convolutions have no kernels to compare and are left out.
        per: what counts as a kernel.
        symmetrise: of the heat maps and their tables.
        vmax: where the colours of the heat maps end.

    Raises:
        UsageError: no such layer, or an option that does not exist.
    """
    if per not in get_args(Per) or symmetrise not in get_args(Symmetrise):
        raise UsageError(
            f"kernels are compared per {' or '.join(get_args(Per))} and symmetrised by "
            f"{', '.join(get_args(Symmetrise))}; got {per} and {symmetrise}"
        )
    chosen = list(_layers(model, layers, per))
    if not chosen:
        raise UsageError(
            f"no convolution of 2 to {MOST_KERNELS} kernels wider than 1x1 is called '{layers}' here"
        )
    rows = [_row(layer) for layer in chosen]
    drawn = _evenly(chosen)
    maps = {f"{layer.name}-{layer.which}": divergences(layer.kernels, symmetrise) for layer in drawn}
    mean = float(np.mean([row[4] for row in rows if row[1] == "weight"]))
    return Finding(
        ABOUT,
        f"mean KL between different kernels is {mean:.3g} over {len({row[0] for row in rows})} layers",
        Table(_COLUMNS, rows),
        lambda: _draw(drawn, vmax, symmetrise),
        {name: _matrix_table(matrix) for name, matrix in maps.items()},
    )


def divergences(kernels: Matrix, symmetrise: Symmetrise = "none") -> Matrix:
    """KL divergence (nats) of each softmaxed kernel from each: (n, taps) to (n, n); exact, rows from columns.

    The diagonal is zero; ``"none"`` is not symmetric.
    """
    logs = _log_softmax(kernels)
    shares = np.exp(logs)
    if symmetrise == "js":
        return _jensen_shannon(shares, logs)
    own = (shares * logs).sum(axis=1, keepdims=True)
    matrix = np.maximum(own - shares @ logs.T, 0)  # rounding may leave -1e-17
    np.fill_diagonal(matrix, 0)
    if symmetrise == "mirror":
        upper = np.triu(matrix, 1)
        return np.asarray(upper + upper.T)
    return np.asarray(matrix + matrix.T) if symmetrise == "jeffreys" else matrix


def standardised(kernels: Matrix) -> Matrix:
    """Each kernel less its mean and divided by its standard deviation; a constant one becomes zero."""
    centred = kernels - kernels.mean(axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    return np.asarray(np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0))


def cosines(kernels: Matrix) -> Matrix:
    """|cosine| of the angle of each kernel with each; 0 for a kernel that is zero."""
    norms = np.linalg.norm(kernels, axis=1, keepdims=True)
    units = np.divide(kernels, norms, out=np.zeros_like(kernels), where=norms > 0)
    return np.asarray(np.abs(units @ units.T))


def effective_rank(kernels: Matrix) -> float:
    """Between 1 (all kernels are multiples of one) and the rank; 0 for no kernels at all but zeros."""
    values = np.linalg.svd(kernels, compute_uv=False)
    if not values.sum():
        return 0.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def off_diagonal(matrix: Matrix) -> Matrix:
    """The entries that compare different kernels."""
    return matrix[~np.eye(len(matrix), dtype=bool)]


_COLUMNS = (
    "layer",
    "of",
    "kernels",
    "taps",
    "mean_kl",
    "kl_95th_percentile",
    "mean_standardised_kl",
    "mean_abs_cosine",
    "effective_rank",
    "norm",
    "norm_of_change",
)


def _row(layer: Layer) -> tuple[Any, ...]:
    kernels = layer.kernels
    plain = off_diagonal(divergences(kernels))
    return (
        layer.name,
        layer.which,
        *kernels.shape,
        float(plain.mean()),
        float(np.percentile(plain, 95)),
        float(off_diagonal(divergences(standardised(kernels))).mean()),
        float(off_diagonal(cosines(kernels)).mean()),
        effective_rank(kernels),
        float(np.linalg.norm(kernels)),
        layer.change,
    )


def _layers(model: nn.Module, pattern: str, per: Per) -> Iterator[Layer]:
    for name, module in model.named_modules():
        if not isinstance(module, _ConvNd) or not fnmatch.fnmatchcase(name or "weight", pattern):
            continue
        with torch.no_grad():
            weight = _slices(module.weight, per)
            basis = weight
            if parametrize.is_parametrized(module, "weight"):
                basis = _slices(module.get_parameter("parametrizations.weight.original"), per)
        if module.weight[0, 0].numel() < 2 or not 2 <= len(weight) <= MOST_KERNELS:
            continue
        change = float(np.linalg.norm(weight - basis))
        if basis is not weight:
            yield Layer(name, "basis", basis, change)
        yield Layer(name, "weight", weight, change)


def _slices(weight: Tensor, per: Per) -> Matrix:
    flat = weight.detach().flatten(1 if per == "out-channel" else 2)
    return np.asarray(flat.reshape(-1, flat.shape[-1]).double().cpu().numpy())


def _log_softmax(kernels: Matrix) -> Matrix:
    shifted = kernels - kernels.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _jensen_shannon(shares: Matrix, logs: Matrix) -> Matrix:
    own = (shares * logs).sum(axis=1)
    matrix = np.empty((len(shares), len(shares)))
    for index, share in enumerate(shares):  # a row at a time: all pairs of mixtures would not fit the memory
        mixed = (share + shares) / 2
        matrix[index] = (own[index] + own) / 2 - (mixed * np.log(mixed)).sum(axis=1)
    return np.maximum(matrix, 0)


def _evenly(layers: list[Layer]) -> list[Layer]:
    """Up to :data:`MOST_DRAWN` layers from first to last, each with all that there is of it."""
    names = list(dict.fromkeys(layer.name for layer in layers))
    places = np.linspace(0, len(names) - 1, min(MOST_DRAWN, len(names)))
    kept = {names[round(place)] for place in places}
    return [layer for layer in layers if layer.name in kept]


def _matrix_table(matrix: Matrix) -> Table:
    columns = ("kernel", *(f"from_{index}" for index in range(len(matrix))))
    return Table(columns, [(index, *map(float, row)) for index, row in enumerate(matrix)])


def _draw(layers: list[Layer], vmax: float, symmetrise: Symmetrise) -> Figure:
    """A row for each of ``layers``: KL with fixed colours as the paper has it, then what magnitude does not change."""
    figure = new_figure(11.4, 3.3 * len(layers))
    rows = figure.subplots(len(layers), 3, squeeze=False)
    how = "" if symmetrise == "none" else f", {symmetrise}"
    for row, layer in zip(rows, layers, strict=True):
        even = divergences(standardised(layer.kernels), symmetrise)
        draw_matrix(
            figure,
            row[0],
            divergences(layer.kernels, symmetrise),
            f"KL{how}",
            cmap="YlGnBu",
            vmin=0,
            vmax=vmax,
        )
        draw_matrix(figure, row[1], even, f"KL of standardised{how}", cmap="YlGnBu", vmin=0)
        draw_matrix(figure, row[2], cosines(layer.kernels), "|cosine|", cmap="YlGnBu_r", vmin=0, vmax=1)
        row[0].set_ylabel("kernel")
        row[1].set_title(f"{layer.name}, {layer.which}", fontsize=9)
    return figure
