"""Blocks that encoders and upsamplers share: no names, no scales, no networks."""

from polyres.layers.folding import Foldable, fold
from polyres.layers.recalibration import KernelRecalibration, parameter_groups, recalibrate

__all__ = ["Foldable", "KernelRecalibration", "fold", "parameter_groups", "recalibrate"]
