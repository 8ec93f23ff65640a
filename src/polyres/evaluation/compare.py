"""Two models on the same pictures: is the difference of their means real, and on which pictures is it largest?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from polyres.errors import DataError, UnknownNameError, nearest
from polyres.evaluation.report import Report, Row
from polyres.evaluation.statistics import interval, least_p, wilcoxon

Metric: TypeAlias = Literal["psnr", "ssim", "ms_ssim"]

#: Beyond this probability of chance a difference does not count as shown.
SIGNIFICANCE = 0.05

#: Pictures that an error names before it only counts.
_NAMED = 3


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
        source: where the report comes from, for messages.
        report: the results.
        model: one of the report's models.
    """

    source: str
    report: Report
    model: str

    @classmethod
    def of(cls, source: str, report: Report, model: str | None = None) -> Side:
        """The side of ``model``, or of the only model that ``report`` has.

        Raises:
            DataError: no model is named and the report has several, or none.
            UnknownNameError: the report has no such model.
        """
        models = list(dict.fromkeys(row.model for row in report.rows))
        if model is None:
            if len(models) != 1:
                raise DataError(
                    f"'{source}' holds results of {len(models)} models ({', '.join(models)}): name the ones to compare"
                )
            return cls(source, report, models[0])
        if model not in models:
            raise UnknownNameError(
                f"'{source}' holds no results of '{model}'; it has {', '.join(models)}.{nearest(model, models)}"
            )
        return cls(source, report, model)

    def rows(self) -> dict[tuple[str, ...], Row]:
        """The rows of the model by set, scale and picture."""
        return {row.key[1:]: row for row in self.report.rows if row.model == self.model}


@dataclass(frozen=True)
class Difference:
    """One picture by both: the metric of the second less that of the first."""

    first: Row
    second: Row
    value: float


@dataclass(frozen=True)
class Comparison:
    """The differences of one set at one scale, or of all sets together.

    Attributes:
        group: the set; "all sets" for all of a scale.
        scale: as in the rows.
        differences: one a picture.
        mean: of the differences, second less first.
        low: lower end of the 95 % bootstrap interval of the mean.
        high: upper end.
        p: two-sided, by Wilcoxon's signed-rank test.
    """

    group: str
    scale: str
    differences: tuple[Difference, ...]
    mean: float
    low: float
    high: float
    p: float

    @property
    def wins(self) -> int:
        """Pictures on which the second is better."""
        return sum(each.value > 0 for each in self.differences)

    @property
    def verdict(self) -> str:
        """In words, whether the second differs from the first."""
        values = [each.value for each in self.differences]
        if not any(values):
            return "identical"
        least = least_p(values)
        if least >= SIGNIFICANCE:
            return f"too few pictures to tell: p cannot fall below {least:.3g}"
        outside = self.low > 0 or self.high < 0
        if outside and self.p < SIGNIFICANCE:
            return f"real: the second is {'better' if self.mean > 0 else 'worse'}"
        if outside or self.p < SIGNIFICANCE:
            return "doubtful: interval and test disagree"
        return "not shown: may be chance"

    def ranked(self) -> list[Difference]:
        """From the picture on which the second loses most to the one on which it gains most."""
        return sorted(self.differences, key=lambda each: each.value)


def compare(
    first: Side, second: Side, metric: Metric = "psnr", *, common_only: bool = False
) -> list[Comparison]:
    """The comparison of every set and scale, then of all sets of a scale where there are several.

    Args:
        first: what ``second`` is compared with.
        second: its differences are positive where it is better.
        metric: which score.
        common_only: True leaves out sets and scales that one side does not have, which are refused otherwise.

    Raises:
        DataError: different protocols, routes, sets, scales, pictures or files; the message names the difference.
    """
    _refuse_other_rules(first, second)
    ours, theirs = first.rows(), second.rows()
    if common_only:
        both = {key[:2] for key in ours} & {key[:2] for key in theirs}
        ours, theirs = ({k: row for k, row in rows.items() if k[:2] in both} for rows in (ours, theirs))
    _refuse_other_pictures(first, second, ours, theirs)
    differences = [_difference(first, second, ours[key], theirs[key], metric) for key in ours]
    by_set = _grouped(differences, lambda row: (row.group, row.scale))
    by_scale = _grouped(differences, lambda row: ("all sets", row.scale))
    several = [all_ for all_ in by_scale if sum(each.scale == all_.scale for each in by_set) > 1]
    return [*by_set, *several]


def _grouped(differences: Sequence[Difference], key: Callable[[Row], tuple[str, str]]) -> list[Comparison]:
    groups: dict[tuple[str, str], list[Difference]] = {}
    for each in differences:
        groups.setdefault(key(each.first), []).append(each)
    made = []
    for (group, scale), members in groups.items():
        values = [each.value for each in members]
        mean = math.fsum(values) / len(values)
        made.append(Comparison(group, scale, tuple(members), mean, *interval(values), wilcoxon(values)))
    return made


def _difference(first: Side, second: Side, ours: Row, theirs: Row, metric: Metric) -> Difference:
    where = f"{ours.picture} of {ours.group} ×{ours.scale}"
    if ours.made_from and theirs.made_from and ours.made_from != theirs.made_from:
        raise DataError(
            f"'{first.source}' and '{second.source}' were measured on different files of {where}: measure one again"
        )
    a, b = getattr(ours, metric), getattr(theirs, metric)
    for side, value in ((first, a), (second, b)):
        if value is None:
            name = metric.replace("_", "-")
            raise DataError(f"'{side.source}' has no {name} of {where}: measure with --metrics {name}")
    if math.isinf(a) != math.isinf(b):
        raise DataError(f"{where} is perfect in one of the two, so its {metric} is infinite: compare by ssim")
    return Difference(ours, theirs, 0.0 if math.isinf(a) else b - a)


def _refuse_other_rules(first: Side, second: Side) -> None:
    a, b = first.report, second.report
    if (a.definition, a.route) != (b.definition, b.route):
        names = f"protocol {a.protocol}, route {a.route}", f"protocol {b.protocol}, route {b.route}"
        detail = "" if names[0] != names[1] else f" Their definitions differ: {a.definition} / {b.definition}"
        raise DataError(
            f"'{first.source}' ({names[0]}) and '{second.source}' ({names[1]}) were measured by different rules: "
            f"measure one of them again by the other's.{detail}"
        )


def _refuse_other_pictures(
    first: Side, second: Side, ours: dict[tuple[str, ...], Row], theirs: dict[tuple[str, ...], Row]
) -> None:
    for side, keys, other in (
        (first, ours.keys() - theirs.keys(), second),
        (second, theirs.keys() - ours.keys(), first),
    ):
        if keys:
            named = [f"{picture} of {group} ×{scale}" for group, scale, picture in sorted(keys)[:_NAMED]]
            more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
            raise DataError(
                f"'{side.source}' holds pictures that '{other.source}' does not: {', '.join(named)}{more}. Measure "
                "both on the same sets and scales, or compare only what both have"
            )
    if not ours:
        raise DataError(f"'{first.source}' and '{second.source}' have no set and scale in common")
