"""What a profile holds: sizes of models, and one row of costs for each scale, form, engine and precision."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from polyres._version import __version__
from polyres.evaluation.parsing import from_json


class Latency(BaseModel):
    """Times of equal runs, in seconds.

    Attributes:
        median: of the runs.
        low: their lower quartile.
        high: their upper quartile.
        runs: how many were measured.
        warm_up: how many went before and do not count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    median: float
    low: float
    high: float
    runs: int
    warm_up: int

    @classmethod
    def of(cls, seconds: Sequence[float], warm_up: int) -> Latency:
        """The latency that ``seconds``, one or more, amount to."""
        low, high = min(seconds), max(seconds)
        if len(seconds) > 1:
            low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median=statistics.median(seconds), low=low, high=high, runs=len(seconds), warm_up=warm_up)


class Size(BaseModel):
    """Parameters of one model.

    Attributes:
        model: as the user named it.
        training: as it is trained and stored, for all scales.
        fused: of the plain network of each scale profiled.
        bundle: of one file with the folded encoder once and the fixed upsamplers of all scales profiled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    training: int
    fused: dict[str, int]
    bundle: int


class Cost(BaseModel):
    """What enlarging one picture costs in one way.

    Attributes:
        model: as the user named it.
        scale: as ``Scale`` writes it.
        form: dynamic (kernels generated for each picture), cached (generated once), fused (a plain network), or
            accelerated (that one with native kernels, as ``polyres upscale`` runs it on a CPU).
        engine: torch or onnxruntime.
        dtype: what convolutions compute in.
        low: height and width of the picture given.
        high: height and width of the result.
        multiply_adds: of convolutions and matrix products, by torch's counter.
        peak_bytes: most that tensors take at one time, weights and input left out; None if unknown to the engine.
        latency: None if it was not measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    scale: str
    form: str
    engine: str
    dtype: str
    low: tuple[int, int]
    high: tuple[int, int]
    multiply_adds: int
    peak_bytes: int | None = None
    latency: Latency | None = None


class Profile(BaseModel):
    """The costs of some models on one machine.

    Attributes:
        machine: processor or GPU, threads and torch; times hold there only.
        sizes: one for each model.
        costs: one for each model, scale, form, engine and precision.
        version: of polyres.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: str
    sizes: tuple[Size, ...]
    costs: tuple[Cost, ...]
    version: str = __version__

    def to_json(self) -> str:
        """The profile as JSON."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str) -> Profile:
        """The profile that :meth:`to_json` wrote.

        Raises:
            DataError: not such a profile; the message says what is wrong first.
        """
        return from_json(cls, text, "result of polyres profile")
