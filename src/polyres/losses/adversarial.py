"""What a network and its discriminator tell each other, by the kinds of GAN that the field uses.

Goodfellow et al. 2014, arXiv 1406.2661 (vanilla, the form that does not saturate); Mao et al. 2017, arXiv 1611.04076
(lsgan); Lim, Ye 2017, arXiv 1705.02894 (hinge). Scores are logits of any shape, the higher the more real.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Kind = Literal["vanilla", "lsgan", "hinge"]


def generator_loss(made: Tensor, kind: Kind) -> Tensor:
    """The lower, the more real the discriminator holds what was made.

    Args:
        made: scores of what the network made.
        kind: of GAN.
    """
    if kind == "vanilla":
        return F.softplus(-made).mean()
    return (made - 1).square().mean() if kind == "lsgan" else -made.mean()


def discriminator_loss(made: Tensor, taken: Tensor, kind: Kind) -> Tensor:
    """The lower, the better the discriminator tells what was made from what was taken.

    Args:
        made: scores of what the network made.
        taken: scores of pictures that were taken.
        kind: of GAN.
    """
    if kind == "vanilla":
        return F.softplus(-taken).mean() + F.softplus(made).mean()
    if kind == "lsgan":
        return (taken - 1).square().mean() + made.square().mean()
    return F.relu(1 - taken).mean() + F.relu(1 + made).mean()
