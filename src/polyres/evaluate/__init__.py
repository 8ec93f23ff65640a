"""Measuring upscalers: pairs in, a report out, by a named protocol.

Nothing here imports torch but :mod:`polyres.evaluate.models`, which turns a network into an upscaler.
"""

from polyres.evaluate.baselines import BASELINES, Baseline
from polyres.evaluate.report import Mean, Report, Row
from polyres.evaluate.routes import ROUTES, Upscale
from polyres.evaluate.run import evaluate
from polyres.evaluate.saving import save_picture, write_file

__all__ = [
    "BASELINES",
    "ROUTES",
    "Baseline",
    "Mean",
    "Report",
    "Row",
    "Upscale",
    "evaluate",
    "save_picture",
    "write_file",
]
