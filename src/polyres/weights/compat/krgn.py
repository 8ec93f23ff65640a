"""CFGN checkpoints, whose network is the one that KRGN's repository releases."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from polyres.errors import ConfigError
from polyres.model import ModelConfig, PartConfig
from polyres.weights.compat.base import DIV2K_MEAN, Foreign, Rename
from polyres.weights.compat.heads import direct_renames, prefixed
from polyres.weights.compat.shapes import NotThisNetworkError, Tensors, count, direct_scale, size

_DEFAULTS: dict[str, Any] = {
    "scale": 4,
    "n_colors": 3,
    "n_feats": 64,
    "n_resgroups": 9,
    "act": "lrelu",
    "rgb_range": 255,
    "dilation": 3,
    "groups": 32,  # written into the original's code, but read from shapes as well
}
_ACTIVATIONS = {"lrelu": "leaky", "relu": "relu", "prelu": "prelu", "identity": "none"}

_PAIR = r"body\.(\d+)\.blocks\.(\d+)\.conv_acts\.(\d+)"


def _scale(arguments: Mapping[str, Any]) -> int:
    """``scale``, which is a list of one there."""
    scale = arguments["scale"]
    scales = scale if isinstance(scale, list | tuple) else [scale]
    if len(scales) != 1:
        raise ConfigError(f"network_g: CFGN is made for one scale; got {scale}")
    return int(scales[0])


def _configure(arguments: Mapping[str, Any]) -> ModelConfig:
    act = str(arguments["act"]).lower()
    if act not in _ACTIVATIONS:
        raise ConfigError(f"network_g: act is one of {', '.join(_ACTIVATIONS)}; got {act!r}")
    encoder = {
        "channels": arguments["n_feats"],
        "blocks": arguments["n_resgroups"],
        "groups": arguments["groups"],
        "dilation": arguments["dilation"],
        "side_activation": _ACTIVATIONS[act],
        "recalibration": "none",
        "in_channels": arguments["n_colors"],
    }
    head = {"scales": [_scale(arguments)], "out_channels": arguments["n_colors"]}
    return ModelConfig(
        encoder=PartConfig(name="krgn", options=encoder),
        upsampler=PartConfig(name="spconv", options=head),
        mean=DIV2K_MEAN,
        value_range=arguments["rgb_range"],
    )


def _of_branch(match: re.Match[str]) -> str:
    """Branches are counted through there; here they are pairs of a near and a far one."""
    block, group, branch, part, kind = match.groups()
    side = "far" if int(branch) % 2 else "near"
    name = "activation" if int(part) else "spatial"
    return f"encoder.blocks.{block}.groups.{group}.{int(branch) // 2}.{side}.{name}.{kind}"


def _renames(arguments: Mapping[str, Any]) -> list[Rename]:
    ours = r"encoder.blocks.\1"
    return [
        Rename(rf"{_PAIR}\.([01])\.(weight|bias)", _of_branch),
        *prefixed(
            [
                (r"head_conv", "encoder.head"),
                (r"body\.(\d+)\.conv1x1s\.(\d+)\.0", rf"{ours}.sides.\2"),
                (r"body\.(\d+)\.conv1x1s\.(\d+)\.1", rf"{ours}.activations.\2"),
                (r"body\.(\d+)\.conv3x3\.0", f"{ours}.last_side"),
                (r"body\.(\d+)\.conv3x3\.1", f"{ours}.activations.3"),
                (r"body\.(\d+)\.conv1x1_act\.0", f"{ours}.gather"),
                (r"body\.(\d+)\.cca\.conv_du\.0", f"{ours}.attention.squeeze"),
                (r"body\.(\d+)\.cca\.conv_du\.2", f"{ours}.attention.excite"),
                (r"features_fusion_module\.0", "encoder.gather"),
                (r"features_fusion_module\.2", "encoder.tail"),
            ]
        ),
        *direct_renames("upsampler.0", _scale(arguments)),
    ]


def _infer(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    first = "body.0.blocks.0.conv_acts.0.0.weight"
    channels, per_group = size(tensors, first), size(tensors, first, 1)
    if not per_group:
        raise NotThisNetworkError(first)
    colours = size(tensors, "head_conv.weight", 1)
    told: dict[str, Any] = {
        "scale": direct_scale(tensors, "upsampler.0", colours),
        "n_colors": colours,
        "n_feats": channels,
        "n_resgroups": count(tensors, r"body\.(\d+)\.conv3x3\.0\.weight"),
        "groups": channels // per_group,
        "act": "prelu" if "body.0.conv3x3.1.weight" in tensors else "lrelu",
    }
    told["rgb_range"] = _range(tensors)
    return told, {"dilation": 3}


def _range(tensors: Tensors) -> float:
    """The range of pixel values, by the first colour's mean that is stored."""
    if not size(tensors, "sub_mean.bias") or tensors["sub_mean.bias"].is_meta:
        return 255.0
    value = round(-float(tensors["sub_mean.bias"].flatten()[0]) / DIV2K_MEAN[0], 3)
    if not (math.isfinite(value) and value > 0):
        raise NotThisNetworkError("sub_mean.bias")
    return value


#: Stored constants: the mean subtracted and added.
_IGNORED = (r"(sub|add)_mean\.(weight|bias)",)

FOREIGN = [
    Foreign("CFGN", _DEFAULTS, _configure, _renames, _IGNORED, _infer),
    # The same class by its later name; files without options are read as CFGN, which published weights.
    Foreign("KRGN", _DEFAULTS, _configure, _renames, _IGNORED),
]
