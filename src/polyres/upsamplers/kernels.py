"""The hypernetwork of IGConv: a continuous function from sub-pixel position and scale to convolution kernels.

Lee, Yun, Ro, "Implicit Grid Convolution for Multi-Scale Image Super-Resolution", arXiv 2408.09674.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from polyres.layers.equivariance import symmetric
from polyres.layers.precision import without_autocast
from polyres.scale import Scale, Tap, axis_taps

#: Activations that one chunk of positions may take while no gradient is wanted.
_CHUNK_ELEMENTS = 1 << 24


class KernelField(nn.Module):
    """Learned Fourier features of each kernel tap, then a small network: position and scale to kernels.

    A *token* is one (input channel, kernel row, kernel column); ``T = in_channels * kernel_size ** 2`` of them,
    in that order. Everything is computed in float32 (or float64 if the weights are), autocast or not: sines of
    large arguments do not survive half precision.

    Args:
        in_channels: channels of the features that the kernels will be applied to.
        rows: output channels of the kernels.
        kernel_size: side of the kernels.
        width: channels of the network, over all groups.
        hidden_layers: layers before the last.
        groups: networks side by side, each with ``rows / groups`` of the rows and every ``groups``-th feature.
        last_bias: whether the last layer has a bias.
        max_scale: the scale input is ``2 / min(scale, max_scale)``.
        spread: standard deviation of frequencies and amplitudes at the start. The published 0.02 makes all taps
            nearly equal at first; a larger one tells them apart at once, which short training needs.
    """

    def __init__(
        self,
        in_channels: int,
        rows: int,
        kernel_size: int = 3,
        width: int = 256,
        hidden_layers: int = 4,
        groups: int = 1,
        last_bias: bool = True,
        max_scale: float = 4,
        spread: float = 0.02,
    ) -> None:
        super().__init__()
        if width % 2 or width % groups:
            raise ValueError(f"width must be even, half sines and half cosines; got {width}")
        tokens = in_channels * kernel_size**2
        self.in_channels, self.rows, self.kernel_size = in_channels, rows, kernel_size
        self.groups, self.max_scale = groups, max_scale
        self.frequency = nn.Parameter(torch.randn(tokens, width) * spread)
        self.amplitude = nn.Parameter(torch.randn(tokens, width) * spread)
        self.phase = nn.Linear(1, width // 2)
        self.layers = nn.ModuleList(GroupedLinear(width, width, groups) for _ in range(hidden_layers))
        self.layers.append(GroupedLinear(width, rows, groups, bias=last_bias))

    def forward(self, scale: Scale) -> Tensor:
        """Kernels (rows, Ty, Tx, in_channels, k, k) at every pair of :func:`axis_taps` of ``scale``."""
        taps_y, taps_x = axis_taps(scale.y), axis_taps(scale.x)
        kernels = self.at_positions(_positions(taps_y, taps_x), scale.mean_factor)
        return kernels.reshape(self.rows, len(taps_y), len(taps_x), *kernels.shape[2:])

    def at_positions(self, positions: Sequence[tuple[float, float]], factor: float) -> Tensor:
        """Kernels (rows, S, in_channels, k, k) at ``S`` positions.

        Args:
            positions: (y, x) in the LR pixel, each from -1 (top, left) to 1 (bottom, right).
            factor: the scale that the network is told.
        """
        grid = self.frequency.new_tensor(positions, dtype=self._dtype)
        chunk = len(positions)
        if not torch.is_grad_enabled():
            chunk = max(1, _CHUNK_ELEMENTS // self.frequency.numel())
        with without_autocast(grid):
            parts = [self._evaluate(part, factor) for part in grid.split(chunk)]
        kernels = torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]
        # (groups, T, S, rows / groups) -> (rows, S, C, k, k)
        size = self.kernel_size
        return kernels.permute(0, 3, 2, 1).reshape(self.rows, -1, self.in_channels, size, size)

    @property
    def last(self) -> GroupedLinear:
        """The layer that gives the kernels' values."""
        return cast(GroupedLinear, self.layers[-1])

    @torch.no_grad()
    def damp(self, factor: float = 0.1) -> None:
        """Make the fresh kernels small, for a picture that starts near its base."""
        for parameter in self.last.parameters():
            parameter.mul_(factor)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.promote_types(self.frequency.dtype, torch.float32)

    def _evaluate(self, grid: Tensor, factor: float) -> Tensor:
        """(S, 2) positions to (groups, T, S, rows / groups)."""
        scale_input = grid.new_tensor([2 / min(factor, self.max_scale)])
        phase = torch.nn.functional.linear(
            scale_input, self.phase.weight.to(grid.dtype), self.phase.bias.to(grid.dtype)
        )
        of_x, of_y = self.frequency.to(grid.dtype).chunk(2, dim=1)
        angle = of_x[:, None] * grid[:, 1, None] + of_y[:, None] * grid[:, 0, None] + phase
        features = torch.cat((torch.cos(math.pi * angle), torch.sin(math.pi * angle)), dim=-1)
        # Group g takes features g, g + groups, ...: the layout of the published weights.
        grouped = features.unflatten(-1, (-1, self.groups)).movedim(-1, 0)
        amplitude = self.amplitude.to(grid.dtype).unflatten(-1, (self.groups, -1)).movedim(1, 0)
        hidden = grouped * amplitude.unsqueeze(2)
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        return self.last.forward(hidden)


class GroupedLinear(nn.Module):
    """``groups`` linear maps side by side: (groups, ..., in / groups) to (groups, ..., out / groups).

    The weight is (groups, out / groups, in / groups), the bias (groups, out / groups).
    """

    def __init__(self, in_features: int, out_features: int, groups: int = 1, bias: bool = True) -> None:
        super().__init__()
        fan_in = in_features // groups
        self.weight = nn.Parameter(torch.empty(groups, out_features // groups, fan_in))
        nn.init.uniform_(self.weight, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
        self.bias: nn.Parameter | None = None
        if bias:
            self.bias = nn.Parameter(torch.empty(groups, out_features // groups))
            nn.init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def forward(self, inputs: Tensor) -> Tensor:
        """The mapped features, in the dtype of ``inputs``."""
        flat, weight = inputs.flatten(1, -2), self.weight.to(inputs.dtype).mT
        if self.bias is None:
            mapped = torch.bmm(flat, weight)
        else:
            mapped = torch.baddbmm(self.bias.to(inputs.dtype).unsqueeze(1), flat, weight)
        return mapped.reshape(*inputs.shape[:-1], -1)


def symmetrise(kernels: Tensor) -> Tensor:
    """The mean of the 8 flips and quarter turns of the last two axes: geometric folding of square kernels.

    Averaging kernels equals averaging the outputs of the 8 convolutions, at an eighth of the work (IGConv
    specification, section 1.4).
    """
    return symmetric(kernels, "turns", (), [(kernels.dim() - 2, kernels.dim() - 1)])


def _positions(taps_y: Sequence[Tap], taps_x: Sequence[Tap]) -> list[tuple[float, float]]:
    return [(float(y.delta), float(x.delta)) for y in taps_y for x in taps_x]
