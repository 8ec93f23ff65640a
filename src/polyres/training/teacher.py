"""A trained model that a run learns from beside the pictures (distillation).

What is lost in LR cannot be known, so that pictures pull a model in random directions around what is best on average. A
teacher's results are near that average and pull towards it alone. They are made of the crops as the model sees them, on
the fly (Hinton et al., "Distilling the knowledge in a neural network", arXiv 1503.02531).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from polyres.errors import CheckpointError, ConfigError
from polyres.layers.layout import channels_last
from polyres.scale import Scale
from polyres.training.config import TeacherConfig
from polyres.weights import load, resolve


class Teacher:
    """Tells how far results are from those of a trained model.

    Args:
        config: the model, and the factor on the mean absolute difference.
        scales: that it will be asked for.
        device: where it runs.

    Raises:
        UnknownNameError, CheckpointError: no such model.
        ConfigError: it does not make all of ``scales``.
    """

    def __init__(self, config: TeacherConfig, scales: Sequence[Scale], device: str = "cpu") -> None:
        fingerprint(config.model)  # of what is learned from now on
        self._model = channels_last(load(config.model).to(device)).eval().requires_grad_(False)
        self._weight = config.weight
        missing = [f"x{scale}" for scale in scales if not self._model.upsampler.supports(scale)]
        if missing:
            raise ConfigError(
                f"{config.model} does not make {', '.join(missing)}; leave these scales out of data.scales, or take "
                "another teacher"
            )

    def results(self, low: Tensor, scale: Scale) -> Tensor:
        """What it makes of ``low``, (N, C, h, w) in [0, 1], without gradients."""
        with torch.no_grad():
            result: Tensor = self._model(low, scale)
        return result.float()

    def loss(self, output: Tensor, results: Tensor) -> Tensor:
        """The weighted mean absolute difference, a scalar."""
        return self._weight * F.l1_loss(output, results)


@cache
def fingerprint(name: str) -> str:
    """The first digits of the SHA-256 of the file that ``name`` means, as it was when first asked for.

    Raises:
        UnknownNameError, CheckpointError: no such file.
    """
    path = resolve(name)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
