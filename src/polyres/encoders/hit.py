"""HiT-SR: transformers whose windows grow from block to block (Zhang et al. 2024, arXiv 2407.05878)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.encoders.grouped import GroupedEncoder, check_groups
from polyres.layers.blocks import conv1x1, conv3x3
from polyres.layers.correlation import Correlation
from polyres.layers.drop_path import DropPath, rising_rates
from polyres.layers.groups import Closing, ResidualGroup, to_first, to_last
from polyres.layers.mlp import ConvMlp, Mlp
from polyres.layers.ngram import NeighbourContext
from polyres.layers.padding import extend
from polyres.layers.windows import Size
from polyres.registry import Entry


class DualExtraction(nn.Module):
    """A convolutional bottleneck times a linear map of each pixel; (N, H, W, C) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = channels // 5
        self.bottleneck = nn.Sequential(
            conv1x1(channels, narrow),
            nn.LeakyReLU(0.2),
            conv3x3(narrow, narrow),
            nn.LeakyReLU(0.2),
            conv1x1(narrow, channels),
        )
        self.gate = conv1x1(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The extracted features."""
        first = to_first(features)
        return to_last(self.bottleneck(first) * self.gate(first))


class HiTBlock(nn.Module):
    """Correlation in windows, then a pointwise network, each normalised before it is added to what came in.

    Args:
        channels: a multiple of ``2 * heads``.
        heads: of the correlation.
        window: height and width of the windows; features of other sizes are mirrored to multiples inside.
        cells: largest number of cells that the values of a window are pooled to, per axis.
        mlp_ratio: inner width of the pointwise network, as a multiple of ``channels``.
        mlp_kernel_size: side of its depthwise convolution; 0 for none.
        neighbours: whether windows see a summary of their neighbours first.
        drop_path: probability of leaving out a branch in training.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: Size,
        cells: Size,
        mlp_ratio: float,
        mlp_kernel_size: int,
        neighbours: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        # A window needs a neighbour on each axis to have its context from.
        self.step = (window[0] * 2, window[1] * 2) if neighbours else window
        self.extract = DualExtraction(channels)
        self.neighbours = NeighbourContext(channels, heads, window) if neighbours else nn.Identity()
        self.correlate = Correlation(channels, heads, window, cells)
        self.norm1 = nn.LayerNorm(channels)
        hidden = int(channels * mlp_ratio)
        self.mlp = ConvMlp(channels, hidden, mlp_kernel_size) if mlp_kernel_size else Mlp(channels, hidden)
        self.norm2 = nn.LayerNorm(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, features: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape, any H and W."""
        _, height, width, _ = features.shape
        padded = features
        for axis, step in zip((1, 2), self.step, strict=True):
            padded = extend(padded, axis, (padded.shape[axis] + step - 1) // step * step)
        correlated = self.correlate(self.neighbours(self.extract(padded)))[:, :height, :width]
        features = features + self.drop_path(self.norm1(correlated))
        result: Tensor = features + self.drop_path(self.norm2(self.mlp(features)))
        return result


class HiT(GroupedEncoder):
    """Residual groups of blocks with windows of different sizes.

    Pads inside each block, as published, so pictures of any size are taken as they are.

    Args:
        channels: width of the features, a multiple of twice each group's heads.
        blocks: blocks in each group.
        heads: heads of the correlations in each group.
        window: side of the base window in pixels, or its height and width.
        ratios: the windows of a group's blocks, in turn, as multiples of the base window.
        mlp_ratio: width of the pointwise networks as a multiple of ``channels``.
        mlp_kernel_size: side of the depthwise convolution in them (5 in HiT-SRF); 0 for none.
        neighbours: n-gram context between windows (HiT-SNG).
        closing: the convolutions after each group and after all: one, or a bottleneck of three.
        drop_path: stochastic depth of the last block in training; rises linearly from 0 at the first.
        input_norm: whether pixels are normalised before the first group.
        positions: learned vectors, one for each pixel; only pictures of as many pixels are then taken. 0 for none.
        in_channels: channels of the picture.
    """

    def __init__(
        self,
        channels: int = 60,
        blocks: Sequence[int] = (6,) * 4,
        heads: Sequence[int] = (6,) * 4,
        window: int | Sequence[int] = 8,
        ratios: Sequence[float] = (0.5, 1, 2, 4, 6, 8),
        mlp_ratio: float = 2.0,
        mlp_kernel_size: int = 0,
        neighbours: bool = False,
        closing: Closing = "conv",
        drop_path: float = 0.0,
        input_norm: bool = True,
        positions: int = 0,
        in_channels: int = 3,
    ) -> None:
        check_groups(channels, blocks, heads)
        if max(blocks) > len(ratios):
            raise ValueError(
                f"ratios must have one number for each of {max(blocks)} blocks; got {list(ratios)}"
            )
        base = (window, window) if isinstance(window, int) else (window[0], window[1])
        windows = [(int(base[0] * ratio), int(base[1] * ratio)) for ratio in ratios]
        options = (mlp_ratio, mlp_kernel_size, neighbours)
        groups = [
            ResidualGroup(
                [HiTBlock(channels, count, windows[i], base, *options, rate) for i, rate in enumerate(rates)],
                channels,
                closing,
            )
            for count, rates in zip(heads, rising_rates(drop_path, blocks), strict=True)
        ]
        super().__init__(groups, channels, in_channels, closing, input_norm, positions)
        # Finite, but hundreds of pixels wide, and bound to where the windows of every size lie in the picture.
        self.context = None


_SOURCE = "Zhang, Zhang, Yu 2024, arXiv 2407.05878"
_TINY = {"channels": 32, "blocks": [2], "heads": [2], "window": 4, "ratios": [0.5, 2]}

#: This family's rows in the table of encoders.
ENTRIES: list[Entry[Encoder]] = [
    Entry(
        "hit-sir",
        HiT,
        summary="SwinIR-light with hierarchical windows and linear-cost correlation",
        source=_SOURCE,
        licence="Apache-2.0",
        tiny=_TINY,
    ),
    Entry(
        "hit-sng",
        HiT,
        summary="HiT-SIR whose windows also see a summary of their neighbours",
        source=_SOURCE,
        licence="Apache-2.0",
        options={"neighbours": True},
        tiny=_TINY,
    ),
    Entry(
        "hit-srf",
        HiT,
        summary="HiT-SIR with depthwise convolutions in its pointwise networks",
        source=_SOURCE,
        licence="Apache-2.0",
        options={"mlp_kernel_size": 5},
        tiny=_TINY,
    ),
]
