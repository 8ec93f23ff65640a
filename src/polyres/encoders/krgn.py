"""KRGN: pairs of small grouped convolutions, near and far, whose kernels are recalibrated in training.

"Towards lightweight image super-resolution via re-parameterized kernel recalibration". The graph is that of
KRGN's repository, which is CFGN's (github.com/yamengxi/CFGN-PyTorch), with the recalibration that its code leaves
out. What its figure draws otherwise is an option.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.encoders.krgn_native import NativeKRGN, can_run
from polyres.layers.blocks import conv1x1, conv3x3
from polyres.layers.contrast_attention import ContrastAttention
from polyres.layers.native import Kernels
from polyres.layers.recalibration import Layout, recalibrate
from polyres.registry import Entry

#: Slope below zero of every LeakyReLU, and of every PReLU at first.
SLOPE = 0.05

#: ``"prelu"`` learns a slope for each channel in branches, one for all in side paths.
Activation = Literal["leaky", "prelu", "relu", "none"]


def activation(kind: Activation, channels: int = 1) -> nn.Module:
    """The module that ``kind`` means; ``channels`` slopes if they are learned."""
    if kind == "leaky":
        return nn.LeakyReLU(SLOPE)
    if kind == "prelu":
        return nn.PReLU(channels, init=SLOPE)
    if kind not in get_args(Activation):
        raise ValueError(f"an activation is one of {', '.join(get_args(Activation))}; got {kind!r}")
    return nn.ReLU() if kind == "relu" else nn.Identity()


class Branch(nn.Module):
    """A grouped 3x3 convolution, a grouped 1x1 one if asked for, an activation; (N, C, H, W) to the same shape.

    Args:
        channels: of the features.
        groups: of the 3x3 convolution.
        dilation: of the 3x3 convolution.
        pointwise_groups: of the 1x1 convolution; 0 for none.
        kind: of the activation.
    """

    def __init__(
        self, channels: int, groups: int, dilation: int, pointwise_groups: int, kind: Activation
    ) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=groups)
        self.pointwise = conv1x1(channels, channels, groups=pointwise_groups) if pointwise_groups else None
        self.activation = activation(kind, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The branch's output."""
        features = self.spatial(features)
        output: Tensor = self.activation(features if self.pointwise is None else self.pointwise(features))
        return output


class Pair(nn.Module):
    """What a near and a dilated branch see, added (the paper's CFFB); (N, C, H, W) to the same shape."""

    def __init__(
        self, channels: int, groups: int, dilation: int, pointwise_groups: int, kind: Activation
    ) -> None:
        super().__init__()
        self.near = Branch(channels, groups, 1, pointwise_groups, kind)
        self.far = Branch(channels, groups, dilation, pointwise_groups, kind)

    def forward(self, features: Tensor) -> Tensor:
        """The pair's output."""
        output: Tensor = self.near(features) + self.far(features)
        return output


class Group(nn.Sequential):
    """Pairs one after another and a skip (the paper's RCG); (N, C, H, W) to the same shape."""

    def forward(self, features: Tensor) -> Tensor:
        """The group's output."""
        current = features
        for pair in self:
            current = pair(current)
        return current + features


class Block(nn.Module):
    """Groups one after another, what goes into each and comes out of the last gathered (the paper's PMRB).

    Args:
        channels: of the features; (N, C, H, W) to the same shape.
        groups: modules of that shape.
        side: activation of the side paths.
        attention: what weighs the channels at the end, or None.
    """

    def __init__(
        self, channels: int, groups: list[Group], side: Activation, attention: nn.Module | None
    ) -> None:
        super().__init__()
        narrow = channels // 2
        self.groups = nn.ModuleList(groups)
        self.sides = nn.ModuleList(conv1x1(channels, narrow) for _ in groups)
        self.last_side = conv3x3(channels, narrow)
        self.activations = nn.ModuleList(activation(side) for _ in range(len(groups) + 1))
        self.gather = conv1x1(narrow * (len(groups) + 1), channels)
        self.gathered = activation("leaky")
        self.attention = attention

    def forward(self, features: Tensor) -> Tensor:
        """The block's output."""
        current, kept = features, []
        for group, side, act in zip(self.groups, self.sides, self.activations[:-1], strict=True):
            kept.append(act(side(current)))
            current = group(current)
        kept.append(self.activations[-1](self.last_side(current)))
        gathered = self.gathered(self.gather(torch.cat(kept, dim=1)))
        output: Tensor = features + (gathered if self.attention is None else self.attention(gathered))
        return output


