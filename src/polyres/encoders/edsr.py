"""EDSR: residual blocks without normalisation (Lim et al., "Enhanced Deep Residual Networks", 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.layers.blocks import ZeroSumConv2d, conv3x3
from polyres.layers.native import convolve


class ResidualBlock(nn.Module):
    """``x + residual_scale * conv(relu(conv(x)))``, (N, C, H, W) to the same shape.

    Args:
        channels: of the features.
        residual_scale: factor on what is added.
        expansion: how many times as many channels there are between the convolutions.
        bias: whether the convolutions have one.
    """

    def __init__(
        self, channels: int, residual_scale: float = 1.0, expansion: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.conv1 = conv3x3(channels, expansion * channels, bias=bias)
        self.conv2 = conv3x3(expansion * channels, channels, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """The block's output."""
        hidden = convolve(self.conv1, features, slope=0)
        if self.residual_scale == 1:
            return convolve(self.conv2, hidden, add=features)
        return convolve(self.conv2, hidden).mul_(self.residual_scale).add_(features)


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
    ) -> None:
        super().__init__()
        if normalisation_equivariant and centre:
            raise ValueError(
                f"centre has no effect with normalisation_equivariant; got {centre}. Leave it out"
            )
        self.centre = None if normalisation_equivariant else centre
        self.in_channels, self.out_channels = in_channels, channels
        self.context = 2 + 2 * blocks  # one pixel for each 3x3 convolution
        bias = not normalisation_equivariant
        self.head = (
            conv3x3(in_channels, channels) if bias else ZeroSumConv2d(in_channels, channels, bias=False)
        )
        self.body = nn.Sequential(
            *(ResidualBlock(channels, residual_scale, expansion, bias) for _ in range(blocks))
        )
        self.tail = conv3x3(channels, channels, bias=bias)

    def deepen(self, shallower: EDSR) -> set[str]:
        """Have the blocks that ``shallower`` lacks add nothing: with its weights in all others, both compute the same.

        Returns:
            The names of those blocks' weights.
        """
        new = list(self.body.named_children())[len(shallower.body) :]
        for _, block in new:
            for parameter in block.get_submodule("conv2").parameters():
                nn.init.zeros_(parameter)
        return {f"body.{name}.{key}" for name, block in new for key in block.state_dict()}

    def forward(self, image: Tensor) -> Tensor:
        """Features (N, ``channels``, H, W)."""
        shallow = self.head(image - self.centre if self.centre else image)
        return convolve(self.tail, self.body(shallow), add=shallow)
