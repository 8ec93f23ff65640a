"""A per-pixel decoder of the published size, to compare costs with: LIIF (Chen, Liu, Wang 2021, arXiv 2012.09161).

Written from the paper: features unfolded over 3x3 neighbours, an MLP of five layers with 256 hidden units that is told
the position relative to a latent code and the size of a pixel, and a local ensemble of the four nearest codes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.scale import Scale

#: Pixels decoded together, as in the authors' evaluation.
CHUNK = 30_000


class LiifDecoder(nn.Module):
    """Features (1, C, H, W) to a picture of any size, pixel by pixel."""

    def __init__(self, channels: int, width: int = 256, hidden_layers: int = 4, colours: int = 3) -> None:
        super().__init__()
        sizes = [9 * channels + 4, *[width] * hidden_layers]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(width, colours))

    @property
    def multiply_adds_per_pixel(self) -> int:
        """Of the MLP, four times for the local ensemble."""
        return 4 * sum(layer.weight.numel() for layer in self.mlp if isinstance(layer, nn.Linear))

    def forward(self, features: Tensor, scale: Scale, at_most: int | None = None) -> Tensor:
        """The first ``at_most`` pixels (all if None), row by row: (pixels, colours)."""
        _, channels, height, width = features.shape
        codes = F.unfold(features, 3, padding=1).reshape(9 * channels, height * width).T.contiguous()
        return torch.cat(
            [
                self._decode(codes, y, x, height, width, scale)
                for y, x in _chunks(height, width, scale, at_most)
            ]
        )

    def _decode(self, codes: Tensor, y: Tensor, x: Tensor, height: int, width: int, scale: Scale) -> Tensor:
        """Pixels whose centres lie at ``y``, ``x`` in LR pixels."""
        cell = torch.tensor([2 / float(scale.y), 2 / float(scale.x)]).expand(len(y), 2)
        colours, areas = [], []
        for down in (0, 1):
            for across in (0, 1):
                row = (torch.floor(y - 0.5) + down).clamp(0, height - 1)
                column = (torch.floor(x - 0.5) + across).clamp(0, width - 1)
                code = codes[(row * width + column).long()]
                relative = torch.stack((2 * (y - row - 0.5), 2 * (x - column - 0.5)), dim=1)
                colours.append(self.mlp(torch.cat((code, relative, cell), dim=1)))
                areas.append(relative.prod(1).abs() + 1e-9)
        # A code counts by the area between the pixel and the code on the other side of the diagonal.
        weights = torch.stack(areas[::-1]) / torch.stack(areas).sum(0)
        return (torch.stack(colours) * weights.unsqueeze(-1)).sum(0)


def _chunks(height: int, width: int, scale: Scale, at_most: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Centres (y, x) of the pixels in LR pixels, :data:`CHUNK` at a time."""
    rows, columns = scale.output_size(height, width)
    count = rows * columns if at_most is None else min(at_most, rows * columns)
    for index in torch.arange(count).split(CHUNK):
        yield (index // columns + 0.5) / float(scale.y), (index % columns + 0.5) / float(scale.x)
