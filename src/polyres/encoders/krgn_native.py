"""KRGN by native kernels: a fused network's features on a CPU, several times faster than by torch.

torch's grouped convolutions of two channels a group run at a tenth of the machine's speed, and each activation, sum
and concatenation passes over main memory again. Here a group of pairs is one pass; so is the end of a block, whose side
paths never reach main memory; and blocks' outputs are gathered as they are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.errors import UsageError
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
    """A :class:`polyres.encoders.krgn.Block` but for its last sum.

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
        narrow = block.last_side.out_channels
        # Sides are gathered from chunks of their own: lanes that none of them fills have no weight.
        chunk = kernels.chunks(narrow) * kernels.lanes
        weight = block.gather.weight.detach().unflatten(1, (len(convs), narrow))
        padded = F.pad(weight, (0, 0, 0, 0, 0, chunk - narrow)).flatten(1, 2)
        self.gather = Dense(kernels, padded, bias_of(block.gather), float(slopes_of(block.gathered, 1)))
        self.attention = block.attention
        self.channels = block.gather.out_channels

    def __call__(
        self, kernels: Kernels, features: Tensor, scratch: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """What is gathered from ``features``, in one of ``scratch``, and the factors it is weighted by.

        Args:
            kernels: that compute it.
            features: what goes into the block.
            scratch: as many as there are groups, and two at least, like ``features``.
        """
        stages = [features, *scratch[: len(self.chains)]]
        for chain, before, after in zip(self.chains, stages[:-1], stages[1:], strict=True):
            chain(kernels, before, after)
        # Of each pixel the sides are made before what they give is written: only the last looks around.
        gathered = scratch[0] if len(self.chains) > 1 else scratch[1]
        sides = [side.layer() for side in self.sides]
        mean, variance = kernels.end_of_block(stages, sides, self.gather.layer(), gathered)
        return gathered, self._factors(gathered, mean, variance)

    def _factors(self, gathered: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """What each lane of ``gathered`` is multiplied by."""
        if not isinstance(self.attention, ContrastAttention):
            return torch.ones_like(mean)
        with without_autocast(gathered):
            factors = self.attention.factors(mean[:, : self.channels], variance[:, : self.channels])
        return F.pad(factors, (0, 0, 0, 0, 0, mean.shape[1] - self.channels))


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
        if image.device.type != "cpu":
            raise UsageError(
                f"native kernels run on a CPU; the image is on {image.device}: use the fused network there"
            )
        images, _, height, width = image.shape
        size = (images, kernels.chunks(self.out_channels), height, width, kernels.lanes)
        shallow, total, *scratch = (kernels.empty(*size) for _ in range(self._room))
        self._head(kernels, kernels.blocked(image), shallow)
        current = kernels.empty(*size).copy_(shallow)
        if self._gather_head:
            self._gather[0](kernels, shallow, total)
        for index, (block, part) in enumerate(
            zip(self._blocks, self._gather[self._gather_head :], strict=True)
        ):
            gathered, factors = block(kernels, current, scratch)
            accumulate = index > 0 or self._gather_head
            kernels.add_block(current, gathered, factors, part.layer(), total, accumulate)
        self._tail(kernels, total, current, add=shallow)
        return kernels.unblocked(current, self.out_channels)

    @property
    def _room(self) -> int:
        """The head's features, what is gathered, and what the blocks need beside their input."""
        return 2 + max(2, *(len(block.chains) for block in self._blocks))
