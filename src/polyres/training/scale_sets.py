"""Sets of scales to train at: a range with limits on numerator and denominator, and which patches fit them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from polyres.scale import Scale


class ScaleRange(BaseModel):
    """All fractions p/q in lowest terms within a range, ends included, with small ``p`` and ``q``.

    In a run file: ``scales: {range: [4/3, 4], max_p: 8, max_q: 3, weights: {2: 3, 3: 3, 4: 3}}``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    range: tuple[str, str] = Field(description="smallest and largest scale, both included")
    max_p: int = Field(default=8, ge=1, le=64, description="largest numerator")
    max_q: int = Field(default=3, ge=1, le=16, description="largest denominator; patch is a multiple of all")
    weights: dict[str, float] = Field(
        default={}, description="how often single scales are drawn, 1 for all others; 0 leaves one out"
    )

    @field_validator("range", mode="before")
    @classmethod
    def _read_ends(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError(f"a range is its two ends, such as [1, 4]; got {value!r}")
        return tuple(str(Scale.of(end)) for end in value)

    @field_validator("weights", mode="before")
    @classmethod
    def _read_weights(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError(f"weights are a mapping from scales to numbers; got {value!r}")
        return {str(Scale.of(key)): weight for key, weight in value.items()}

    @model_validator(mode="after")
    def _has_members(self) -> ScaleRange:
        members = self._members()
        if not members:
            raise ValueError(
                f"there is no scale p/q from {self.range[0]} to {self.range[1]} with p up to {self.max_p} and q up to "
                f"{self.max_q}: widen the range or raise the limits"
            )
        strangers = [scale for scale in self.weights if scale not in members]
        if strangers:
            raise ValueError(f"weights name {', '.join(strangers)}; the set is {', '.join(members)}")
        if not all(0 <= weight < math.inf for weight in self.weights.values()) or not self.frequencies():
            raise ValueError("weights are at least 0, and not all of them 0")
        return self

    def frequencies(self) -> dict[str, float]:
        """Scale to how often it is drawn, relatively; ascending."""
        drawn = {scale: self.weights.get(scale, 1.0) for scale in self._members()}
        return {scale: weight for scale, weight in drawn.items() if weight > 0}

    def _members(self) -> list[str]:
        low, high = (Scale.of(end).y for end in self.range)
        fractions = {Fraction(p, q) for q in range(1, self.max_q + 1) for p in range(1, self.max_p + 1)}
        return [str(Scale.of(scale)) for scale in sorted(fractions) if low <= scale <= high]


def frequencies_of(value: Any) -> Any:
    """``[2, 3, 4]``, ``{2: 3, 5/2: 1}`` or a :class:`ScaleRange` as the mapping from scale to frequency.

    Raises:
        ValueError: neither of these, or a range that cannot be understood.
    """
    if isinstance(value, Mapping) and "range" in value:
        try:
            return ScaleRange.model_validate(dict(value)).frequencies()
        except ValidationError as error:
            raise ValueError("; ".join(_told(problem) for problem in error.errors())) from error
    if not isinstance(value, Mapping | list | tuple):
        raise ValueError(f"scales are a list such as [2, 3, 5/2], or each with its frequency; got {value!r}")
    pairs = value.items() if isinstance(value, Mapping) else ((key, 1) for key in value)
    return {str(key): weight for key, weight in pairs}


def _told(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def check_patch(scales: Sequence[Scale], patch: int) -> None:
    """Refuse a patch that is no multiple of every denominator: its crops would not lie on the grid of all scales.

    Raises:
        ValueError: the scales that do not fit, and what fits all of them.
    """
    unfit = [str(scale) for scale in scales if any(patch % period for period in scale.period)]
    if unfit:
        step = math.lcm(*(period for scale in scales for period in scale.period))
        raise ValueError(
            f"patch must be a multiple of each scale's denominator; {patch} is none for scale {', '.join(unfit)}; "
            f"any multiple of {step} is"
        )
