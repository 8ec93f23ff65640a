"""Parallel convolutions whose outputs are summed, and which fold into one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: One branch: height and width of its kernel, both odd, and its dilation.
Branch = tuple[int, int, int]


class ParallelConv(nn.Module):
    """The sum of convolutions of different sizes, (N, C, H, W) to the same shape.

    Args:
        channels: channels of input and output.
        branches: the kernels.
        identity: whether the input itself is added.
    """

    def __init__(self, channels: int, branches: Sequence[Branch], identity: bool = False) -> None:
        super().__init__()
        if not branches or any(not height % 2 or not width % 2 for height, width, _ in branches):
            raise ValueError(f"branches must be one or more kernels of odd height and width; got {branches}")
        self.identity = identity
        self.convs = nn.ModuleList(
            nn.Conv2d(
                channels,
                channels,
                (height, width),
                padding=(height // 2 * dilation, width // 2 * dilation),
                dilation=dilation,
            )
            for height, width, dilation in branches
        )
        self.reach = max(max(height, width) // 2 * dilation for height, width, dilation in branches)

    def forward(self, features: Tensor) -> Tensor:
        """The sum of all branches."""
        total: Tensor = self.convs[0](features)
        for conv in self.convs[1:]:
            total = total + conv(features)
        return total + features if self.identity else total

    def folded(self) -> nn.Conv2d:
        """One dense convolution that equals the sum."""
        convs = [conv for conv in self.convs if isinstance(conv, nn.Conv2d)]
        channels, side = convs[0].in_channels, 2 * self.reach + 1
        plain = nn.Conv2d(channels, channels, side, padding=self.reach).to(convs[0].weight)
        with torch.no_grad():
            plain.weight.zero_()
            for conv in convs:
                self._place(conv, plain.weight)
            if self.identity:
                plain.weight[:, :, self.reach, self.reach] += torch.eye(channels).to(plain.weight)
            biases = [conv.bias for conv in convs if conv.bias is not None]
            plain.bias = nn.Parameter(torch.stack(biases).sum(dim=0))
        return plain

    def _place(self, conv: nn.Conv2d, weight: Tensor) -> None:
        """Add the kernel of ``conv`` to ``weight``, centred and spread by its dilation."""
        dilation = conv.dilation[0]
        rows, columns = (
            slice(self.reach - n // 2 * dilation, self.reach + n // 2 * dilation + 1, dilation)
            for n in conv.kernel_size
        )
        weight[:, :, rows, columns] += conv.weight
