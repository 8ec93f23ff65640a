"""Analyses: what networks have learned and what they do, as pictures and tables; one file an analysis.

Each states its formula and its source; both head every table that is written.
"""

from __future__ import annotations

from collections.abc import Mapping

from polyres.evaluation.analysis import (
    attribution,
    equivariance,
    generated,
    kernels,
    receptive_field,
    similarity,
    spectrum,
)
from polyres.evaluation.analysis.findings import Analysis, Finding, write_finding

ANALYSES: Mapping[str, Analysis] = {
    each.name: each
    for each in (
        kernels.ABOUT,
        similarity.ABOUT,
        generated.ABOUT,
        equivariance.ABOUT,
        receptive_field.ABOUT,
        attribution.ABOUT,
        spectrum.ABOUT,
    )
}

__all__ = ["ANALYSES", "Analysis", "Finding", "write_finding"]
