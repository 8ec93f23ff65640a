"""IGSample: the picture itself, sampled at positions that the features choose, as the base of IGConv+.

Lee, Yun, Ro, arXiv 2408.09674, after DySample. At zero offsets it is bilinear interpolation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyres.layers.interpolate import sample_at
from polyres.scale import Scale
from polyres.upsamplers.kernels import KernelField


class IGSample(nn.Module):
    """Kernels for the sampling offsets and their gates, and the sampling.

    The generated convolution has ``4 * colours`` rows: offsets (x of every colour, then y) and the gates' logits
    in the same order.

    Args:
        in_channels: channels of the features.
        kernel_size: side of the generated kernels.
        width: channels of each of the two networks (offsets, gates).
        hidden_layers: layers before the last.
        max_scale: see :class:`KernelField`.
        colours: channels of the picture.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 3,
        width: int = 128,
        hidden_layers: int = 2,
        max_scale: float = 4,
        colours: int = 3,
    ) -> None:
        super().__init__()
        self.rows = 4 * colours
        self.kernels = KernelField(
            in_channels,
            self.rows,
            kernel_size,
            2 * width,
            hidden_layers,
            2,
            last_bias=False,
            max_scale=max_scale,
        )
        self._initialise(colours)

    def _initialise(self, colours: int) -> None:
        """Small random offsets, equal for all colours, and open gates (sigmoid(0) = 1/2).

        The original lays the offsets' rows out as (colour, xy) but reads them as (xy, colour), so that green
        starts with x and y swapped; here they start equal, as its comment intends.
        """
        for layer in self.kernels.layers:
            for parameter in layer.parameters():
                nn.init.trunc_normal_(parameter, std=0.01)
        last = self.kernels.last.weight
        with torch.no_grad():
            last[0].copy_(last[0, :2].repeat_interleave(colours, dim=0))
            last[1].zero_()

    @staticmethod
    def sample(image: Tensor, maps: Tensor, scale: Scale) -> Tensor:
        """``image`` sampled as the generated convolution's output says.

        Args:
            image: (N, colours, H, W).
            maps: (N, 4 * colours, round(H * scale), round(W * scale)): offsets in LR pixels, then logits.

        Returns:
            (N, colours, round(H * scale), round(W * scale)).
        """
        offset, gate = maps.chunk(2, dim=1)
        return sample_at(image, offset * torch.sigmoid(gate) * 0.5, scale)
