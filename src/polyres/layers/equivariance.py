"""Kernels that treat a picture, its flips and quarter turns, and its negative alike.

A channel of such features is one of a group that look for the same thing: in eight orientations, and dark on light as
light on dark. Where the picture is turned, the channels of a group turn and change places. A kernel between such
channels has as many times fewer free values as there are ways to treat alike, and is applied as any other.

T. Cohen, M. Welling, "Group equivariant convolutional networks", arXiv 1602.07576 (p4m, the group of flips and turns).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

#: What is treated alike: flips alone, or quarter turns too; each of them without or with the negative.
Symmetry = Literal["flips", "flips-and-negatives", "turns", "turns-and-negatives"]

#: Channels in a group. Channels 8i to 8i + 7 are one thing turned (two things flipped, one in the even places and one
#: in the odd); of 16, the second half is the first's negative.
GROUP_SIZES: dict[Symmetry, int] = {
    "flips": 8,
    "flips-and-negatives": 16,
    "turns": 8,
    "turns-and-negatives": 16,
}

#: In how many ways a picture is treated alike: flipped four ways, turned eight ways, as it is and as the negative.
ORDERS: dict[Symmetry, int] = {"flips": 4, "flips-and-negatives": 8, "turns": 8, "turns-and-negatives": 16}

#: Part of the largest value of a kernel by which others may be off their places in the form.
_ROUNDINGS = 3e-5


def symmetric(
    tensor: Tensor,
    symmetry: Symmetry,
    channels: Sequence[int],
    planes: Sequence[tuple[int, int]] = (),
    changes_sign: bool = False,
    transposed: Tensor | None = None,
) -> Tensor:
    """The mean of ``tensor`` over a symmetry: what of it treats all alike, of the same shape.

    Args:
        tensor: a kernel, a bias, or several kernels at once.
        symmetry: what is averaged over.
        channels: its axes that hold channels in groups: both of a kernel between features, one if colours are on the
            other side.
        planes: pairs of its axes (rows, columns) that turn with the picture.
        changes_sign: whether the negative changes its sign: it does where colours are on one side.
        transposed: stands at the transposed positions instead of ``tensor``: kernels of a scale that differs between
            the axes have those of the swapped scale for their other half. Of flips alone it changes nothing.

    Raises:
        ValueError: channels that do not come in whole groups.
    """
    _check(tensor, symmetry, channels)
    *flips, transpose = turns(channels, planes)
    total = _summed(tensor, flips)
    if has_turns(symmetry):
        total = total + transpose(total if transposed is None else _summed(transposed, flips))
    if has_negatives(symmetry):
        negative = exchanged(total, channels)
        total = total - negative if changes_sign else total + negative
    return total / ORDERS[symmetry]


def orbits(
    shape: Sequence[int],
    symmetry: Symmetry,
    channels: Sequence[int],
    planes: Sequence[tuple[int, int]] = (),
) -> Tensor:
    """Which values of a tensor the symmetry holds equal, or opposite where a negative changes the sign.

    Args:
        shape: of the tensor; axis 0 must be one of ``channels``.
        symmetry: as of :func:`symmetric`.
        channels: likewise.
        planes: likewise.

    Returns:
        (order, values / order) indices into the flat tensor; each column is one orbit, the second half of its rows the
        negatives.
    """
    images = [torch.arange(math.prod(shape)).reshape(tuple(shape))]
    _check(images[0], symmetry, channels)
    for turn in generators(symmetry, channels, planes):
        images += [turn(image) for image in images]
    if has_negatives(symmetry):
        images += [exchanged(image, channels) for image in images]
    return torch.stack([firsts(image, symmetry).flatten() for image in images])


def firsts(tensor: Tensor, symmetry: Symmetry) -> Tensor:
    """The channels, along axis 0, of which all others are images: the first of each thing in each group."""
    size = GROUP_SIZES[symmetry]
    groups: Tensor = tensor.unflatten(0, (-1, size))
    return groups[:, : size // ORDERS[symmetry]].flatten(0, 1)


def has_turns(symmetry: Symmetry) -> bool:
    """Whether quarter turns are treated alike."""
    return symmetry in ("turns", "turns-and-negatives")


def has_negatives(symmetry: Symmetry) -> bool:
    """Whether negatives are treated alike."""
    return symmetry in ("flips-and-negatives", "turns-and-negatives")


def orbit_of(table: Tensor) -> Tensor:
    """The orbit that each value of the flat tensor is in: the other way round of a ``table`` of :func:`orbits`."""
    orbit = torch.empty(table.numel(), dtype=torch.int64)
    orbit[table] = torch.arange(table.shape[1])
    return orbit


def _check(tensor: Tensor, symmetry: Symmetry, channels: Sequence[int]) -> None:
    """Channels come in whole groups."""
    size = GROUP_SIZES[symmetry]
    uneven = [tensor.shape[axis] for axis in channels if tensor.shape[axis] % size]
    if uneven:
        raise ValueError(f"channels come in groups of {size} for symmetry {symmetry}; got {uneven[0]}")


def turns(channels: Sequence[int], planes: Sequence[tuple[int, int]]) -> list[Callable[[Tensor], Tensor]]:
    """What generates all flips and quarter turns: flipped rows, flipped columns, a transposition.

    Each axis of channels becomes four: group, rows flipped, columns flipped, transposed. A flip of the picture flips
    the axis of that name; a transposition exchanges the flips and flips the last.
    """

    def moved(axis: int) -> int:
        return axis + 3 * sum(other < axis for other in channels)

    groups = [moved(axis) + 1 for axis in channels]
    places = [(moved(rows), moved(columns)) for rows, columns in planes]

    def grouped(tensor: Tensor) -> Tensor:
        for axis in sorted(channels, reverse=True):
            tensor = tensor.unflatten(axis, (-1, 2, 2, 2))
        return tensor

    def flip(tensor: Tensor, side: int) -> Tensor:
        axes = [*(axis + side for axis in groups), *(place[side] for place in places)]
        return grouped(tensor).flip(axes).reshape(tensor.shape)

    def transpose(tensor: Tensor) -> Tensor:
        turned = grouped(tensor)
        for first, second in [*((axis, axis + 1) for axis in groups), *places]:
            turned = turned.transpose(first, second)
        shape = list(tensor.shape)
        for rows, columns in planes:
            shape[rows], shape[columns] = shape[columns], shape[rows]
        return turned.flip([axis + 2 for axis in groups]).reshape(shape)

    return [partial(flip, side=0), partial(flip, side=1), transpose]


def generators(
    symmetry: Symmetry, channels: Sequence[int], planes: Sequence[tuple[int, int]]
) -> list[Callable[[Tensor], Tensor]]:
    """Those of :func:`turns` that belong to a symmetry."""
    return turns(channels, planes)[: None if has_turns(symmetry) else 2]


def _summed(tensor: Tensor, flips: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """The sum of ``tensor`` over all that ``flips`` make of it."""
    for flip in flips:
        tensor = tensor + flip(tensor)
    return tensor


def exchanged(tensor: Tensor, channels: Sequence[int]) -> Tensor:
    """``tensor`` with the halves of each group of 16 exchanged."""
    pairs = tensor
    for axis in sorted(channels, reverse=True):
        pairs = pairs.unflatten(axis, (-1, 2, 8))
    return pairs.flip([axis + 2 * sum(o < axis for o in channels) + 1 for axis in channels]).reshape(
        tensor.shape
    )


def opposites(tensor: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The first and the second halves of the groups of 16 channels along ``axis``: each other's negatives' channels."""
    first, second = tensor.unflatten(axis, (-1, 2, 8)).unbind(axis + 1)
    return first.flatten(axis, axis + 1), second.flatten(axis, axis + 1)


