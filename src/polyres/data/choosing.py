"""What a training crop is chosen by, of several places that are drawn for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from polyres.scale import Scale

#: Names of :data:`MEASURES`.
Measure = Literal["detail", "coherence"]

_Grey: TypeAlias = npt.NDArray[np.float32]

#: Pixels a side of the blocks in which directions are compared: about what an edge runs straight for.
_BLOCK = 8


def detail(grey: _Grey, scale: Scale) -> float:
    """Mean square difference of values one LR pixel apart, down and across.

    Args:
        grey: (H, W) in HR.
        scale: of the crop.
    """
    down, across = max(1, round(scale.y)), max(1, round(scale.x))
    return float(
        np.square(grey[down:] - grey[:-down]).mean() + np.square(grey[:, across:] - grey[:, :-across]).mean()
    )


def coherence(grey: _Grey, scale: Scale) -> float:
    """How far gradients have one direction within small blocks, 0 to 1: high for edges and stripes, low for foliage.

    Of the blocks' structure tensors it is the sum of differences of both eigenvalues as a part of the sum of all
    eigenvalues, so that strong blocks count most and a flat crop has 0.

    Args:
        grey: (H, W) in HR, at least 2 pixels a side.
        scale: of the crop; plays no part.
    """
    # Means of two differences lie at the same place down and across, so that noise has no direction.
    down, across = np.diff(grey, axis=0), np.diff(grey, axis=1)
    down, across = down[:, 1:] + down[:, :-1], across[1:] + across[:-1]
    horizontal, vertical, mixed = map(_sums, (across * across, down * down, across * down))
    total = float(horizontal.sum() + vertical.sum())
    return float(np.hypot(horizontal - vertical, 2 * mixed).sum()) / total if total else 0.0


def _sums(products: _Grey) -> _Grey:
    """Of each whole block; of all, where there is none."""
    height, width = (min(_BLOCK, side) for side in products.shape)
    rows, columns = products.shape[0] // height, products.shape[1] // width
    blocks = products[: rows * height, : columns * width].reshape(rows, height, columns, width)
    made: _Grey = blocks.sum((1, 3))
    return made


#: By name; of several crops the one with the largest value is taken.
MEASURES: dict[Measure, Callable[[_Grey, Scale], float]] = {"detail": detail, "coherence": coherence}
