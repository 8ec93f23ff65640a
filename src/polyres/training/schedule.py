"""Learning rates: a straight warm-up, then a cosine, cosines with restarts, milestones, a late decay, or nothing."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate

from torch.optim import Optimizer

from polyres.training.config import OptimiserConfig


def learning_rate(step: int, steps: int, config: OptimiserConfig) -> float:
    """Of the step after ``step`` steps.

    The cosine begins where the warm-up ends. Milestones and restarts count from the beginning of the run, as in
    BasicSR, whose option files they come from. The late decay (wsd: S. Hu et al., "MiniCPM", arXiv 2404.06395) falls
    with the square root of its steps (A. Haegele et al., arXiv 2405.18392).
    """
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "wsd":
        progress = max(0.0, 1 - (steps - step) / config.decay)
        return config.final_lr + (config.lr - config.final_lr) * (1 - math.sqrt(progress))
    if config.schedule == "multistep":
        return config.lr * config.factor ** bisect_right(config.milestones, step)
    if config.schedule == "restarts":
        return _restarted(step, config)
    return _cosine(config.lr, config.final_lr, (step - config.warmup) / max(1, steps - config.warmup))


def set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    """Give every group ``rate`` times its own ``lr_scale``."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["lr_scale"]


def _restarted(step: int, config: OptimiserConfig) -> float:
    """Half a cosine in each period, the first from the whole learning rate, the others from their part of it."""
    ends = list(accumulate(config.periods))
    index = min(bisect_right(ends, step), len(ends) - 1)
    length = config.periods[index]
    top = config.lr * (config.restarts[index] if config.restarts else 1)
    return _cosine(top, config.final_lr, min(1.0, (step - (ends[index] - length)) / length))


def _cosine(top: float, bottom: float, progress: float) -> float:
    return bottom + (top - bottom) * (1 + math.cos(math.pi * progress)) / 2
