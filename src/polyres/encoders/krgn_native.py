"""KRGN by native kernels: a fused network's features on a CPU, several times faster than by torch.

torch's grouped convolutions of two channels a group run at a tenth of the machine's speed, and each activation, sum
and concatenation passes over main memory again. Here a group of pairs is one pass, side paths are written where they
will be gathered, and the blocks' outputs are gathered as they are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.layers import native
from polyres.layers.contrast_attention import ContrastAttention
from polyres.layers.native import Chain, Dense, Kernels, bias_of
from polyres.layers.precision import without_autocast

if TYPE_CHECKING:
    from polyres.encoders.krgn import KRGN, Block, Group, Pair


def blocks_of(encoder: KRGN) -> list[Block]:
    """The blocks of ``encoder``."""
    return cast("list[Block]", list(encoder.blocks))


def groups_of(block: Block) -> list[Group]:
    """The groups of ``block``."""
    return cast("list[Group]", list(block.groups))


def pairs_of(group: Group) -> list[Pair]:
    """The pairs of ``group``."""
    return cast("list[Pair]", list(group))


def slopes_of(activation: nn.Module, channels: int) -> Tensor:
    """The slopes below zero, (channels,), of a PReLU that equals ``activation``."""
    if isinstance(activation, nn.PReLU):
        return activation.weight.detach().expand(channels)
    if isinstance(activation, nn.LeakyReLU):
        return torch.full((channels,), activation.negative_slope)
    return torch.full((channels,), 0.0 if isinstance(activation, nn.ReLU) else 1.0)


def branches_of(pair: Pair) -> tuple[native.Branch, native.Branch]:
    """What the kernels are told of a pair."""
    near, far = (
        native.Branch(branch.spatial, slopes_of(branch.activation, branch.spatial.out_channels))
        for branch in (pair.near, pair.far)
    )
    return near, far


def can_run(encoder: KRGN) -> bool:
    """Whether the kernels can compute all groups of ``encoder``."""
    groups = [group for block in blocks_of(encoder) for group in groups_of(block)]
    pairs = [pair for group in groups for pair in pairs_of(group)]
    return (
        all(len(group) <= native.MOST_PAIRS for group in groups)
        and all(branch.pointwise is None for pair in pairs for branch in (pair.near, pair.far))
        and all(branch.fits() for pair in pairs for branch in branches_of(pair))
    )


class NativeBlock:
    """A :class:`polyres.encoders.krgn.Block` that changes its input into its output.

    Args:
        kernels: that compute it.
        block: the block, folded.
    """

    def __init__(self, kernels: Kernels, block: Block) -> None:
        def side(conv: nn.Conv2d, activation: nn.Module) -> Dense:
            return Dense(kernels, conv.weight, bias_of(conv), float(slopes_of(activation, 1)))

        self.chains = [_chain(kernels, group) for group in groups_of(block)]
        convs = [*block.sides, block.last_side]
        self.sides = [side(conv, act) for conv, act in zip(convs, block.activations, strict=True)]
        self.narrow = block.last_side.out_channels
        # Sides are gathered from chunks of their own: lanes that none of them fills have no weight.
        chunk = kernels.chunks(self.narrow) * kernels.lanes
        weight = block.gather.weight.detach().unflatten(1, (len(convs), self.narrow))
        padded = F.pad(weight, (0, 0, 0, 0, 0, chunk - self.narrow)).flatten(1, 2)
        self.gather = Dense(kernels, padded, bias_of(block.gather), float(slopes_of(block.gathered, 1)))
        self.attention = block.attention
        self.channels = block.gather.out_channels

    def __call__(
        self, kernels: Kernels, features: Tensor, scratch: tuple[Tensor, Tensor], kept: Tensor
    ) -> None:
        """Change ``features``; ``scratch`` is like them, ``kept`` has room for all sides."""
        current, (free, other) = features, scratch
        places = kept.unflatten(1, (len(self.sides), -1)).unbind(1)
        for chain, side, place in zip(self.chains, self.sides, places, strict=False):
            side(kernels, current, place)
            chain(kernels, current, free)
            current, free, other = free, other, free
        self.sides[-1](kernels, current, places[-1])
        self.gather(kernels, kept, free)
        kernels.add_weighted(features, free, self._factors(kernels, free))

    def _factors(self, kernels: Kernels, gathered: Tensor) -> Tensor:
        """What each lane of what is gathered is multiplied by."""
        lanes = gathered.shape[1] * gathered.shape[4]
        if not isinstance(self.attention, ContrastAttention):
            return torch.ones(len(gathered), lanes, 1, 1)
        mean, variance = (values[:, : self.channels] for values in kernels.moments(gathered))
        with without_autocast(gathered):
            factors = self.attention.factors(mean, variance)
        return F.pad(factors, (0, 0, 0, 0, 0, lanes - self.channels))


def _chain(kernels: Kernels, group: Group) -> Chain:
    return Chain(kernels, [branches_of(pair) for pair in pairs_of(group)], skip=True)


class NativeKRGN(Encoder):
    """What a folded :class:`polyres.encoders.krgn.KRGN` computes, by native kernels, in float32 on a CPU.

    Weights are copied in the order of this machine's kernels; they are neither parameters nor saved.

    Args:
        encoder: for which :func:`can_run`.
        kernels: that compute it.
    """

    def __init__(self, encoder: KRGN, kernels: Kernels) -> None:
        super().__init__()
        self.in_channels, self.out_channels = encoder.in_channels, encoder.out_channels
        self.context = encoder.context
        self._head = Dense(kernels, encoder.head.weight, bias_of(encoder.head))
        self._blocks = [NativeBlock(kernels, block) for block in blocks_of(encoder)]
        parts = encoder.gather.weight.detach().split(encoder.out_channels, dim=1)
        bias = bias_of(encoder.gather)
        slopes = [1.0] * (len(parts) - 1) + [float(slopes_of(encoder.gathered, 1))]
        self._gather = [
            Dense(kernels, part, bias * (index == 0), slope)
            for index, (part, slope) in enumerate(zip(parts, slopes, strict=True))
        ]
        self._gather_head = encoder.gather_head
        self._tail = Dense(kernels, encoder.tail.weight, bias_of(encoder.tail))

    def forward(self, image: Tensor) -> Tensor:
        """Features (N, ``out_channels``, H, W), float32, channels last."""
        kernels = native.kernels()
        if kernels is None:
            raise RuntimeError(
                f"this network was made for native kernels, and there are none: {native.why_none()}"
            )
        images, _, height, width = image.shape
        size = (images, kernels.chunks(self.out_channels), height, width, kernels.lanes)
        shallow, total, free, other = (kernels.empty(*size) for _ in range(4))
        kept = kernels.empty(images, self._kept(kernels), *size[2:])
        self._head(kernels, kernels.blocked(image), shallow)
        current = kernels.empty(*size).copy_(shallow)
        outputs = 0
        if self._gather_head:
            self._gather[0](kernels, shallow, total)
            outputs = 1
        for block in self._blocks:
            block(kernels, current, (free, other), kept)
            self._gather[outputs](kernels, current, total, accumulate=outputs > 0)
            outputs += 1
        self._tail(kernels, total, current, add=shallow)
        return kernels.unblocked(current, self.out_channels)

    def _kept(self, kernels: Kernels) -> int:
        """Chunks of all sides of a block."""
        block = self._blocks[0]
        return len(block.sides) * kernels.chunks(block.narrow)
