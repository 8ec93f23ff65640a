"""Weights in the order in which the kernels read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.layers.native.binding import Kernels, Layer

#: Pairs of a chain, and taps per axis of a dense convolution, at most.
MOST_PAIRS, LARGEST = 16, 9


@dataclass(frozen=True)
class Branch:
    """A grouped convolution and its activation.

    Attributes:
        conv: 3x3, of as many outputs as inputs, padded by its dilation, and of one or two channels a group.
        slopes: of its PReLU, one a channel: 1 for no activation, 0 for ReLU.
    """

    conv: nn.Conv2d
    slopes: Tensor

    def fits(self) -> bool:
        """Whether the kernels can compute this."""
        conv = self.conv
        dilation = conv.dilation[0]
        same = conv.dilation == conv.padding == (dilation, dilation) and conv.stride == (1, 1)
        square = conv.kernel_size == (3, 3) and conv.in_channels == conv.out_channels
        return square and same and conv.padding_mode == "zeros" and conv.weight.shape[1] <= 2

    def packed(self, lanes: int) -> Tensor:
        """(chunks, 21, lanes): for each tap a lane's weights in its own output and in the group's other one; the
        bias; the factors of the value and of its magnitude that make a PReLU."""
        weight = self.conv.weight.detach().float()
        own = weight[:, :1].clone()
        other = torch.zeros_like(own)
        if weight.shape[1] == 2:
            own[1::2], other[0::2], other[1::2] = weight[1::2, 1:], weight[1::2, :1], weight[0::2, 1:]
        taps = torch.stack([own.flatten(1), other.flatten(1)], dim=2).flatten(1)
        slopes = self.slopes.detach().float()[:, None]
        rows = torch.cat([taps, bias_of(self.conv)[:, None], (1 + slopes) / 2, (1 - slopes) / 2], dim=1)
        padded = F.pad(rows, (0, 0, 0, -len(rows) % lanes))
        chunks: Tensor = padded.unflatten(0, (-1, lanes))
        return chunks.transpose(1, 2)


class Chain:
    """Pairs of branches whose outputs are added, one pair after another, and the input added at the end.

    Args:
        kernels: that compute it.
        pairs: near and far branch of each.
        skip: whether the input is added at the end.
    """

    def __init__(self, kernels: Kernels, pairs: Sequence[tuple[Branch, Branch]], skip: bool) -> None:
        self.dilations = [branch.conv.dilation[0] for pair in pairs for branch in pair]
        packed = [torch.cat([branch.packed(kernels.lanes) for branch in pair], dim=1) for pair in pairs]
        self.weights = torch.stack(packed, dim=1).contiguous()
        self.skip = skip

    def __call__(self, kernels: Kernels, features: Tensor, out: Tensor) -> None:
        """From one contiguous blocked tensor into another."""
        kernels.pairs(features, out, self.dilations, self.weights, self.skip)


class Dense:
    """A dense convolution and a LeakyReLU.

    Args:
        kernels: that compute it.
        weight: (out, in, size, size), odd.
        bias: (out,).
        slope: of the LeakyReLU; 1 for none.
    """

    def __init__(self, kernels: Kernels, weight: Tensor, bias: Tensor, slope: float = 1.0) -> None:
        self.channels, self.size, self.slope = weight.shape[1], weight.shape[2], slope
        self.chunks = kernels.chunks(len(weight))
        block, lanes = kernels.vectors * kernels.lanes, kernels.lanes
        missing = -len(weight) % block
        padded = (
            F.pad(weight.detach().float(), (0, 0) * 3 + (0, missing)).unflatten(0, (-1, block)).flatten(3)
        )
        # Chunk by chunk of the input: tap, lane, output.
        parts = [part.permute(0, 3, 2, 1).flatten(1) for part in padded.split(lanes, dim=2)]
        self.weights = torch.cat(parts, dim=1).contiguous()
        self.bias = F.pad(bias.detach().float(), (0, missing)).contiguous()

    def __call__(
        self,
        kernels: Kernels,
        features: Tensor,
        out: Tensor,
        *,
        add: Tensor | None = None,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`polyres.layers.native.binding.Kernels.convolution`."""
        kernels.convolution(features, out, self.layer(), add, accumulate)

    def layer(self) -> Layer:
        """What the kernels are told; it holds only as long as this object does."""
        weights, bias = self.weights.data_ptr(), self.bias.data_ptr()
        return Layer(weights, bias, self.channels, self.chunks, self.size, self.slope)


def bias_of(conv: nn.Conv2d) -> Tensor:
    """The bias of ``conv``; zeros if it has none."""
    return (
        conv.weight.new_zeros(len(conv.weight)).float() if conv.bias is None else conv.bias.detach().float()
    )
