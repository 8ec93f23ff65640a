"""Run files: everything about a training run, typed, with unknown keys refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from polyres.errors import ConfigError
from polyres.model import ModelConfig
from polyres.scale import Scale


class Section(BaseModel):
    """Common to all sections: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(Section):
    """What the run sees."""

    train: list[Path] = Field(min_length=1, description="folders with training pictures")
    validation: list[Path] = Field(
        default=[], description="folders with pictures to measure on; never test sets"
    )
    validation_pictures: int = Field(default=8, ge=1, description="how many of them to use")
    patch: int = Field(default=48, ge=8, description="side of the LR crops in pixels")
    batch: int = Field(default=16, ge=1, description="crops in a micro-batch, all of one scale")
    scales: dict[str, float] = Field(
        default={"2": 1, "3": 1, "4": 1}, min_length=1, description="scale: how often it is drawn, relatively"
    )

    @field_validator("scales", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        """``[2, 3, 4]`` means all equally often; keys may be numbers in YAML."""
        pairs = value.items() if isinstance(value, dict) else ((key, 1) for key in value)
        return {str(key): weight for key, weight in pairs}

    @model_validator(mode="after")
    def _on_the_grid(self) -> DataConfig:
        for scale in self.exact_scales:
            if min(scale.y, scale.x) < 1:
                raise ValueError(f"scales to train are at least 1; got {scale}")
            if self.patch % scale.period[0] or self.patch % scale.period[1]:
                raise ValueError(
                    f"patch must be a multiple of {scale.period[0]} for scale {scale}; got {self.patch}"
                )
        return self

    @property
    def exact_scales(self) -> list[Scale]:
        """The scales, in the order of the file."""
        return [Scale.of(text) for text in self.scales]


class OptimiserConfig(Section):
    """How weights change: an optimiser with warm-up and a cosine."""

    name: str = Field(
        default="adam",
        description="adam, adamw, muon (orthogonalised momentum for matrices, Adam for the rest), "
        "or a class of torch.optim such as RMSprop",
    )
    lr: float = Field(default=5e-4, gt=0, description="peak learning rate")
    final_lr: float = Field(default=1e-6, ge=0, description="learning rate at the last step")
    warmup: int = Field(default=200, ge=0, description="steps from zero to the peak")
    betas: tuple[float, float] = Field(default=(0.9, 0.99), description="Adam's decay rates")
    weight_decay: float = Field(default=0.0, ge=0, description="of all but recalibrations and their bases")
    options: dict[str, Any] = Field(default_factory=dict, description="further arguments of the optimiser")
    clip: float | None = Field(
        default=None, gt=0, description="largest norm of the gradient, over all weights"
    )
    recalibration_lr: float = Field(
        default=1.0,
        gt=0,
        description="factor on the learning rate of kernel recalibrations, if there are any",
    )


class LossConfig(Section):
    """One term of the loss."""

    name: str = Field(description="name in the table of losses")
    weight: float = Field(default=1.0, gt=0, description="factor on the term")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the loss")


class RunConfig(Section):
    """A training run."""

    model: ModelConfig = Field(description="what is trained")
    data: DataConfig = Field(description="what it sees")
    output: Path = Field(description="folder for the model, its checkpoints and logs; made if missing")
    steps: int = Field(ge=1, description="optimiser steps")
    accumulate: int = Field(default=1, ge=1, description="micro-batches a step, each of a scale of its own")
    optimiser: OptimiserConfig = Field(default_factory=OptimiserConfig, description="how weights change")
    losses: list[LossConfig] = Field(
        default=[LossConfig(name="l1"), LossConfig(name="fft", weight=0.5)],
        min_length=1,
        description="terms of the loss, summed",
    )
    ema: float = Field(default=0.999, ge=0, lt=1, description="decay of the averaged weights")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="of the convolutions; auto is bfloat16 where the processor has units for it",
    )
    device: str = Field(default="cpu", description="cpu or cuda")
    seed: int = Field(default=0, ge=0, description="of weights, crops and scales")
    initial: Path | None = Field(
        default=None, description="model file to start from instead of fresh weights"
    )
    validate_every: int = Field(default=1000, ge=1, description="steps between validations")
    save_every: int = Field(default=500, ge=1, description="steps between checkpoints")
    log_every: int = Field(default=50, ge=1, description="steps between log lines")


def read_run(path: Path) -> RunConfig:
    """The run that a YAML file describes; relative paths are relative to the current folder.

    Raises:
        ConfigError: missing file, no YAML, or keys and values that do not fit: all of them, with suggestions.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the run file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} should hold keys such as model, data and steps; it holds {type(content).__name__}"
        )
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(_problems(error))}") from error


def _problems(error: ValidationError) -> Iterator[str]:
    """One phrase for each thing that is wrong."""
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        if problem["type"] == "extra_forbidden":
            known = _known_keys(RunConfig, location[:-1])
            match = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
            hint = f"did you mean '{match[0]}'?" if match else f"known are {', '.join(known)}"
            yield f"unknown key '{'.'.join(location)}' ({hint})"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            yield f"{'.'.join(location)}: {message[0].lower()}{message[1:]}"


def _known_keys(section: type[BaseModel], location: list[str]) -> list[str]:
    """The keys of the section that ``location`` leads to."""
    for part in location:
        if part.isdigit():
            continue
        annotation = section.model_fields[part].annotation
        inner = [annotation, *get_args(annotation)]
        section = next(t for t in inner if isinstance(t, type) and issubclass(t, BaseModel))
    return list(section.model_fields)
