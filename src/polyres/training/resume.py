"""What makes a run the same run, and what changed when it is gone on with."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from polyres.errors import CheckpointError
from polyres.training.checkpoint import load_checkpoint
from polyres.training.config import RunConfig
from polyres.training.state import TrainingState
from polyres.training.teacher import fingerprint as teacher_fingerprint

logger = logging.getLogger(__name__)

#: Where things lie, and how often they are told, changes nothing that is learned.
_FREE = {
    "output",
    "device",
    "validate_every",
    "save_every",
    "log_every",
    "keep",
    "pictures",
    "trackers",
    "compile",
    "sharding",
}
_FREE_OF_DATA = {"train", "validation", "validation_pictures", "workers", "worker_processes"}


def identity(config: RunConfig, fingerprint: str) -> dict[str, Any]:
    """What must not change on resuming, the pictures and the teacher's weights included."""
    content: dict[str, Any] = json.loads(config.model_dump_json(exclude=_FREE))
    content["data"] = {key: value for key, value in content["data"].items() if key not in _FREE_OF_DATA}
    if config.teacher is not None:
        content["teacher"]["file"] = teacher_fingerprint(config.teacher.model)
    return {**content, "pictures": fingerprint}


def restore(state: TrainingState, config: RunConfig, fingerprint: str, allow_changes: bool = False) -> None:
    """Go on from the newest checkpoint of ``config.output``.

    Args:
        state: brought to where the checkpoint is.
        config: of the run as it is wanted now.
        fingerprint: of the pictures.
        allow_changes: go on although the configuration changed; what changed is logged.

    Raises:
        CheckpointError: none that can be read, one of another model, or changes that are not allowed.
    """
    saved = load_checkpoint(config.output)
    now = identity(config, fingerprint)
    changed = list(changes(_completed(saved["run"], config, now), now))
    if changed and (not allow_changes or any(line.startswith("model.") for line in changed)):
        hint = "" if allow_changes else ", or add --allow-changes"
        raise CheckpointError(
            f"the checkpoint in {config.output} is of another run: {'; '.join(changed)}. Put them back{hint}; a new "
            "model needs a new output folder and initial"
        )
    try:
        state.load_state_dict(saved)
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"the checkpoint in {config.output} does not fit this run ({str(error).splitlines()[0]}); choose another "
            "output and start from initial"
        ) from error
    if changed:
        state.rejected = []  # what was changed is meant to help
        logger.warning("going on from step %d with changes: %s", state.step, "; ".join(changed))


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """``"optimiser.lr changed from 0.1 to 0.2"`` for each value that differs."""
    old, new = dict(_flat(before)), dict(_flat(now))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield f"{key} changed from {json.dumps(old.get(key))} to {json.dumps(new.get(key))}"


def _completed(before: Mapping[str, Any], config: BaseModel, now: Mapping[str, Any]) -> dict[str, Any]:
    """``before``, by a polyres that may not have known all keys, with those that have their default values ``now``.

    So the default of a new key has to mean what was done before there was one, but for rounding.

    Args:
        before: of a checkpoint.
        config: of which ``now`` is the JSON, or a section of it.
        now: likewise.
    """
    complete = dict(before)
    for name, field in type(config).model_fields.items():
        value, then = getattr(config, name), before.get(name)
        if name not in now:
            continue
        if name not in before and value == field.get_default(call_default_factory=True):
            complete[name] = now[name]
        elif isinstance(value, BaseModel) and isinstance(then, Mapping):
            complete[name] = _completed(then, value, now[name])
        elif isinstance(value, list) and isinstance(then, list) and len(value) == len(then):
            parts = zip(then, value, now[name], strict=True)
            complete[name] = [
                _completed(*part) if isinstance(part[1], BaseModel) else part[0] for part in parts
            ]
    return complete


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
