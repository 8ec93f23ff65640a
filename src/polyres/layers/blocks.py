"""Small convolution helpers that many networks use."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def conv3x3(in_channels: int, out_channels: int, *, groups: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 3x3 convolution, stride 1, zero padding 1: (N, in, H, W) to (N, out, H, W)."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, groups=groups, bias=bias)


def conv1x1(in_channels: int, out_channels: int, *, groups: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 1x1 convolution: a linear map of the channels at each pixel."""
    return nn.Conv2d(in_channels, out_channels, 1, groups=groups, bias=bias)


class ZeroSumConv2d(nn.Conv2d):
    """A convolution whose kernels sum to zero over their positions, for each input channel: it sees differences alone.

    A constant added to a channel of the input changes nothing, borders included: their last pixel continues them.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side of the kernels, odd.
        options: as of :class:`torch.nn.Conv2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, **options: Any) -> None:
        margin = kernel_size // 2
        super().__init__(
            in_channels, out_channels, kernel_size, padding=margin, padding_mode="replicate", **options
        )

    def forward(self, input: Tensor) -> Tensor:
        """(N, in, H, W) to (N, out, H, W); of the weight, all but its mean over positions counts."""
        made: Tensor = self._conv_forward(input, self.differences(), self.bias)
        return made

    def differences(self) -> Tensor:
        """The kernels that are applied, (out, in, size, size): the weight less its mean over positions."""
        return self.weight - self.weight.mean((2, 3), keepdim=True)
