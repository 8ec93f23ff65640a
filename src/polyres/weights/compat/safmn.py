"""SAFMN checkpoints of its authors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polyres.model import ModelConfig, PartConfig
from polyres.weights.compat.base import Foreign, Rename
from polyres.weights.compat.heads import direct_renames, prefixed
from polyres.weights.compat.shapes import Tensors, count, direct_scale, ratio, size

_DEFAULTS: dict[str, Any] = {"dim": 36, "n_blocks": 8, "ffn_scale": 2.0, "upscaling_factor": 4}

_BLOCK = r"encoder.blocks.\1"
_ENCODER = prefixed(
    [
        (r"to_feat", "encoder.head"),
        (r"feats\.(\d+)\.norm([12])", rf"{_BLOCK}.norm\2"),
        (r"feats\.(\d+)\.safm\.mfr\.(\d+)", rf"{_BLOCK}.modulation.levels.\2"),
        (r"feats\.(\d+)\.safm\.aggr", rf"{_BLOCK}.modulation.merge"),
        (r"feats\.(\d+)\.ccm\.ccm\.0", rf"{_BLOCK}.mix"),
        (r"feats\.(\d+)\.ccm\.ccm\.2", rf"{_BLOCK}.project"),
    ]
)


def _configure(arguments: Mapping[str, Any]) -> ModelConfig:
    encoder = {
        "channels": arguments["dim"],
        "blocks": arguments["n_blocks"],
        "expansion": arguments["ffn_scale"],
    }
    return ModelConfig(
        encoder=PartConfig(name="safmn", options=encoder),
        upsampler=PartConfig(name="spconv", options={"scales": [arguments["upscaling_factor"]]}),
    )


def _renames(arguments: Mapping[str, Any]) -> list[Rename]:
    return [*_ENCODER, *direct_renames("to_img.0", arguments["upscaling_factor"])]


def _infer(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    channels = size(tensors, "to_feat.weight")
    told = {
        "dim": channels,
        "n_blocks": count(tensors, r"feats\.(\d+)\.safm\.aggr\.weight"),
        "ffn_scale": ratio(size(tensors, "feats.0.ccm.ccm.0.weight"), channels),
        "upscaling_factor": direct_scale(tensors, "to_img.0"),
    }
    return told, {}


FOREIGN = [Foreign("SAFMN", _DEFAULTS, _configure, _renames, infer=_infer)]
