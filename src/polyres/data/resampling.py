"""The arithmetic of MATLAB's imresize along one axis: kernels, positions, edges, and weights as small matrices.

Positions are exact. Output ``i`` (from 0) of a factor ``p/q`` lies at ``u = ((2 i + 1) q - p) / (2 p)`` in input
pixels, so every distance ``u - j`` is a whole number over ``2 p`` (over ``2 q`` in units of a kernel that is stretched
by ``q/p`` to shrink without aliasing). Kernels get numerator and denominator, and the polynomial ones return whole
numbers: sums over 8-bit pixels are then exact in float64, and one division by the sum of the weights gives the
correctly rounded value. The result does not depend on the order in which a BLAS adds, so it is equal on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from polyres.errors import UnknownNameError, nearest

Float: TypeAlias = npt.NDArray[np.float64]
Int: TypeAlias = npt.NDArray[np.int64]
Edge: TypeAlias = Literal["mirror", "repeat"]

#: Output pixels computed by one matrix product; wide enough for a BLAS, narrow enough to waste little on zeros.
_BLOCK = 32


@dataclass(frozen=True)
class Kernel:
    """A resampling kernel.

    Attributes:
        width: support in input pixels, as MATLAB counts it.
        weigh: weights, up to a common factor, at the signed distances ``n / d``, from ``n`` and ``d``.
        antialias: whether it may be stretched when shrinking.
    """

    width: int
    weigh: Callable[[Float, int], Float]
    antialias: bool = True


def _cubic(n: Float, d: int) -> Float:
    """Keys' cubic with a = -1/2, times ``2 d^3``."""
    n = np.abs(n)
    inner = (3 * n - 5 * d) * n * n + 2.0 * d**3
    outer = ((5 * d - n) * n - 8.0 * d**2) * n + 4.0 * d**3
    return np.where(n <= d, inner, np.where(n <= 2 * d, outer, 0.0))


def _linear(n: Float, d: int) -> Float:
    """The triangle, times ``d``."""
    return np.asarray(np.maximum(d - np.abs(n), 0.0))


def _box(n: Float, d: int) -> Float:
    """One on ``[-1/2, 1/2)``, MATLAB's half-open interval."""
    return ((-d <= 2 * n) & (2 * n < d)).astype(np.float64)


def _lanczos3(n: Float, d: int) -> Float:
    """``sinc(x) sinc(x/3)`` within three pixels."""
    x = n / d
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


KERNELS: dict[str, Kernel] = {
    "bicubic": Kernel(4, _cubic),
    "bilinear": Kernel(2, _linear),
    "lanczos": Kernel(6, _lanczos3),
    "box": Kernel(1, _box),
    "nearest": Kernel(1, _box, antialias=False),
}


@dataclass(frozen=True)
class Block:
    """Consecutive outputs as one matrix product: ``matrix @ inputs[first:last] / total``."""

    first: int
    last: int
    matrix: Float
    total: Float


@dataclass(frozen=True, eq=False)
class Axis:
    """How one axis is resampled.

    Attributes:
        length: input pixels.
        indices: (outputs, taps) input pixel of every tap, edges already folded back inside.
        values: (outputs, taps) weights up to a factor per output.
        total: (outputs,) sums of ``values``, to be divided by.
        blocks: the same as dense matrices, in the order of the outputs.
    """

    length: int
    indices: Int
    values: Float
    total: Float
    blocks: tuple[Block, ...]

    def apply_rows(self, planes: Float) -> Float:
        """``planes`` (..., length, W) float64 -> (..., outputs, W), not rounded."""
        parts = [
            np.matmul(b.matrix, planes[..., b.first : b.last, :]) / b.total[:, None] for b in self.blocks
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-2)

    def apply_columns(self, planes: Float) -> Float:
        """``planes`` (..., H, length) float64 -> (..., H, outputs), not rounded."""
        parts = [np.matmul(planes[..., b.first : b.last], b.matrix.T) / b.total for b in self.blocks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def dense(self) -> Float:
        """The whole operator, (outputs, length), rows summing to 1."""
        matrix = np.zeros((len(self.total), self.length))
        np.add.at(matrix, (np.arange(len(self.total))[:, None], self.indices), self.values)
        return matrix / self.total[:, None]


@lru_cache(maxsize=128)
def axis(length: int, outputs: int, factor: Fraction, kernel: str, antialias: bool, edge: Edge) -> Axis:
    """The weights that take ``length`` pixels to ``outputs`` at ``factor``.

    Raises:
        UnknownNameError: no such kernel or edge rule.
    """
    known = find_kernel(kernel)
    stretch = antialias and known.antialias and factor < 1
    p, q = factor.numerator, factor.denominator
    width = known.width / factor if stretch else Fraction(known.width)
    centre = (2 * np.arange(outputs, dtype=np.int64) + 1) * q - p  # over 2 p
    reach = int(width * p)  # whole: the width is a whole number, over p if stretched
    indices = ((centre - reach) // (2 * p))[:, None] + np.arange(math.ceil(width) + 2)
    distance = (centre[:, None] - 2 * p * indices).astype(np.float64)
    values = known.weigh(distance, 2 * q if stretch else 2 * p)
    used = values.any(axis=0)
    indices, values = fold(indices[:, used], length, edge), values[:, used]
    total = values.sum(axis=1)
    return Axis(length, indices, values, total, _blocks(indices, values, total))


def find_kernel(name: str) -> Kernel:
    """The kernel called ``name``, or an error that lists them."""
    if name not in KERNELS:
        raise UnknownNameError(
            f"no kernel is called '{name}'; there are {', '.join(KERNELS)}.{nearest(name, KERNELS)}"
        )
    return KERNELS[name]


def fold(indices: Int, length: int, edge: Edge) -> Int:
    """``indices`` brought inside ``0 .. length - 1``: mirrored with the edge pixel twice, or the edge repeated."""
    if edge == "repeat":
        return np.clip(indices, 0, length - 1)
    if edge != "mirror":
        raise UnknownNameError(f"an edge rule is 'mirror' or 'repeat'; got '{edge}'")
    turn = indices % (2 * length)
    return np.minimum(turn, 2 * length - 1 - turn)


def _blocks(indices: Int, values: Float, total: Float) -> tuple[Block, ...]:
    """The operator cut into dense matrices of at most ``_BLOCK`` rows."""
    blocks = []
    for start in range(0, len(total), _BLOCK):
        rows = slice(start, start + _BLOCK)
        first, last = int(indices[rows].min()), int(indices[rows].max()) + 1
        matrix = np.zeros((len(total[rows]), last - first))
        np.add.at(matrix, (np.arange(len(matrix))[:, None], indices[rows] - first), values[rows])
        blocks.append(Block(first, last, matrix, total[rows]))
    return tuple(blocks)
