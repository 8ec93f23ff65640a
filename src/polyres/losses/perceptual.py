"""Losses that compare features of a network that was trained to recognise things; its weights are the user's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polyres.errors import CheckpointError, ConfigError
from polyres.losses.base import Loss
from polyres.registry import Entry

#: Channels of VGG-19's convolutions, by group; pooling lies between the groups.
_GROUPS = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))

#: Colours that the usual weights were trained with, in [0, 1].
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Convolution (group, place in it, from 1) and its weight, before activation: Real-ESRGAN's.
_LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}

#: Of a checksum, at least.
_DIGITS = 8


class Perceptual(nn.Module):
    """Weighted mean absolute differences of VGG-19's features before activation.

    Args:
        weights: file of VGG-19's weights (``features.0.weight`` and so on; .pth or .safetensors).
        sha256: of the file, in hexadecimal, so that a run says what it was judged by; its first eight digits or more,
            as in the names of torch's files, will do.
        layers: weight of each convolution, such as ``{conv5_4: 1}``.

    Raises:
        CheckpointError: no such file, another checksum, or weights of another network.
        ConfigError: a convolution that VGG-19 does not have, or less of a checksum.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, weights: str, sha256: str, layers: Mapping[str, float] = _LAYERS) -> None:
        super().__init__()
        names = [f"conv{g}_{c}" for g, group in enumerate(_GROUPS, 1) for c in range(1, len(group) + 1)]
        unknown = sorted(layers.keys() - set(names))
        if unknown or not layers:
            raise ConfigError(f"layers of VGG-19 are {', '.join(names)}; got {', '.join(unknown) or 'none'}")
        self.layers = dict(layers)
        last = max(names.index(name) for name in layers)
        self.features = _vgg19(names[: last + 1])
        self.features.load_state_dict(_read(Path(weights), sha256, names[: last + 1]))
        self.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of (N, 3, H, W) in [0, 1], at least 16 pixels a side for the deepest convolutions."""
        with torch.no_grad():
            wanted = self._maps(target)
        made = self._maps(output)
        terms = [weight * (made[name] - wanted[name]).abs().mean() for name, weight in self.layers.items()]
        return torch.stack(terms).sum()

    def _maps(self, image: Tensor) -> dict[str, Tensor]:
        image = (image - self.mean) / self.deviation
        maps = {}
        for name, layer in self.features.named_children():
            image = layer(image)
            if name in self.layers:
                maps[name] = image
        return maps


def _vgg19(names: Sequence[str]) -> nn.Sequential:
    """The convolutions called ``names``, each but the last followed by its activation, groups by pooling."""
    network, channels = nn.Sequential(), 3
    for name in names:
        group, place = int(name[4]), int(name[6])
        if place == 1 and group > 1:
            network.add_module(f"pool{group - 1}", nn.MaxPool2d(2))
        network.add_module(name, nn.Conv2d(channels, channels := _GROUPS[group - 1][place - 1], 3, padding=1))
        if name != names[-1]:
            network.add_module(
                f"relu{group}_{place}", nn.ReLU()
            )  # not in place: the map before it is compared
    return network


def _read(path: Path, sha256: str, names: Sequence[str]) -> dict[str, Tensor]:
    """The weights of the convolutions ``names``, under our keys."""
    if len(sha256) < _DIGITS:
        raise ConfigError(f"sha256 is the file's, or its first {_DIGITS} digits or more; got '{sha256}'")
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if not found.startswith(sha256.lower()):
            raise CheckpointError(f"{path} has the SHA-256 {found}, not {sha256} as the run file says")
        content = _tensors(path)
    except OSError as error:
        raise CheckpointError(f"{path}: VGG-19's weights cannot be read: {error.strerror}") from error
    convolutions = sorted({int(key.split(".")[1]) for key in content if key.startswith("features.")})
    if len(convolutions) < len(names):
        raise CheckpointError(f"{path} does not hold VGG-19: only {len(convolutions)} convolutions")
    try:
        return {
            f"{name}.{kind}": content[f"features.{place}.{kind}"]
            for name, place in zip(names, convolutions, strict=False)
            for kind in ("weight", "bias")
        }
    except KeyError as error:
        raise CheckpointError(f"{path} does not hold VGG-19: {error} is missing") from error


def _tensors(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def _perceptual(weights: str, sha256: str, layers: Mapping[str, float] = _LAYERS) -> Loss:
    return Perceptual(weights, sha256, layers)


ENTRIES: list[Entry[Loss]] = [
    Entry(
        "perceptual",
        _perceptual,
        "difference of VGG-19's features; you supply its weights and their checksum",
        "Johnson, Alahi, Fei-Fei 2016, arXiv 1603.08155; Wang et al. 2021, arXiv 2107.10833",
        "Apache-2.0",
    ),
]
