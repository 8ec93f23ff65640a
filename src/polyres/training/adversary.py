"""The discriminator of a run: its network, its optimiser, and what it and the model tell each other in a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from polyres.discriminators import DISCRIMINATORS, Discriminator
from polyres.layers.layout import channels_last
from polyres.layers.spectral import follow_weights
from polyres.losses.adversarial import discriminator_loss, generator_loss
from polyres.training.config import GanConfig
from polyres.training.optimiser import make_optimiser
from polyres.training.schedule import learning_rate, set_learning_rate
from polyres.weights.files import read_weights, write_weights
from polyres.weights.strict import load_strictly


class Adversary:
    """What judges the model's outputs, and learns to judge them better.

    Args:
        config: of the discriminator.
        seed: of its fresh weights; the model's random numbers are left as they are.
        device: of the run.

    Raises:
        CheckpointError: ``config.initial`` cannot be read, or holds another network.
    """

    def __init__(self, config: GanConfig, seed: int = 0, device: str = "cpu") -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.network = make_discriminator(config)
        if config.initial is not None:
            _take(self.network, config.initial)
        channels_last(self.network.to(device))
        self.optimiser: Optimizer = make_optimiser(self.network, config.optimiser)

    def judge(self, output: Tensor) -> Tensor:
        """The term that the model's loss gains for ``output`` (N, C, H, W); no gradient reaches the discriminator."""
        self.network.requires_grad_(False)
        told = generator_loss(self.network(output), self.config.kind)
        self.network.requires_grad_(True)
        return self.config.weight * told

    def learn(self, output: Tensor, target: Tensor, share: float) -> float:
        """Add ``share`` of the discriminator's gradient for these pictures to what it has; its share of the loss."""
        made, taken = self.network(output.detach()), self.network(target)
        loss = share * discriminator_loss(made, taken, self.config.kind)
        loss.backward()
        return float(loss.detach())

    def step(self, step: int, steps: int) -> None:
        """Change the discriminator's weights, after ``step`` of ``steps`` steps of the run."""
        config, start = self.config.optimiser, self.config.start
        set_learning_rate(self.optimiser, learning_rate(step - start, steps - start, config))
        if config.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimiser.step()
        follow_weights(self.network)

    def save(self, path: Path) -> None:
        """The discriminator's weights as a file that ``gan.initial`` reads."""
        description = self.config.discriminator.model_dump_json()
        write_weights(
            path, self.network.state_dict(), {"format": "polyres discriminator", "config": description}
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])


def make_discriminator(config: GanConfig) -> Discriminator:
    """The network with fresh weights.

    Raises:
        UnknownNameError: none of this name.
        ConfigError: options that it does not have.
    """
    return DISCRIMINATORS.make(config.discriminator.name, **config.discriminator.options)


def _take(network: Discriminator, path: Path) -> None:
    """Copy the weights in ``path``, ours or the original implementation's."""
    tensors, metadata = read_weights(path)
    load_strictly(network, tensors if "format" in metadata else network.translated(tensors), path)
