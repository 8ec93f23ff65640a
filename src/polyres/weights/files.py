"""Reading and writing weights files, safely: nothing executed, nothing trusted, nothing half-written."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from polyres.errors import CheckpointError
from polyres.files import replacing

#: Keys under which checkpoints keep their weights, best first (averaged weights before raw ones).
WRAPPERS = ("params_ema", "params-ema", "model_state_dict", "state_dict", "params", "model", "net")

#: Prefixes that training wrappers put before every key.
PREFIXES = ("module.", "netG.")


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors or PyTorch file by key, unwrapped, and the file's own metadata.

    Raises:
        CheckpointError: no such file, damaged, unsafe, or without tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"expected a weights file, but there is no file {path}")
    if _is_pytorch(path):
        return _read_pytorch(path), {}
    return _read_safetensors(path)


def _is_pytorch(path: Path) -> bool:
    """Whether the file starts as a zip archive or a pickle does.

    A safetensors file starts with the length of its header, which may begin with any byte, then "{".
    """
    with path.open("rb") as stream:
        start = stream.read(9)
    return start.startswith(b"PK\x03\x04") or (start.startswith(b"\x80") and start[8:] != b"{")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            # clone: a mapped file must stay free to be replaced or removed
            return {key: stream.get_tensor(key).clone() for key in stream.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is neither a sound safetensors file nor a PyTorch checkpoint ({error}); get it again"
        ) from error


def _read_pytorch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():  # what torch warns of is refused below
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors (it would run code on loading), so it is refused; "
            "ask its author for a safetensors file"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} cannot be read as a PyTorch checkpoint: {reason}") from error
    tensors = {key: value for key, value in _unwrap(content, path).items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors by name, so it is not a model's weights")
    for key, tensor in tensors.items():
        _check_held(key, tensor, path)
    # As they are: many views of one storage would take memory that the file does not have.
    return {_without_prefix(key): tensor for key, tensor in tensors.items()}


def _check_held(key: str, tensor: Tensor, path: Path) -> None:
    """Refuse a tensor that is not plain numbers, or not all in the file."""
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized:
        raise CheckpointError(f"{path}: '{key}' is no plain tensor (sparse, nested or quantised)")
    if tensor.is_meta or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise CheckpointError(
            f"{path}: '{key}' claims {tensor.numel():,} elements that the file does not hold"
        )


def _unwrap(content: object, path: Path) -> dict[str, Any]:
    """The mapping from key to tensor inside the usual wrappers."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None and len(content) == 1:
            only = next(iter(content.values()))
            inner = only if isinstance(only, Mapping) else None
        if inner is None:
            return {str(key): value for key, value in content.items()}
        content = inner
    raise CheckpointError(f"{path} holds a {type(content).__name__}, not tensors by name")


def _without_prefix(key: str) -> str:
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key


def write_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whole or not at all.

    Raises:
        OutputError: the folder is missing or cannot be written.
    """
    contiguous = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    with replacing(path) as stream:
        stream.write(serialise(contiguous, metadata=dict(metadata)))


def decode(metadata: Mapping[str, str], key: str, path: Path) -> Any:
    """The JSON value of a metadata field.

    Raises:
        CheckpointError: the field is missing or is no JSON.
    """
    try:
        return json.loads(metadata[key])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: the file's '{key}' is missing or damaged; get it again") from error