def from_opposites(first: Tensor, second: Tensor, axis: int) -> Tensor:
    """The channels along ``axis`` of which :func:`opposites` makes ``first`` and ``second``."""
    pairs = [half.unflatten(axis, (-1, 8)) for half in (first, second)]
    return torch.stack(pairs, axis + 1).flatten(axis, axis + 2)


def halves(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """What a kernel that keeps opposites does to their sums, and what it does to their differences.

    Args:
        kernel: (K, C, h, w), see :func:`keeps_opposites`.

    Returns:
        Two of (K / 2, C / 2, h, w).
    """
    (same, other), (other_back, same_back) = (opposites(rows, 1) for rows in opposites(kernel, 0))
    alike, unlike = (same + same_back) / 2, (other + other_back) / 2
    return alike + unlike, alike - unlike


def from_halves(sums: Tensor, differences: Tensor) -> Tensor:
    """The kernel of which :func:`halves` makes ``sums`` and ``differences``."""
    alike, unlike = (sums + differences) / 2, (sums - differences) / 2
    return from_opposites(from_opposites(alike, unlike, 1), from_opposites(unlike, alike, 1), 0)


def keeps_opposites(kernel: Tensor) -> bool:
    """Whether a kernel (K, C, h, w) between groups of 16 treats negatives alike, but for a training's roundings."""
    if any(channels % GROUP_SIZES["turns-and-negatives"] for channels in kernel.shape[:2]):
        return False
    difference = (kernel - exchanged(kernel, [0, 1])).abs().max()
    return bool(difference <= _ROUNDINGS * kernel.abs().max())
