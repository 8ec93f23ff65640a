"""State-space models on pictures: the selective scan along four paths through the pixels (MambaIR's SS2D)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.layers.groups import to_first, to_last
from polyres.layers.precision import without_autocast
from polyres.layers.selective_scan import selective_scan

#: Row by row, column by column, and both backwards.
PATHS = 4


class SelectiveScan2d(nn.Module):
    """Each pixel informed by those before it on four paths, gated; (N, H, W, ``channels``) to the same shape.

    The paths run through the whole picture, so no finite context describes a network with this block.

    Args:
        channels: of the features.
        states: that each inner channel keeps along a path.
        expansion: inner channels as a multiple of ``channels``.
    """

    def __init__(self, channels: int, states: int = 16, expansion: float = 2.0) -> None:
        super().__init__()
        inner, rank = int(expansion * channels), math.ceil(channels / 16)
        self.sizes = [rank, states, states]
        self.expand = nn.Linear(channels, 2 * inner, bias=False)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.select = nn.Parameter(torch.empty(PATHS, sum(self.sizes), inner))
        self.step_weight = nn.Parameter(torch.empty(PATHS, inner, rank))
        self.step_bias = nn.Parameter(torch.empty(PATHS, inner))
        self.decay_log = nn.Parameter(torch.empty(PATHS, states, inner))
        self.skip = nn.Parameter(torch.ones(PATHS, inner))
        self.norm = nn.LayerNorm(inner)
        self.project = nn.Linear(inner, channels, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        """Mamba's start: steps from 0.001 to 0.1, evenly in their logarithm; rates 1, 2, 3, ..."""
        nn.init.uniform_(self.select, -(self.select.shape[-1] ** -0.5), self.select.shape[-1] ** -0.5)
        nn.init.uniform_(self.step_weight, -(self.sizes[0] ** -0.5), self.sizes[0] ** -0.5)
        with torch.no_grad():
            steps = self.step_bias.uniform_(math.log(1e-3), math.log(0.1)).exp_()
            steps += torch.log(-torch.expm1(-steps))  # so that softplus gives the steps back
            rates = torch.arange(1, self.sizes[1] + 1, dtype=self.decay_log.dtype)
            self.decay_log.copy_(rates.log()[:, None].expand_as(self.decay_log))

    def forward(self, features: Tensor) -> Tensor:
        """The informed features."""
        hidden, gate = self.expand(features).chunk(2, dim=-1)
        hidden = to_last(F.silu(self.depthwise(to_first(hidden))))
        scanned = _merge(self._scan(_paths(hidden)), hidden.shape[1:3])
        # Float32 also under autocast; the weights' own type in a network that is half precision throughout.
        normal = self.norm(scanned.to(self.norm.weight.dtype))
        projected: Tensor = self.project(normal * F.silu(gate))
        return projected

    def _scan(self, sequences: Tensor) -> Tensor:
        """The scan of (4, L, N, D) with steps, write and read vectors that each pixel selects."""
        flat, shape = sequences.flatten(1, 2), sequences.shape[:3]
        rank, write, read = torch.split(torch.bmm(flat, self.select.mT), self.sizes, dim=-1)
        with without_autocast(sequences):
            bias = self.step_bias[:, None]
            steps = F.softplus(torch.baddbmm(bias, rank.to(bias.dtype), self.step_weight.mT))
        write, read = write.reshape(*shape, -1), read.reshape(*shape, -1)
        steps, decay = steps.view_as(sequences), -torch.exp(self.decay_log)
        return selective_scan(sequences, steps, decay, write, read, self.skip)


def _paths(features: Tensor) -> Tensor:
    """(N, H, W, D) along the four paths: (4, H * W, N, D)."""
    by_row = features.flatten(1, 2).transpose(0, 1)
    by_column = features.transpose(1, 2).flatten(1, 2).transpose(0, 1)
    forwards = torch.stack((by_row, by_column))
    return torch.cat((forwards, forwards.flip(1)))


def _merge(sequences: Tensor, size: torch.Size) -> Tensor:
    """What the four paths hold at each pixel, added: (4, H * W, N, D) to (N, H, W, D)."""
    height, width = size
    by_row, by_column = sequences[:2] + sequences[2:].flip(1)
    shape = by_row.shape[1:]
    merged: Tensor = by_row.view(height, width, *shape) + by_column.view(width, height, *shape).transpose(
        0, 1
    )
    return merged.permute(2, 0, 1, 3)
