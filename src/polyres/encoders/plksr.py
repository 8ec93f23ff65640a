"""PLKSR: large dense kernels on a part of the channels (Lee, Yun, Ro, arXiv 2404.11848)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.layers.blocks import conv1x1, conv3x3
from polyres.layers.parallel_conv import Branch, ParallelConv
from polyres.registry import Entry


class LargeKernelBlock(nn.Module):
    """Channel mixer, large kernel on the first channels, element-wise attention, 1x1 convolution, skip.

    Args:
        channels: width of the features.
        part: how many of them the large kernel works on.
        branches: the kernels whose sum the large kernel is.
        mixer: sides of the two kernels of the channel mixer.
        attention: whether the element-wise attention is there.
        identity: whether the large kernel has the input added.
    """

    def __init__(
        self,
        channels: int,
        part: int,
        branches: Sequence[Branch],
        mixer: tuple[int, int],
        attention: bool,
        identity: bool,
    ) -> None:
        super().__init__()
        first, second = mixer
        self.part = part
        self.expand = nn.Conv2d(channels, 2 * channels, first, padding=first // 2)
        self.project = nn.Conv2d(2 * channels, channels, second, padding=second // 2)
        self.large = ParallelConv(part, branches, identity)
        self.attention = conv3x3(channels, channels) if attention else None
        self.refine = conv1x1(channels, channels)
        self._initialise()

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        mixed = self.project(F.gelu(self.expand(features)))
        mixed = torch.cat((self.large(mixed[:, : self.part]), mixed[:, self.part :]), dim=1)
        if self.attention is not None:
            mixed = mixed * torch.sigmoid(self.attention(mixed))
        output: Tensor = features + self.refine(mixed)
        return output

    def _initialise(self) -> None:
        """Small weights where each part of the block ends, as published."""
        for module in (self.project, self.large, self.attention, self.refine):
            for name, parameter in module.named_parameters() if module is not None else ():
                if name.endswith("weight"):
                    nn.init.trunc_normal_(parameter, std=0.02)


class PLKSR(Encoder):
    """A head and a chain of large-kernel blocks; there is no long skip.

    Args:
        channels: width of the features.
        blocks: large-kernel blocks.
        kernel_size: side of the large kernels, odd.
        split: share of the channels that they work on.
        mixer: sides of the two kernels of each channel mixer: (3, 3) is the paper's DCCM, (3, 1) CCM, (1, 3) ICCM.
        attention: whether blocks have element-wise attention.
        identity: whether the large kernel has its input added.
        branches: several kernels (height, width, dilation) in place of one large kernel, which are summed and
            fold into one; the paper's ablations.
        in_channels: channels of the picture.
    """

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 28,
        kernel_size: int = 17,
        split: float = 0.25,
        mixer: tuple[int, int] = (3, 3),
        attention: bool = True,
        identity: bool = False,
        branches: Sequence[Branch] = (),
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if not 1 <= int(channels * split) <= channels:
            raise ValueError(f"split must leave 1 to {channels} channels to the large kernels; got {split}")
        self.in_channels, self.out_channels = in_channels, channels
        kernels = branches or [(kernel_size, kernel_size, 1)]
        reach = max(max(height, width) // 2 * dilation for height, width, dilation in kernels)
        self.context = 1 + blocks * (sum(side // 2 for side in mixer) + reach + attention)
        self.head = conv3x3(in_channels, channels)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        self.blocks = nn.Sequential(
            *(
                LargeKernelBlock(channels, int(channels * split), kernels, mixer, attention, identity)
                for _ in range(blocks)
            )
        )

    def forward(self, image: Tensor) -> Tensor:
        """Features (N, ``channels``, H, W)."""
        features: Tensor = self.blocks(self.head(image))
        return features


_SOURCE = "Lee, Yun, Ro 2024, arXiv 2404.11848"

ENTRIES: list[Entry[Encoder]] = [
    Entry(
        "plksr",
        PLKSR,
        summary="28 blocks with dense 17x17 kernels on a quarter of the channels",
        source=_SOURCE,
        licence="MIT",
        tiny={
            "channels": 8,
            "blocks": 1,
            "kernel_size": 5,
            "branches": [[5, 5, 1], [3, 3, 2]],
            "identity": True,
        },
    ),
    Entry(
        "plksr-tiny",
        PLKSR,
        summary="12 blocks with dense 13x13 kernels, no attention",
        source=_SOURCE,
        licence="MIT",
        options={"blocks": 12, "kernel_size": 13, "attention": False},
        tiny={"channels": 8, "blocks": 1, "kernel_size": 5},
    ),
]
