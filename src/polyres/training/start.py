"""What a run begins with: fresh weights, a model file, or parts of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from pathlib import Path

import torch
from torch import Tensor, nn

from polyres.encoders.edsr import EDSR
from polyres.errors import CheckpointError, ConfigError
from polyres.layers.blocks import ZeroSumConv2d
from polyres.layers.pixel_attention import PixelAttention
from polyres.model import SRModel, build
from polyres.training.config import InitialConfig, RunConfig
from polyres.training.symmetry import begin_equivariant
from polyres.weights import load

#: Where a recalibrated convolution keeps the kernel that an ordinary one calls ``weight``.
_BASIS = "parametrizations.weight.original"


def initial_model(config: RunConfig) -> SRModel:
    """The model of a run before its first step.

    Raises:
        CheckpointError: a file that cannot be read, or holds other networks than the run file describes.
        ConfigError: no GPU where one is asked for, or an encoder that cannot be equivariant.
    """
    _check_device(config.device)
    torch.default_generator.manual_seed(config.seed)
    model, fresh = _first_weights(config)
    if config.equivariant is not None:
        begin_equivariant(model.encoder, config.equivariant, fresh)
    return model


def _first_weights(config: RunConfig) -> tuple[SRModel, Set[str]]:
    """The model, and the names of the encoder's weights that no file gave."""
    if isinstance(config.initial, InitialConfig):
        model = build(config.model)
        fresh: Set[str] = model.encoder.state_dict().keys()
        for part, path in config.initial.files.items():
            theirs, new = load(path).get_submodule(part), set[str]()
            if part == "encoder":
                theirs = _chosen(theirs, config.initial, path)
                if config.initial.deepen:
                    new = _deepen(model.encoder, theirs, path)
                fresh = new
            _take(model.get_submodule(part), theirs, part, path, new)
        return model, fresh
    if config.initial is None:
        model = build(config.model)
        return model, model.encoder.state_dict().keys()
    model = load(config.initial)
    if model.config != config.model:
        raise CheckpointError(
            f"{config.initial} holds another model than the run file describes; make them agree, or take one "
            "part of it: initial: {encoder: FILE}"
        )
    return model, set()


def _chosen(theirs: nn.Module, initial: InitialConfig, path: Path) -> nn.Module:
    """See :meth:`EDSR.with_blocks`."""
    second = [block + 1 for block in initial.merged]
    keys = {"without": initial.without, "twice": initial.twice, "merged": [*initial.merged, *second]}
    asked = [key for key, blocks in keys.items() if blocks]
    if not asked:
        return theirs
    if not isinstance(theirs, EDSR):
        raise ConfigError(f"initial.{asked[0]} is for EDSR's chain of blocks, in {path} too; leave it out")
    last = len(list(theirs.body.children())) - 1
    for key in asked:
        unknown = [block for block in keys[key] if not 0 <= block <= last]
        if unknown:
            raise ConfigError(
                f"initial.{key}: the encoder of {path} has blocks 0 to {last}; got {unknown[0]}"
            )
    given = initial.without, initial.twice, initial.merged, second
    named = Counter(block for blocks in given for block in set(blocks))
    often = sorted(block for block, times in named.items() if times > 1)
    if often:
        raise ConfigError(
            f"initial: block {often[0]} is in more than one of without, twice and merged, or merged with two others; "
            "name it once"
        )
    places: list[int | tuple[int, int]] = []
    for block in range(last + 1):
        if block in initial.merged:
            places.append((block, block + 1))
        elif block not in initial.without and block not in second:
            places += [block] * (1 + (block in initial.twice))
    return theirs.with_blocks(places)


def _deepen(ours: nn.Module, theirs: nn.Module, path: Path) -> set[str]:
    """See :meth:`EDSR.deepen`."""
    if not (isinstance(ours, EDSR) and isinstance(theirs, EDSR)):
        raise ConfigError(
            f"initial.deepen is for EDSR's chain of blocks, in the run file and in {path}; leave it out"
        )
    return ours.deepen(theirs)


def _take(ours: nn.Module, theirs: nn.Module, part: str, path: Path, new: Set[str]) -> None:
    """Copy the weights of ``theirs``; where kernels are recalibrated here and plain there, they become the bases.

    What is here and not there and begins by adding nothing does so: biases and attention. Those of the names ``new``
    stay as they are.
    """
    wanted = ours.state_dict()
    added = {**_missing_biases(ours, theirs), **_missing_attention(ours, theirs)}
    given = _as_bases({**_effective_weights(ours, theirs), **added}, wanted)
    fresh = {key for key in wanted.keys() - given.keys() if ".parametrizations.weight.0." in f".{key}"} | new
    unfit = sorted(
        key
        for key in (wanted.keys() | given.keys()) - fresh
        if key not in wanted or key not in given or wanted[key].shape != given[key].shape
    )
    if unfit:
        raise CheckpointError(
            f"the {part} of {path} is not the one that the run file describes: {len(unfit)} of {len(wanted)} weights "
            f"differ ({', '.join(unfit[:3])}{', ...' if len(unfit) > 3 else ''})"
        )
    ours.load_state_dict({**{key: wanted[key] for key in fresh}, **given})


def _effective_weights(ours: nn.Module, theirs: nn.Module) -> dict[str, Tensor]:
    """All weights of ``theirs``; kernels made to sum to zero do so themselves where ours are plain."""
    given: dict[str, Tensor] = theirs.state_dict()
    convolutions = dict(ours.named_modules())
    for name, module in theirs.named_modules():
        if isinstance(module, ZeroSumConv2d) and not isinstance(convolutions.get(name), ZeroSumConv2d):
            given[f"{name}.weight"] = module.differences()
    return given


def _missing_biases(ours: nn.Module, theirs: nn.Module) -> dict[str, Tensor]:
    """Zeros for each convolution of ours that has a bias where theirs has none."""
    convolutions = {name: module for name, module in theirs.named_modules() if isinstance(module, nn.Conv2d)}
    return {
        f"{name}.bias": torch.zeros_like(module.bias)
        for name, module in ours.named_modules()
        if isinstance(module, nn.Conv2d) and module.bias is not None
        if name in convolutions and convolutions[name].bias is None
    }


def _missing_attention(ours: nn.Module, theirs: nn.Module) -> dict[str, Tensor]:
    """Zeros for each pixel attention of ours in whose place there is nothing."""
    there = dict(theirs.named_modules())
    return {
        f"{name}.{key}": torch.zeros_like(weight)
        for name, module in ours.named_modules()
        if isinstance(module, PixelAttention) and name not in there and name.rpartition(".")[0] in there
        for key, weight in module.state_dict().items()
    }


def _as_bases(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, tensor in given.items():
        basis = f"{key.removesuffix('weight')}{_BASIS}"
        renamed[basis if key not in wanted and basis in wanted else key] = tensor
    return renamed


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device is cpu or cuda; got '{name}'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device is cuda, but torch sees no GPU here; set device: cpu, or install a CUDA build"
        )
