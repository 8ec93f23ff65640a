"""PLKSR checkpoints of its authors and of the IGConv repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polyres.errors import ConfigError
from polyres.layers.parallel_conv import Branch
from polyres.model import ModelConfig, PartConfig
from polyres.weights.compat.base import Foreign, Rename
from polyres.weights.compat.heads import direct_renames, ig_config, ig_renames, prefixed
from polyres.weights.compat.shapes import (
    NotThisNetworkError,
    Tensors,
    count,
    direct_scale,
    expect_sampler,
    generator,
    ratio,
    size,
)

#: Sides of the two kernels of each kind of channel mixer.
_MIXERS = {"CCM": (3, 1), "ICCM": (1, 3), "DCCM": (3, 3)}

_COMMON: dict[str, Any] = {
    "dim": 64,
    "n_blocks": 28,
    "ccm_type": "DCCM",
    "kernel_size": 17,
    "split_ratio": 0.25,
    "lk_type": "PLK",
    "use_max_kernel": False,
    "sparse_kernels": (5, 5, 5, 5),
    "sparse_dilations": (1, 2, 3, 4),
    "with_idt": False,
    "use_ea": True,
}
_FIXED: dict[str, Any] = {**_COMMON, "upscaling_factor": 4, "is_coreml": False}
_GENERATED: dict[str, Any] = {
    **_COMMON,
    "sk_kernel_size": 3,
    "implicit_dim": 256,
    "latent_layers": 4,
    "geo_ensemble": True,
}


def _branches(arguments: Mapping[str, Any]) -> Sequence[Branch]:
    """The kernels of ``lk_type``; none if it is one dense kernel.

    Raises:
        ConfigError: a type that the original does not have.
    """
    side, kind = arguments["kernel_size"], arguments["lk_type"]
    if kind == "PLK":
        return []
    if kind == "RectSparsePLK":
        return [(side, side // 3, 1), (side // 3, side, 1), (side // 3, side // 3, 1)]
    if kind != "SparsePLK":
        raise ConfigError(f"network_g: lk_type is PLK, SparsePLK or RectSparsePLK; got {kind!r}")
    sparse = list(zip(arguments["sparse_kernels"], arguments["sparse_dilations"], strict=False))
    largest = max(side, *((kernel - 1) * dilation + 1 for kernel, dilation in sparse))
    dense = [(largest, largest, 1)] if arguments["use_max_kernel"] else []
    return [*((kernel, kernel, dilation) for kernel, dilation in sparse), *dense]


def _model(arguments: Mapping[str, Any], upsampler: PartConfig) -> ModelConfig:
    if arguments["ccm_type"] not in _MIXERS:
        raise ConfigError(
            f"network_g: ccm_type is one of {', '.join(_MIXERS)}; got {arguments['ccm_type']!r}"
        )
    encoder = {
        "channels": arguments["dim"],
        "blocks": arguments["n_blocks"],
        "kernel_size": arguments["kernel_size"],
        "split": arguments["split_ratio"],
        "mixer": _MIXERS[arguments["ccm_type"]],
        "attention": arguments["use_ea"],
        "identity": arguments["with_idt"] and arguments["lk_type"] != "RectSparsePLK",
        "branches": _branches(arguments),
    }
    return ModelConfig(encoder=PartConfig(name="plksr", options=encoder), upsampler=upsampler)


def _fixed(arguments: Mapping[str, Any]) -> ModelConfig:
    head = {"scales": [arguments["upscaling_factor"]], "base": "nearest"}
    return _model(arguments, PartConfig(name="spconv", options=head))


def _generated(arguments: Mapping[str, Any]) -> ModelConfig:
    return _model(arguments, ig_config(arguments, plus=True))


def _encoder_renames() -> list[Rename]:
    """Blocks count from 1 there, after the first convolution."""
    parts = {
        r"channe_mixer\.0": "expand",
        r"channe_mixer\.2": "project",
        r"lk\.conv": "large.convs.0",
        r"lk\.mn_conv": "large.convs.0",
        r"lk\.nm_conv": "large.convs.1",
        r"lk\.nn_conv": "large.convs.2",
        r"attn\.f\.0": "attention",
        r"refine": "refine",
    }
    blocks = [_block_rename(theirs, ours) for theirs, ours in parts.items()]
    branches = Rename(
        r"feats\.(\d+)\.lk\.convs\.(\d+)\.(weight|bias)",
        lambda match: f"encoder.blocks.{int(match[1]) - 1}.large.convs.{match[2]}.{match[3]}",
    )
    return [*prefixed([(r"feats\.0", "encoder.head")]), *blocks, branches]


def _block_rename(theirs: str, ours: str) -> Rename:
    return Rename(
        rf"feats\.(\d+)\.{theirs}\.(weight|bias)",
        lambda match: f"encoder.blocks.{int(match[1]) - 1}.{ours}.{match[2]}",
    )


def _fixed_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    last = f"feats.{arguments['n_blocks'] + 1}"
    return [*_encoder_renames(), *direct_renames(last, arguments["upscaling_factor"])]


def _generated_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    return [*_encoder_renames(), *ig_renames("to_rgb")]


def _infer_encoder(tensors: Tensors) -> dict[str, Any]:
    channels = size(tensors, "feats.0.weight")
    sides = tuple(size(tensors, f"feats.1.channe_mixer.{i}.weight", 3) for i in (0, 2))
    mixers = [name for name, mixer in _MIXERS.items() if mixer == sides]
    if not mixers:
        raise NotThisNetworkError("feats.1.channe_mixer")
    return {
        "dim": channels,
        "n_blocks": count(tensors, r"feats\.(\d+)\.refine\.weight"),
        "ccm_type": mixers[0],
        "kernel_size": size(tensors, "feats.1.lk.conv.weight", 3),
        "split_ratio": ratio(size(tensors, "feats.1.lk.conv.weight"), channels),
        "use_ea": "feats.1.attn.f.0.weight" in tensors,
    }


def _infer_fixed(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    told = _infer_encoder(tensors)
    told["upscaling_factor"] = direct_scale(tensors, f"feats.{told['n_blocks'] + 1}")
    return told, {"with_idt": False}


def _infer_generated(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    expect_sampler(tensors, plus=True)
    told = _infer_encoder(tensors)
    told |= generator(tensors, "to_rgb", told["dim"])
    return told, {"with_idt": False, "geo_ensemble": True}


FOREIGN = [
    Foreign("PLKSR", _FIXED, _fixed, _fixed_renames, infer=_infer_fixed),
    Foreign("PLKSRIGPlus", _GENERATED, _generated, _generated_renames, infer=_infer_generated),
]
