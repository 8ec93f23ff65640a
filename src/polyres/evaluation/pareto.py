"""Quality against cost: which models of a run no other one beats in both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyres.errors import DataError, UsageError
from polyres.evaluation.figures import new_figure
from polyres.evaluation.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from polyres.evaluation.profiling.results import Cost, Profile


@dataclass(frozen=True)
class Measure:
    """A cost that a plot may have on its horizontal axis: its label, and its value in a row of a profile."""

    label: str
    value: Callable[[Profile, Cost], float | None]


def _parameters(profile: Profile, cost: Cost) -> float | None:
    sizes = {size.model: size for size in profile.sizes}
    return sizes[cost.model].fused.get(cost.scale) if cost.model in sizes else None


MEASURES: Mapping[str, Measure] = {
    "parameters": Measure("parameters, fused", _parameters),
    "multiply-adds": Measure("multiply-adds", lambda _, cost: cost.multiply_adds),
    "memory": Measure("peak activation memory (bytes)", lambda _, cost: cost.peak_bytes),
    "latency": Measure("median time (s)", lambda _, cost: cost.latency.median if cost.latency else None),
}


@dataclass(frozen=True)
class Point:
    """One model: what it costs, and its mean PSNR in dB."""

    model: str
    cost: float
    quality: float


def points(report: Report, profile: Profile, measure: str, group: str, scale: str) -> list[Point]:
    """The models that both runs hold, with the fused network's cost and the mean PSNR on one set at one scale.

    Of several rows of a model (precisions, engines), the cheapest counts.

    Raises:
        UsageError: a cost that has no name here.
        DataError: no model is in both, at this scale and on this set.
    """
    if measure not in MEASURES:
        raise UsageError(f"no cost is called '{measure}'; there are {', '.join(MEASURES)}")
    costs: dict[str, float] = {}
    for row in profile.costs:
        value = MEASURES[measure].value(profile, row)
        if row.form == "fused" and row.scale == scale and value is not None:
            costs[row.model] = min(value, costs.get(row.model, value))
    qualities = {
        mean.model: mean.psnr for mean in report.means() if (mean.group, mean.scale) == (group, scale)
    }
    found = [Point(model, costs[model], qualities[model]) for model in qualities if model in costs]
    if not found:
        raise DataError(
            f"no model has both its PSNR on {group} ×{scale} and its {measure} here: evaluated are "
            f"{', '.join(qualities) or 'none'}, profiled are {', '.join(costs) or 'none'}"
        )
    return found


def front(found: Sequence[Point]) -> list[Point]:
    """The points that no other is at least as good as in both, and better in one; the cheapest first."""
    best = [point for point in found if not any(_beats(other, point) for other in found)]
    return sorted(best, key=lambda point: (point.cost, point.model))


def pareto_figure(found: Sequence[Point], measure: str, title: str) -> Figure:
    """All points by name, and the front as a line.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    edge = front(found)
    axes.step([point.cost for point in edge], [point.quality for point in edge], where="post", color="0.6")
    for point in found:
        axes.plot(point.cost, point.quality, "o", color="C0" if point in edge else "0.5")
        axes.annotate(point.model, (point.cost, point.quality), (5, 4), textcoords="offset points")
    axes.set_xscale("log")
    axes.margins(0.15)
    axes.grid(alpha=0.3)
    axes.set(xlabel=MEASURES[measure].label, ylabel="PSNR (dB)", title=title)
    return figure


def _beats(other: Point, point: Point) -> bool:
    cheaper, better = other.cost <= point.cost, other.quality >= point.quality
    return cheaper and better and (other.cost, other.quality) != (point.cost, point.quality)
