"""Saving and loading models: files that describe themselves, bundled names, and foreign checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from polyres._version import __version__
from polyres.errors import CheckpointError, ConfigError, UnknownNameError, nearest
from polyres.model import ModelConfig, SRModel, build
from polyres.weights.card import ModelCard
from polyres.weights.compat import convert
from polyres.weights.files import decode, read_weights, write_weights
from polyres.weights.strict import build_held, load_strictly

#: Models inside the package: name to file.
BUNDLED: Mapping[str, str] = {
    "default": "small.safetensors",
    "small": "small.safetensors",
    "tiny": "tiny.safetensors",
    "base": "base.safetensors",
    "small-real": "small-real.safetensors",
}

_FOLDER = Path(__file__).parent / "bundled"


def save(model: SRModel, path: str | Path, card: ModelCard | None = None) -> None:
    """Write ``model`` as one safetensors file with its configuration and card in the header.

    Raises:
        ConfigError: a model that was not built from a configuration.
        OutputError: ``path`` cannot be written; what was there before is left as it was.
    """
    if model.config is None:
        raise ConfigError("only a model built from a ModelConfig can be saved; make it with polyres.build")
    metadata = {
        "format": "polyres",
        "version": __version__,
        "config": model.config.model_dump_json(),
        "card": (card or ModelCard()).model_dump_json(),
    }
    write_weights(Path(path), model.state_dict(), metadata)


def load(name_or_path: str | Path, network_g: Mapping[str, Any] | None = None) -> SRModel:
    """A model, in eval mode on the CPU.

    Args:
        name_or_path: a bundled name (``"default"``), a file that :func:`save` wrote, or a checkpoint of an original
            implementation.
        network_g: for such a checkpoint, the dictionary of a BasicSR-style options file: its ``type`` and the
            constructor's arguments.

    Raises:
        UnknownNameError: neither a file nor a bundled name.
        CheckpointError: damaged, unsafe, or weights that do not fit; the message lists what is missing or extra.
    """
    path = resolve(name_or_path)
    tensors, metadata = read_weights(path)
    if network_g is None and metadata.get("format") == "polyres":
        model = build_held(_config(metadata, path), tensors, path)
    else:
        config, tensors = convert(tensors, network_g, path)
        model = build(config)
    load_strictly(model, tensors, path)
    return model.eval()


def load_card(name_or_path: str | Path) -> ModelCard:
    """The card of a bundled model or of a file that :func:`save` wrote; an empty one for foreign files."""
    path = resolve(name_or_path)
    _, metadata = read_weights(path)
    if metadata.get("format") != "polyres":
        return ModelCard()
    try:
        return ModelCard.model_validate(decode(metadata, "card", path))
    except ValidationError as error:
        raise CheckpointError(f"{path}: the model card is damaged: {error.errors()[0]['msg']}") from error


def resolve(name_or_path: str | Path) -> Path:
    """The file that a bundled name or a path means.

    Raises:
        UnknownNameError: what can only be a name, and is none of the bundled ones.
    """
    if str(name_or_path) in BUNDLED:
        return _FOLDER / BUNDLED[str(name_or_path)]
    path = Path(name_or_path).expanduser()
    if not path.exists() and not path.suffix and len(path.parts) == 1:
        raise UnknownNameError(
            f"no model is called '{name_or_path}' and no such file exists; bundled models are "
            f"{', '.join(BUNDLED)}.{nearest(str(name_or_path), BUNDLED)}"
        )
    return path


def _config(metadata: Mapping[str, str], path: Path) -> ModelConfig:
    try:
        return ModelConfig.model_validate(decode(metadata, "config", path))
    except ValidationError as error:
        raise CheckpointError(
            f"{path}: the model configuration is damaged: {json.dumps(error.errors()[0]['msg'])}"
        ) from error
