"""Ways to run a generated convolution: equal results, different costs.

Dense: one strided convolution over the whole window of ``q + k - 1`` taps, most of which are zero for large ``q``.
Grouped: one small convolution for each set of phases that look at the same LR pixels, no zeros multiplied.
Symmetric: where kernels equal all their flips and turns (geometric folding) and ``q`` is 1, the pixels of each
orbit are summed first, and a 1x1 convolution with a third of the weights (for 3x3 kernels) does the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.layers.phases import PhaseConv, depth_to_space, spare
from polyres.scale import Scale, axis_taps

#: Multiplications per input channel and pixel that cutting out one group's part of the features costs as much as.
GROUP_OVERHEAD = 110

#: Output channels from which summing the orbits first pays; the sums cost the same however many there are.
SYMMETRIC_ROWS = 256


def cheapest(weight: Tensor, bias: Tensor | None, scale: Scale, symmetric: bool) -> nn.Module:
    """The form that is fastest for ``weight`` on a CPU; it maps (N, C, H, W) to the picture's rows.

    The two constants were measured with 64 channels on two cores of a CPU without bfloat16 units. They decide speed
    only, and the choice depends on nothing else, so that a model fuses to the same module everywhere.

    Args:
        weight: (R * py * px, C, qy + k - 1, qx + k - 1), as :func:`polyres.layers.phases.embed` lays it out.
        bias: (R * py * px,) or None.
        scale: where the phases lie.
        symmetric: whether every kernel equals its flips and turns.
    """
    rows, (qy, qx) = weight.shape[0], scale.period
    if symmetric and scale.is_integer and weight.shape[-2:] == (3, 3) and rows >= SYMMETRIC_ROWS:
        return SymmetricConv(weight, bias, scale)
    window = weight.shape[-2] * weight.shape[-1]
    kernel = (weight.shape[-2] - qy + 1) * (weight.shape[-1] - qx + 1)
    # per input channel and period of qy * qx pixels
    dense, grouped = rows * window, rows * kernel + GROUP_OVERHEAD * (qy * qx) ** 2
    return GroupedConv(weight, bias, scale) if grouped < dense else PhaseConv.of(weight, bias, scale)


class GroupedConv(nn.Module):
    """The strided convolution as one convolution for each group of phases with the same non-zero window."""

    def __init__(self, weight: Tensor, bias: Tensor | None, scale: Scale) -> None:
        super().__init__()
        self.scale, self.window = scale, (weight.shape[-2], weight.shape[-1])
        self.convs = nn.ModuleList()
        self.places: list[tuple[slice, slice]] = []
        order: list[Tensor] = []
        for channels, rows, columns in _groups(weight, scale):
            part = weight[channels][:, :, rows, columns]
            self.convs.append(plain_conv(part, None if bias is None else bias[channels], scale.period))
            self.places.append((rows, columns))
            order.append(channels)
        self.register_buffer("order", torch.argsort(torch.cat(order)), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, R, round(H * scale), round(W * scale))."""
        height, width = features.shape[-2:]
        (qy, qx), (py, px) = self.scale.period, self.scale.phases
        rows, columns = self.scale.output_size(height, width)
        periods = (rows + py - 1) // py, (columns + px - 1) // px + spare(width, qx) // qx
        margin = (self.window[0] - qy) // 2, (self.window[1] - qx) // 2
        below, right = periods[0] * qy - height + margin[0], periods[1] * qx - width + margin[1]
        padded = F.pad(features, (margin[1], right, margin[0], below))
        maps = []
        for conv, (down, across) in zip(self.convs, self.places, strict=True):
            bottom, end = (periods[0] - 1) * qy + down.stop, (periods[1] - 1) * qx + across.stop
            maps.append(conv(padded[..., down.start : bottom, across.start : end]))
        order: Tensor = self.get_buffer("order")
        joined = torch.cat(maps, dim=1).index_select(1, order)
        return depth_to_space(joined, (py, px))[..., :rows, :columns]


def _groups(weight: Tensor, scale: Scale) -> Iterator[tuple[Tensor, slice, slice]]:
    """(output channels, window rows, window columns) of phases whose kernels lie in the same place."""
    py, px = scale.phases
    places_y, places_x = (_places(weight, axis, count, scale) for axis, count in ((0, py), (1, px)))
    by_row = torch.arange(weight.shape[0], device=weight.device).reshape(-1, py, px)
    for (rows, a), (columns, b) in itertools.product(places_y.items(), places_x.items()):
        yield by_row[:, a][:, :, b].flatten(), slice(*rows), slice(*columns)


def _places(weight: Tensor, axis: int, count: int, scale: Scale) -> dict[tuple[int, int], list[int]]:
    """The phases of one axis by the part (start, stop) of the window that their taps cover."""
    factor = (scale.y, scale.x)[axis]
    size = weight.shape[-2 + axis] - factor.denominator + 1
    spans: dict[int, tuple[int, int]] = {}
    for tap in axis_taps(factor):
        start, stop = spans.get(tap.phase, (tap.offset, tap.offset + size))
        spans[tap.phase] = min(start, tap.offset), max(stop, tap.offset + size)
    places: dict[tuple[int, int], list[int]] = {}
    for phase in range(count):
        places.setdefault(spans[phase], []).append(phase)
    return places


class SymmetricConv(nn.Module):
    """Symmetric 3x3 kernels: sums of the 4 neighbours and of the 4 diagonals, then a 1x1 convolution."""

    def __init__(self, weight: Tensor, bias: Tensor | None, scale: Scale) -> None:
        super().__init__()
        self.scale = scale
        distinct = torch.cat((weight[..., 1:2, 1:2], weight[..., :1, 1:2], weight[..., :1, :1]), dim=1)
        self.conv = plain_conv(distinct, bias)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, R, round(H * scale), round(W * scale))."""
        padded = F.pad(features, (1, 1, 1, 1))
        vertical = padded[..., :-2, :] + padded[..., 2:, :]
        neighbours = vertical[..., 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
        diagonals = vertical[..., :-2] + vertical[..., 2:]
        maps = self.conv(torch.cat((features, neighbours, diagonals), dim=1))
        return depth_to_space(maps, self.scale.phases)


def plain_conv(weight: Tensor, bias: Tensor | None, stride: tuple[int, int] = (1, 1)) -> nn.Conv2d:
    """A convolution without padding that holds copies of ``weight`` (O, C, h, w) and ``bias``."""
    rows, channels, height, width = weight.shape
    conv = nn.Conv2d(channels, rows, (height, width), stride=stride, bias=bias is not None).to(weight)
    conv.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone())
    return conv
