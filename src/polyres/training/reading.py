"""Reading run files: everything that is wrong with one is told together, before anything starts."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import torch
import yaml
from pydantic import BaseModel, ValidationError
from torch import nn

from polyres.errors import CheckpointError, ConfigError, PolyresError
from polyres.losses import BaseLoss
from polyres.model import ModelConfig, SRModel, build
from polyres.training.adversary import make_discriminator
from polyres.training.config import (
    DataConfig,
    GanConfig,
    LossConfig,
    OptimiserConfig,
    RunConfig,
    TeacherConfig,
)
from polyres.training.objective import make_losses
from polyres.training.optimiser import make_optimiser
from polyres.training.teacher import Teacher


def read_run(path: Path, with_files: bool = True) -> RunConfig:
    """The run that a YAML file describes; relative paths are relative to the current folder.

    Args:
        path: of the run file.
        with_files: whether the folders and files that it names must be there.

    Raises:
        ConfigError: missing file, no YAML, or whatever else is wrong: all of it, with suggestions.
    """
    content = read_mapping(path)
    problems = list(_typed(content)) + list(_made(content, with_files))
    if with_files:
        problems += _missing(content)
    if problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}")
    return RunConfig.model_validate(content)


def read_mapping(path: Path) -> dict[str, Any]:
    """The keys of a YAML file.

    Raises:
        ConfigError: missing file, no YAML, or no keys in it.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"cannot read the run file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} should hold keys such as model, data and steps; it holds {type(content).__name__}"
        )
    return {str(key): value for key, value in content.items()}


class _Loader(yaml.SafeLoader):
    """YAML as people write it: ``on`` and ``no`` are words, as keys above all; booleans are read from them later."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, form) for tag, form in forms if first in "tTfF" or not tag.endswith(":bool")]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _typed(content: Mapping[str, Any]) -> Iterator[str]:
    """Keys and values that do not fit."""
    try:
        RunConfig.model_validate(content)
    except ValidationError as error:
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
        if part in section.model_fields:  # others are places in lists and members of unions
            inner = list(_sections(section.model_fields[part].annotation))
            section = inner[0] if inner else section
    return list(section.model_fields)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (list, dict, Union, UnionType):
        for inner in get_args(annotation):
            yield from _sections(inner)


def _made(content: Mapping[str, Any], with_files: bool) -> Iterator[str]:
    """Parts that are well typed but cannot be made: names in no table, options that a part does not have.

    Sections that are not well typed are left to :func:`_typed`, and files that losses read, unless ``with_files``, to
    whoever has them.
    """
    yield from _refused("model", lambda: _build_on_nothing(content.get("model")))
    yield from _refused("optimiser", lambda: _make_optimiser(content.get("optimiser") or {}))
    terms = content.get("losses")
    for index, term in enumerate(terms if isinstance(terms, list) else []):
        make = partial(_make_loss, term, content.get("model"))
        yield from _refused(f"losses.{index}", make, with_files)
    gan, teacher = content.get("gan"), content.get("teacher")
    if teacher is not None:
        make = partial(_make_teacher, teacher, content.get("data"))
        yield from _refused("teacher", make, with_files)
    if isinstance(gan, Mapping):
        yield from _refused("gan.discriminator", lambda: _make_discriminator(gan))
        yield from _refused("gan.optimiser", lambda: _make_optimiser(gan.get("optimiser") or {}))


def _refused(place: str, make: Callable[[], object], with_files: bool = True) -> Iterator[str]:
    """The error of ``make``, if it is one of ours; about files that it reads only ``with_files``."""
    try:
        make()
    except ValidationError:
        return
    except PolyresError as error:
        if with_files or not isinstance(error, CheckpointError):
            yield f"{place}: {error}"


def _make_loss(term: object, model: object) -> None:
    """Make a loss, and see that the model learns a base if the loss judges one."""
    ((_, loss),) = make_losses([LossConfig.model_validate(term)])
    if isinstance(loss, BaseLoss) and not _build_on_nothing(model).upsampler.learns_base:
        raise ConfigError(
            "it judges the base that igconv+ (base: sample) learns; this model's upsampler learns none"
        )


def _make_optimiser(section: object) -> None:
    make_optimiser(nn.Linear(1, 1), OptimiserConfig.model_validate(section))


def _make_teacher(section: object, data: object) -> None:
    Teacher(TeacherConfig.model_validate(section), DataConfig.model_validate(data).exact_scales)


def _make_discriminator(section: Mapping[str, Any]) -> None:
    with torch.device("meta"):
        make_discriminator(GanConfig.model_validate({**section, "optimiser": {}}))


def _build_on_nothing(section: object) -> SRModel:
    """The model without memory for weights."""
    with torch.device("meta"):
        return build(ModelConfig.model_validate(section))


def _missing(content: Mapping[str, Any]) -> list[str]:
    """Folders and files that are not there."""
    data, initial, gan = (content.get(key) for key in ("data", "initial", "gan"))
    named: list[tuple[str, object]] = []
    for key in ("train", "validation"):
        folders = data.get(key) if isinstance(data, dict) else None
        named += [(f"data.{key}", place) for place in (folders if isinstance(folders, list) else [])]
    parts = initial.items() if isinstance(initial, dict) else [("", initial)]
    named += [(f"initial.{part}".rstrip("."), place) for part, place in parts]
    named += [("gan.initial", gan.get("initial") if isinstance(gan, dict) else None)]
    return [
        f"{key}: there is nothing at {place}{_nearby(Path(place))}"
        for key, place in named
        if isinstance(place, str) and not Path(place).exists()
    ]


def _nearby(path: Path) -> str:
    """A name like the missing one's in the last folder that is there."""
    for parent in path.parents:
        if parent.is_dir():
            missing = path.relative_to(parent).parts[0]
            match = difflib.get_close_matches(missing, [p.name for p in parent.iterdir()], n=1, cutoff=0.6)
            return f" (did you mean {parent / match[0]}?)" if match else ""
    return ""
