"""The contract of discriminators: they see pictures of any size, and know neither networks nor scales."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn


class Discriminator(nn.Module, ABC):
    """Tells pictures that were made from those that were taken.

    What it answers depends on its input and weights alone, in training too: nothing is drawn and no statistics are
    kept, so that runs resume exactly and several processes are the same run as one.

    Attributes:
        minimum_size: H and W must be at least this.
    """

    minimum_size: int = 1

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Scores (N, 1, h, w) of ``image`` (N, C, H, W) in [0, 1]: logits, the higher the more real."""

    def translated(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``tensors`` of the original implementation under our names; others as they are."""
        return dict(tensors)
