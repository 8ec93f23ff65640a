"""Kernels that treat turned pictures alike, as the small matrices that they consist of.

The matrix of such a kernel, output channels by what each of them sees, commutes with every turn. In the right basis it
is therefore one small block for each irreducible representation of the group, as often as that has dimensions, and
products of such matrices are products of their blocks: the Fourier transform of a finite group.

J.-P. Serre, "Linear Representations of Finite Groups", 1977, chapters 2 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from polyres.layers.equivariance import (
    GROUP_SIZES,
    ORDERS,
    Symmetry,
    firsts,
    has_negatives,
    has_turns,
    orbit_of,
    orbits,
)

#: Side of the plane on which the turns are read off.
_SIDE = 3


class Blocks(NamedTuple):
    """All blocks of one size of kernels' matrices.

    Attributes:
        matrices: (kernels, blocks, rows, columns).
        times: how often each of them is there: the dimension of its representation.
    """

    matrices: Tensor
    times: int


class Representations:
    """Takes kernels of one shape apart into blocks, and puts them together.

    A kernel is given as its free values, those of the first channels of each group of outputs, one row a group: all
    others are these, moved. Their shape tells the symmetry.

    Args:
        shape: (K, C, h, w) of the kernels, h = w; K and C in whole groups.
        symmetry: that the kernels keep.
    """

    def __init__(self, shape: Sequence[int], symmetry: Symmetry) -> None:
        self.shape, self.symmetry, self.order = tuple(shape), symmetry, ORDERS[symmetry]
        table = orbits(shape, symmetry, (0, 1), [(2, 3)])
        self._fields, self._seen = shape[0] // self.order, math.prod(shape[1:])
        self.free_shape = free_shape(shape, symmetry)
        self._places = orbit_of(table)
        # What one row sees, as images of what it sees in the first channel of each orbit of inputs.
        first = firsts(torch.arange(self._seen).reshape(tuple(shape[1:])), symmetry).flatten()
        self._columns = (table.reshape(self.order, -1, self._seen)[:, 0] % self._seen)[:, first]
        self._characters, self._turns = _representations(symmetry)

    def to(self, like: Tensor) -> Representations:
        """Itself, with its tables where ``like`` is, and of its type."""
        self._places, self._columns = self._places.to(like.device), self._columns.to(like.device)
        self._characters, self._turns = self._characters.to(like), self._turns.to(like)
        return self

    def free(self, kernel: Tensor) -> Tensor:
        """The free values of one kernel, see :func:`free_shape`."""
        return firsts(kernel, self.symmetry).reshape(self.free_shape)

    def whole(self, free: Tensor) -> Tensor:
        """The kernel whose free values these are."""
        return free.reshape(-1).index_select(0, self._places).reshape(self.shape)

    def split(self, free: Tensor) -> list[Blocks]:
        """The blocks of kernels.

        Args:
            free: (kernels, *shape of the free values).
        """
        rows = free.reshape(len(free), self._fields, self._seen)
        values = rows[..., self._columns]  # (kernels, K / order, order, orbits)
        single = torch.einsum("nigj,gr->nrij", values, self._characters)
        double = torch.einsum("nigj,rgab->nriajb", values, self._turns)
        return [Blocks(single, 1), Blocks(double.flatten(4).flatten(2, 3), 2)]

    def join(self, blocks: Sequence[Tensor]) -> Tensor:
        """The free values of the kernels whose ``matrices`` these are, in the order of :meth:`split`."""
        single, double = blocks
        values = torch.einsum("nrij,gr->nigj", single, self._characters)
        double = double.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        values = (values + 2 * torch.einsum("nriajb,rgab->nigj", double, self._turns)) / self.order
        free = torch.empty(*values.shape[:2], self._seen, dtype=values.dtype, device=values.device)
        free[..., self._columns] = values
        return free.reshape(len(free), *self.free_shape)


def free_shape(shape: Sequence[int], symmetry: Symmetry) -> tuple[int, int]:
    """Groups of outputs, and what the rows of their first channels see together, of kernels of one shape."""
    groups = shape[0] // GROUP_SIZES[symmetry]
    return groups, math.prod(shape) // ORDERS[symmetry] // groups


def _representations(symmetry: Symmetry) -> tuple[Tensor, Tensor]:
    """The irreducible representations, in the order of the rows of :func:`polyres.layers.equivariance.orbits`.

    Returns:
        The characters of those of one dimension, (order, representations), and the matrices of those of two,
        (representations, order, 2, 2); flips have none of these.
    """
    size, order = GROUP_SIZES[symmetry], ORDERS[symmetry]
    table = orbits((size, _SIDE, _SIDE), symmetry, [0], [(1, 2)])
    images = table.reshape(order, -1, _SIDE, _SIDE)[:, 0] % _SIDE**2
    steps = torch.stack([images[:, 2, 1], images[:, 1, 2]], 1)  # where one step down and one to the right end
    turns = torch.stack([steps // _SIDE - 1, steps % _SIDE - 1], 1).float()  # (order, 2, 2)
    turned = torch.linalg.det(turns).round()
    if has_turns(symmetry):
        other, doubles = turns[:, 0, 0].square() - turns[:, 0, 1].square(), turns[None]
    else:
        other, doubles = turns[:, 0, 0], turns[:0, None].expand(0, order, 2, 2)
    singles = torch.stack([torch.ones(order), turned, other, turned * other], 1)
    if has_negatives(symmetry):
        sign = torch.ones(order)
        sign[order // 2 :] = -1
        singles = torch.cat([singles, sign[:, None] * singles], 1)
        doubles = torch.cat([doubles, sign[:, None, None] * doubles])
    return singles, doubles
