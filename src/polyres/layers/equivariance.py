"""Kernels that treat a picture, its flips and quarter turns, and its negative alike.

A channel of such features is one of a group that look for the same thing: in eight orientations, and dark on light as
light on dark. Where the picture is turned, the channels of a group turn and change places. A kernel between such
channels has as many times fewer free values as a group has channels, and is applied as any other.

T. Cohen, M. Welling, "Group equivariant convolutional networks", arXiv 1602.07576 (p4m, the group of flips and turns).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

#: What is treated alike: flips and quarter turns, or these and the negative.
Symmetry = Literal["turns", "turns-and-negatives"]

#: Channels in a group. Channels 8i to 8i + 7 are one thing turned; of 16, the second half is the first's negative.
GROUP_SIZES: dict[Symmetry, int] = {"turns": 8, "turns-and-negatives": 16}


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
            the axes have those of the swapped scale for their other half.

    Raises:
        ValueError: channels that do not come in whole groups.
    """
    size = GROUP_SIZES[symmetry]
    uneven = [tensor.shape[axis] for axis in channels if tensor.shape[axis] % size]
    if uneven:
        raise ValueError(f"channels come in groups of {size} for symmetry {symmetry}; got {uneven[0]}")
    total = _over_turns(tensor, channels, planes, tensor if transposed is None else transposed)
    if symmetry == "turns-and-negatives":
        negative = _exchanged(total, channels)
        total = total - negative if changes_sign else total + negative
    return total / size


@torch.no_grad()
def symmetrise_(tensor: Tensor, mean: Tensor) -> None:
    """Replace a random ``tensor`` by its :func:`symmetric` ``mean``, in place, with the norm that it had."""
    tensor.copy_(mean * (tensor.norm() / mean.norm().clamp(min=torch.finfo(mean.dtype).tiny)))


def _over_turns(
    tensor: Tensor, channels: Sequence[int], planes: Sequence[tuple[int, int]], transposed: Tensor
) -> Tensor:
    """The sum over flips and quarter turns.

    Each axis of channels becomes four: group, rows flipped, columns flipped, transposed. A flip of the picture flips
    the axis of that name; a transposition exchanges the flips and flips the last.
    """

    def moved(axis: int) -> int:
        return axis + 3 * sum(other < axis for other in channels)

    groups = [moved(axis) + 1 for axis in channels]
    places = [(moved(rows), moved(columns)) for rows, columns in planes]

    def over_flips(part: Tensor) -> Tensor:
        for axis in sorted(channels, reverse=True):
            part = part.unflatten(axis, (-1, 2, 2, 2))
        part = part + part.flip([*groups, *(rows for rows, _ in places)])
        return part + part.flip([*(axis + 1 for axis in groups), *(columns for _, columns in places)])

    upright = over_flips(tensor)
    other = upright if transposed is tensor else over_flips(transposed)
    for first, second in [*((axis, axis + 1) for axis in groups), *places]:
        other = other.transpose(first, second)
    return (upright + other.flip([axis + 2 for axis in groups])).reshape(tensor.shape)


def _exchanged(tensor: Tensor, channels: Sequence[int]) -> Tensor:
    """``tensor`` with the halves of each group of 16 exchanged."""
    pairs = tensor
    for axis in sorted(channels, reverse=True):
        pairs = pairs.unflatten(axis, (-1, 2, 8))
    return pairs.flip([axis + 2 * sum(o < axis for o in channels) + 1 for axis in channels]).reshape(
        tensor.shape
    )
