"""What an evaluation found: a row a picture, the protocol they were measured by, and the means of the sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from polyres._version import __version__
from polyres.errors import DataError
from polyres.evaluation.parsing import from_json


class Row(BaseModel):
    """The scores of one picture.

    Attributes:
        model: what made it, as the user named it.
        group: the set.
        scale: as ``Scale`` writes it, such as ``4`` or ``2.5``.
        picture: its name within the set.
        psnr: in dB; infinite for an identical picture.
        ssim: at most 1, or None if it was left out.
        ms_ssim: likewise.
        extra: other metrics by name; the report's definition tells what they are.
        made_by: fingerprint of the model and its settings; empty where the caller gave none.
        made_from: fingerprint of the picture's files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    model: str
    group: str
    scale: str
    picture: str
    psnr: float
    ssim: float | None = None
    ms_ssim: float | None = None
    extra: dict[str, float] = Field(default_factory=dict)
    made_by: str = ""
    made_from: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What no two rows of a report share: model, set, scale and picture."""
        return self.model, self.group, self.scale, self.picture


@dataclass(frozen=True)
class Mean:
    """The mean scores of one model on one set at one scale, over ``count`` pictures."""

    model: str
    group: str
    scale: str
    count: int
    psnr: float
    ssim: float | None
    ms_ssim: float | None = None
    extra: Mapping[str, float] = field(default_factory=dict)


class Report(BaseModel):
    """The outcome of an evaluation.

    Attributes:
        protocol: the name of the protocol.
        definition: what that means, to be printed with any number of the report.
        route: how the low resolution pictures came about and what was enlarged, by name.
        rows: one for each model, set, scale and picture, in the order measured.
        version: of polyres.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str
    definition: str
    route: str
    rows: tuple[Row, ...]
    version: str = __version__

    def means(self) -> list[Mean]:
        """The mean of every model, set and scale, in the order of first appearance."""
        groups: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.model, row.group, row.scale), []).append(row)
        return [_mean(rows) for rows in groups.values()]

    def to_json(self) -> str:
        """The report as JSON; an infinite PSNR is written as the string ``"Infinity"``, as JSON has no such number."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report that :meth:`to_json` wrote.

        Raises:
            DataError: not such a report; the message says what is wrong first.
        """
        return from_json(cls, text, "report of polyres evaluate")

    @classmethod
    def joined(cls, reports: Sequence[Report]) -> Report:
        """One report of the rows of several, made by the same protocol and route.

        Raises:
            DataError: no reports, or reports of different protocols or routes.
        """
        if not reports:
            raise DataError("there are no reports to join")
        first = reports[0]
        for other in reports[1:]:
            if (other.definition, other.route) != (first.definition, first.route):
                raise DataError(
                    f"reports by different rules cannot be joined: {first.protocol}, route {first.route}, and "
                    f"{other.protocol}, route {other.route}"
                )
        return first.model_copy(update={"rows": tuple(row for report in reports for row in report.rows)})


def _mean(rows: Sequence[Row]) -> Mean:
    first = rows[0]
    return Mean(
        first.model,
        first.group,
        first.scale,
        len(rows),
        math.fsum(row.psnr for row in rows) / len(rows),
        _mean_of_all([row.ssim for row in rows]),
        _mean_of_all([row.ms_ssim for row in rows]),
        {name: math.fsum(row.extra[name] for row in rows) / len(rows) for name in _common(rows)},
    )


def _common(rows: Sequence[Row]) -> list[str]:
    """The names of the metrics that every row has beside the usual ones."""
    return [name for name in rows[0].extra if all(name in row.extra for row in rows)]


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    """The mean, or None if any value is missing: a mean over fewer pictures than the others would mislead."""
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(values) if len(present) == len(values) else None