class KRGN(Encoder):
    """A head, blocks of groups of pairs, all that they make gathered, and a long skip.

    Args:
        channels: width of the features, even.
        blocks: PMRBs.
        groups_per_block: RCGs in each.
        pairs_per_group: CFFBs in each.
        groups: of the 3x3 convolutions of the pairs; ``channels`` for depthwise ones.
        dilation: of the far one of each pair.
        pointwise_groups: of a 1x1 convolution that follows each; 0 for none.
        branch_activation: of each.
        side_activation: of the side paths of the blocks.
        attention: whether contrast-aware channel attention closes each block.
        reduction: factor by which its inner layer is narrower.
        gather_head: whether the head's features are gathered too.
        recalibration: whether the kernels of the pairs are recalibrated in training, and how: see
            :class:`polyres.layers.KernelRecalibration`. Nothing is left of it in a fused network.
        recalibration_kernel_size: taps per axis over which kernels are mixed, odd.
        freeze_basis: train only how kernels are mixed; for weights that are trained already.
        in_channels: channels of the picture.
    """

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 9,
        groups_per_block: int = 3,
        pairs_per_group: int = 3,
        groups: int = 32,
        dilation: int = 3,
        pointwise_groups: int = 0,
        branch_activation: Activation = "prelu",
        side_activation: Activation = "leaky",
        attention: bool = True,
        reduction: int = 8,
        gather_head: bool = True,
        recalibration: Layout | Literal["none"] = "contiguous",
        recalibration_kernel_size: int = 3,
        freeze_basis: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if channels % 2 or min(blocks, groups_per_block, pairs_per_group) < 1:
            raise ValueError(
                f"channels must be even, and there must be a block, group and pair at least; got {channels}, "
                f"{blocks}, {groups_per_block} and {pairs_per_group}"
            )

        def block() -> Block:
            branch = (channels, groups, dilation, pointwise_groups, branch_activation)
            inner = [Group(*(Pair(*branch) for _ in range(pairs_per_group))) for _ in range(groups_per_block)]
            closing = ContrastAttention(channels, reduction, SLOPE) if attention else None
            return Block(channels, inner, side_activation, closing)

        self.in_channels, self.out_channels = in_channels, channels
        self.gather_head = gather_head
        self.head = conv3x3(in_channels, channels)
        self.blocks = nn.ModuleList(block() for _ in range(blocks))
        self.gather = conv1x1(channels * (blocks + gather_head), channels)
        self.gathered = activation("leaky")
        self.tail = conv3x3(channels, channels)
        # The side path of a block looks one pixel further than its groups.
        reach = blocks * (groups_per_block * pairs_per_group * max(dilation, 1) + 1)
        self.context = None if attention else reach + 2
        if recalibration != "none":
            spatial = {part.spatial for part in self.modules() if isinstance(part, Branch)}
            recalibrate(
                self, lambda _, part: part in spatial, recalibration, recalibration_kernel_size, freeze_basis
            )

    def forward(self, image: Tensor) -> Tensor:
        """Features (N, ``channels``, H, W)."""
        current = shallow = self.head(image)
        kept = [shallow] if self.gather_head else []
        for block in self.blocks:
            current = block(current)
            kept.append(current)
        features: Tensor = self.tail(self.gathered(self.gather(torch.cat(kept, dim=1)))) + shallow
        return features

    @property
    def has_native_form(self) -> bool:
        """Whether :meth:`accelerated` can compute the pairs: no 1x1, at most two channels a group."""
        return can_run(self)

    def accelerated(self, kernels: Kernels) -> Encoder:
        """A new encoder that equals this one in eval mode, by ``kernels``."""
        return NativeKRGN(self, kernels)


_SOURCE = "Towards lightweight image super-resolution via re-parameterized kernel recalibration, 2024"
_TINY = {"channels": 8, "blocks": 1, "groups_per_block": 1, "pairs_per_group": 2, "groups": 4}

ENTRIES: list[Entry[Encoder]] = [
    Entry(
        "krgn",
        KRGN,
        summary="pairs of recalibrated grouped convolutions, as released",
        source=_SOURCE,
        licence="NOASSERTION",
        tiny=_TINY,
    ),
    Entry(
        "krgn-figure",
        KRGN,
        summary="KRGN as its figure draws it: depthwise convolutions, each followed by a grouped 1x1",
        source=_SOURCE,
        licence="NOASSERTION",
        options={
            "groups": 64,
            "dilation": 2,
            "pointwise_groups": 8,
            "branch_activation": "leaky",
        },
        tiny={**_TINY, "groups": 8, "pointwise_groups": 2},
    ),
    Entry(
        "krgn-noattention",
        KRGN,
        summary="KRGN without channel attention: tiles come out exactly",
        source=_SOURCE,
        licence="NOASSERTION",
        options={"attention": False},
        tiny=_TINY,
    ),
]
