"""Measuring upscalers: pairs in, a report out, by a named protocol.

Nothing here imports torch but :mod:`polyres.evaluation.models`, which turns a network into an upscaler.
"""

from polyres.evaluation.baselines import BASELINES, Baseline
from polyres.evaluation.report import Mean, Report, Row
from polyres.evaluation.routes import ROUTES, Upscale
from polyres.evaluation.run import evaluate
from polyres.evaluation.saving import picture_path, save_picture

__all__ = [
    "BASELINES",
    "ROUTES",
    "Baseline",
    "Mean",
    "Report",
    "Row",
    "Upscale",
    "evaluate",
    "picture_path",
    "save_picture",
]
