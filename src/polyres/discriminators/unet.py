"""Real-ESRGAN's discriminator: a U-Net with spectral normalisation that judges every pixel.

Wang et al. 2021, arXiv 2107.10833, after Schönfeld, Schiele, Khoreva 2020, arXiv 2002.12655.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from polyres.discriminators.base import Discriminator
from polyres.layers.blocks import conv3x3
from polyres.layers.spectral import spectral_norm

_SLOPE = 0.2

#: Names of the original's layers, and what its spectral normalisation (torch's) keeps, under ours.
_LAYERS = (
    "first",
    *(f"down.{i}" for i in range(3)),
    *(f"up.{i}" for i in range(3)),
    "refine.0",
    "refine.1",
    "last",
)
_KEPT = {
    "weight_orig": "parametrizations.weight.original",
    "weight_u": "parametrizations.weight.0.left",
    "weight_v": "parametrizations.weight.0.right",
}


class UNet(Discriminator):
    """Three halvings, three doublings that meet what came before, and a score for every pixel.

    Args:
        in_channels: channels of the pictures.
        channels: width at full size; it doubles at each halving.
        skip: whether the way up sees the way down.
    """

    minimum_size = 8

    def __init__(self, in_channels: int = 3, channels: int = 64, skip: bool = True) -> None:
        super().__init__()
        widths = [channels, 2 * channels, 4 * channels, 8 * channels]
        self.skip = skip
        self.first = conv3x3(in_channels, channels)
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False))
            for narrow, wide in pairwise(widths)
        )
        self.up = nn.ModuleList(
            spectral_norm(conv3x3(wide, narrow, bias=False)) for wide, narrow in pairwise(reversed(widths))
        )
        self.refine = nn.ModuleList(spectral_norm(conv3x3(channels, channels, bias=False)) for _ in range(2))
        self.last = conv3x3(channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """See :meth:`Discriminator.forward`; (N, 1, H, W)."""
        passed = [F.leaky_relu(self.first(image), _SLOPE)]
        for conv in self.down:
            passed.append(F.leaky_relu(conv(passed[-1]), _SLOPE))
        features = passed.pop()
        for conv in self.up:
            before = passed.pop()
            enlarged = F.interpolate(features, size=before.shape[-2:], mode="bilinear", align_corners=False)
            features = F.leaky_relu(conv(enlarged), _SLOPE)
            features = features + before if self.skip else features
        for conv in self.refine:
            features = F.leaky_relu(conv(features), _SLOPE)
        scores: Tensor = self.last(features)
        return scores

    def translated(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`Discriminator.translated`."""
        ours = {f"conv{number}": name for number, name in enumerate(_LAYERS)}
        renamed = {}
        for key, tensor in tensors.items():
            layer, _, kind = key.rpartition(".")
            renamed[f"{ours.get(layer, layer)}.{_KEPT.get(kind, kind)}"] = tensor
        return renamed
