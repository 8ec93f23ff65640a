"""EDSR: residual blocks without normalisation (Lim et al., "Enhanced Deep Residual Networks", 2017)."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.layers.blocks import ZeroSumConv2d, conv1x1, conv3x3
from polyres.layers.equivariance import (
    from_halves,
    from_opposites,
    halves,
    keeps_opposites,
    opposites,
)
from polyres.layers.native import convolve, residual
from polyres.layers.pixel_attention import PixelAttention


def _keeps_opposites(conv: nn.Conv2d) -> bool:
    """Whether a convolution's kernels and its bias do."""
    if not keeps_opposites(conv.weight.detach()):
        return False
    return conv.bias is None or torch.allclose(*opposites(conv.bias.detach(), 0), rtol=1e-4, atol=1e-6)


class ResidualBlock(nn.Module):
    """``x + residual_scale * conv(attention(relu(conv(x))))``, (N, C, H, W) to the same shape.

    Args:
        channels: of the features.
        residual_scale: factor on what is added.
        expansion: how many times as many channels there are between the convolutions.
        bias: whether the convolutions have one.
        attention: whether what is between the convolutions is weighted (:class:`PixelAttention`).
    """

    def __init__(
        self,
        channels: int,
        residual_scale: float = 1.0,
        expansion: int = 1,
        bias: bool = True,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.conv1 = conv3x3(channels, expansion * channels, bias=bias)
        self.attention = PixelAttention(expansion * channels) if attention else None
        self.conv2 = conv3x3(expansion * channels, channels, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """The block's output."""
        if self.residual_scale == 1:
            return residual(self.conv1, self.conv2, features, self.attention)
        hidden = convolve(self.conv1, features, slope=0)
        if self.attention is not None:
            hidden = self.attention(hidden)
        return convolve(self.conv2, hidden).mul_(self.residual_scale).add_(features)


def _merged(first: nn.Module, second: nn.Module) -> nn.Module:
    """A block with the even hidden channels of one and the odd ones of another.

    If both do much the same, so does it. Where they are kept to turns, it is kept to flips alone, by what one knows and
    the other does not: odd channels are the transposed ones (:mod:`polyres.layers.equivariance`).
    """
    made = copy.deepcopy(first)
    ours, theirs = dict(made.named_parameters()), dict(second.named_parameters())
    with torch.no_grad():
        for name in ours.keys() & theirs.keys() & {"conv1.weight", "conv1.bias", "attention.mix.weight"}:
            ours[name][1::2] = theirs[name][1::2]
        ours["conv2.weight"][:, 1::2] = theirs["conv2.weight"][:, 1::2]
        if "conv2.bias" in ours:
            ours["conv2.bias"].add_(theirs["conv2.bias"]).div_(2)
    return made


class HalvedBlocks(nn.Module):
    """Residual blocks whose kernels treat negatives alike, with half of their weights and multiplications.

    Of such features, sums of opposites depend on sums alone and differences on differences, but for the ReLU between
    the convolutions. A CPU's native kernels leave the rest out by themselves and are faster with whole blocks.

    Args:
        blocks: which keep opposites; left as they are.
    """

    def __init__(self, blocks: Iterable[ResidualBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_HalvedBlock(block) for block in blocks)

    def whole(self) -> nn.Sequential:
        """The blocks that these were made of, but for rounding."""
        return nn.Sequential(*(block.whole() for block in self.blocks if isinstance(block, _HalvedBlock)))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        first, second = opposites(features, 1)
        sums, differences = first + second, first - second
        for block in self.blocks:
            sums, differences = block(sums, differences)
        return from_opposites((sums + differences) / 2, (sums - differences) / 2, 1)


class _HalvedBlock(nn.Module):
    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        # Opposites are half of the sum of their sum and their difference.
        self.sums1, self.differences1 = _halved(block.conv1, 0.5)
        self.sums2, self.differences2 = _halved(block.conv2, block.residual_scale)
        self.attention = None if block.attention is None else _HalvedAttention(block.attention)

    def whole(self) -> ResidualBlock:
        block = ResidualBlock(1, bias=self.sums1.bias is not None)
        block.attention = None if self.attention is None else self.attention.whole()
        block.conv1 = _whole(self.sums1, self.differences1, 0.5)
        block.conv2 = _whole(self.sums2, self.differences2, 1)
        return block

    def forward(self, sums: Tensor, differences: Tensor) -> tuple[Tensor, Tensor]:
        inner_sums, inner_differences = self.sums1(sums), self.differences1(differences)
        first, second = torch.relu(inner_sums + inner_differences), torch.relu(inner_sums - inner_differences)
        if self.attention is not None:
            first, second = self.attention(first, second)
        return sums + self.sums2(first + second), differences + self.differences2(first - second)


class _HalvedAttention(nn.Module):
    """Pixel attention to opposites, as sums and differences are mixed."""

    def __init__(self, attention: PixelAttention) -> None:
        super().__init__()
        self.least = attention.least
        self.sums, self.differences = _halved(attention.mix, 0.5)

    def whole(self) -> PixelAttention:
        attention = PixelAttention(1)
        attention.mix = _whole(self.sums, self.differences, 0.5)
        return attention

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        both = first + second
        sums, differences = self.sums(both), self.differences(first - second)
        level = both.mean(1, keepdim=True) / 2 + self.least
        of_first, of_second = (sums + differences) / level, (sums - differences) / level
        return first * torch.relu(1 + of_first), second * torch.relu(1 + of_second)


def _halved(conv: nn.Conv2d, factor: float) -> tuple[nn.Conv2d, nn.Conv2d]:
    """``factor`` times ``conv`` as it is for sums and for differences of opposites; a bias is for sums alone."""
    made: list[nn.Conv2d] = []
    for weight in halves(conv.weight.detach() * factor):
        half = _like(conv, weight, bias=conv.bias is not None and not made)
        half.weight = nn.Parameter(weight, requires_grad=False)
        made.append(half)
    if conv.bias is not None:
        first, second = opposites(conv.bias.detach() * factor, 0)
        made[0].bias = nn.Parameter(first + second, requires_grad=False)
    return made[0], made[1]


def _like(conv: nn.Conv2d, weight: Tensor, bias: bool) -> nn.Conv2d:
    """A convolution with the kernel size and padding of ``conv``, for a weight such as ``weight``."""
    make = conv1x1 if conv.kernel_size == (1, 1) else conv3x3
    return make(weight.shape[1], weight.shape[0], bias=bias).to(weight)


def _whole(sums: nn.Conv2d, differences: nn.Conv2d, factor: float) -> nn.Conv2d:
    """The convolution of which :func:`_halved` made these by ``factor``."""
    weight = from_halves(sums.weight / factor, differences.weight / factor)
    conv = _like(sums, weight, bias=sums.bias is not None)
    conv.weight = nn.Parameter(weight, requires_grad=False)
    if sums.bias is not None:
        bias = sums.bias / (2 * factor)
        conv.bias = nn.Parameter(from_opposites(bias, bias, 0), requires_grad=False)
    return conv


def _context(blocks: int) -> int:
    """One pixel for each 3x3 convolution, of the head and the tail too."""
    return 2 + 2 * blocks


class EDSR(Encoder):
    """A head, a chain of residual blocks, a closing convolution and a long skip.

    Args:
        channels: width of the features (64 baseline, 256 large).
        blocks: residual blocks (16 baseline, 32 large).
        residual_scale: factor on each residual (0.1 keeps the large network stable).
        in_channels: channels of the picture.
        centre: subtracted from the picture; 0.5 makes zeros beyond its edges grey, and its negative the opposite.
        expansion: channels within a residual block, as a multiple of ``channels`` (wide activation: Yu et al., "Wide
            activation for efficient and accurate image super-resolution", 2018).
        normalisation_equivariant: features of ``a * picture + b`` are ``a`` times those of the picture, for every
            ``a`` of at least 0 and every ``b`` of a channel: the first kernels sum to zero, nothing has a bias
            (Herbreteau et al., "Normalization-equivariant neural networks", arXiv 2306.05037). With an upsampler that
            adds to a fixed base, a brighter or flatter picture gives the brighter or flatter result. No ``centre``
            matters then.
        attention_every: of so many blocks the last weighs its channels (:class:`PixelAttention`); 0 for none.

    Raises:
        ValueError: a centre for an encoder that sees differences alone.
    """

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 16,
        residual_scale: float = 1.0,
        in_channels: int = 3,
        centre: float = 0.0,
        expansion: int = 1,
        normalisation_equivariant: bool = False,
        attention_every: int = 0,
    ) -> None:
        super().__init__()
        if attention_every < 0:
            raise ValueError(f"attention_every is 0, for none, or a number of blocks; got {attention_every}")
        if normalisation_equivariant and centre:
            raise ValueError(
                f"centre has no effect with normalisation_equivariant; got {centre}. Leave it out"
            )
        self.centre = None if normalisation_equivariant else centre
        self.in_channels, self.out_channels = in_channels, channels
        self.context = _context(blocks)
        bias = not normalisation_equivariant
        self.head = (
            conv3x3(in_channels, channels) if bias else ZeroSumConv2d(in_channels, channels, bias=False)
        )
        self.body: nn.Sequential | HalvedBlocks = nn.Sequential(
            *(
                ResidualBlock(
                    channels,
                    residual_scale,
                    expansion,
                    bias,
                    attention_every > 0 and (block + 1) % attention_every == 0,
                )
                for block in range(blocks)
            )
        )
        self.tail = conv3x3(channels, channels, bias=bias)

    def deepen(self, shallower: EDSR) -> set[str]:
        """Have the blocks that ``shallower`` lacks add nothing: with its weights in all others, both compute the same.

        Returns:
            The names of those blocks' weights.
        """
        new = list(self.body.named_children())[len(list(shallower.body.children())) :]
        for _, block in new:
            for parameter in block.get_submodule("conv2").parameters():
                nn.init.zeros_(parameter)
        return {f"body.{name}.{key}" for name, block in new for key in block.state_dict()}

    def with_blocks(self, places: Sequence[int | tuple[int, int]]) -> EDSR:
        """A copy whose chain is these blocks of this one's, by their places from 0; pairs are one by :func:`_merged`.

        Single blocks change little of what a trained network's next ones see: a short training makes up for blocks that
        are left out, and one that comes n times, each adding the nth part, does nearly what it did, with more weights
        to learn on with (Chang et al., "Multi-level residual networks from dynamical systems view", arXiv 1710.10348).
        """
        was, times = list(self.body.children()), Counter(places)
        chain = [
            copy.deepcopy(was[place]) if isinstance(place, int) else _merged(*(was[part] for part in place))
            for place in places
        ]
        for place, block in zip(places, chain, strict=True):
            for parameter in block.get_submodule("conv2").parameters():
                parameter.detach().div_(times[place])
        made = self._with_body(nn.Sequential(*chain))
        made.context = _context(len(chain))
        return made

    def halved(self) -> EDSR:
        """See :meth:`Encoder.halved`; for what was trained to treat negatives alike."""
        blocks = [block for block in self.body.children() if isinstance(block, ResidualBlock)]
        convs = [conv for block in blocks for conv in block.modules() if isinstance(conv, nn.Conv2d)]
        if not convs or not all(map(_keeps_opposites, convs)):
            return self
        return self._with_body(HalvedBlocks(blocks))

    def whole(self) -> EDSR:
        """See :meth:`Encoder.whole`."""
        return self._with_body(self.body.whole()) if isinstance(self.body, HalvedBlocks) else self

    def _with_body(self, body: nn.Sequential | HalvedBlocks) -> EDSR:
        """A copy with other blocks, whose head and tail are this one's."""
        made = copy.copy(self)
        made._modules = {**self._modules, "body": body}
        return made

    def forward(self, image: Tensor) -> Tensor:
        """Features (N, ``channels``, H, W)."""
        shallow = self.head(image - self.centre if self.centre else image)
        return convolve(self.tail, self.body(shallow), add=shallow)
