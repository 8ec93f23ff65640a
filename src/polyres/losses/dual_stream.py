"""The loss that holds the learned base to the target as well, so that the generated part is left the detail."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from polyres.losses.base import BaseLoss
from polyres.registry import Entry


class DualStream(BaseLoss):
    """L1 of the output plus ``alpha`` times L1 of the base, both against the target.

    Args:
        alpha: weight of the base, above 0.
    """

    def __init__(self, alpha: float) -> None:
        if not alpha > 0:
            raise ValueError(f"alpha is above 0; got {alpha}. Without the base it is l1")
        self.alpha = alpha

    def __call__(self, output: Tensor, target: Tensor, base: Tensor) -> Tensor:
        """See :meth:`BaseLoss.__call__`."""
        return F.l1_loss(output, target) + self.alpha * F.l1_loss(base, target)


ENTRIES: list[Entry[BaseLoss]] = [
    Entry(
        "dual-stream",
        DualStream,
        "L1 of the output and of the learned base, for upsamplers that have one (igconv+)",
        "Lee, Yun, Ro 2024, arXiv 2408.09674 (DualStreamLoss of its repository)",
        "MIT",
        tiny={"alpha": 0.5},
    ),
]
