"""EDSR checkpoints of BasicSR and of the IGConv repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polyres.model import ModelConfig, PartConfig
from polyres.weights.compat.base import DIV2K_MEAN, Foreign, Rename
from polyres.weights.compat.heads import ig_config, ig_renames, prefixed, staged_renames

_COMMON: dict[str, Any] = {
    "num_in_ch": 3,
    "num_out_ch": 3,
    "num_feat": 64,
    "num_block": 16,
    "upscale": 4,
    "res_scale": 1,
    "img_range": 255.0,
    "rgb_mean": DIV2K_MEAN,
}
_GENERATED: dict[str, Any] = {
    **_COMMON,
    "sk_kernel_size": 3,
    "implicit_dim": 256,
    "latent_layers": 4,
    "geo_ensemble": True,
    "return_skip": True,
}

_ENCODER = prefixed(
    [
        (r"conv_first", "encoder.head"),
        (r"body\.(\d+)\.conv([12])", r"encoder.body.\1.conv\2"),
        (r"conv_after_body", "encoder.tail"),
    ]
)


def _model(arguments: Mapping[str, Any], upsampler: PartConfig) -> ModelConfig:
    encoder = {
        "channels": arguments["num_feat"],
        "blocks": arguments["num_block"],
        "residual_scale": arguments["res_scale"],
        "in_channels": arguments["num_in_ch"],
    }
    return ModelConfig(
        encoder=PartConfig(name="edsr", options=encoder),
        upsampler=upsampler,
        mean=tuple(arguments["rgb_mean"]),
        value_range=arguments["img_range"],
    )


def _fixed(arguments: Mapping[str, Any]) -> ModelConfig:
    options = {"scales": [arguments["upscale"]], "out_channels": arguments["num_out_ch"]}
    return _model(arguments, PartConfig(name="spconv+", options=options))


def _fixed_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    return [*_ENCODER, *staged_renames("upsample", "conv_last", arguments["upscale"])]


def _generated_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    return [*_ENCODER, *ig_renames("upsample")]


FOREIGN = [
    Foreign("EDSR", _COMMON, _fixed, _fixed_renames),
    Foreign("EDSRIG", _GENERATED, lambda a: _model(a, ig_config(a, plus=False)), _generated_renames),
    Foreign("EDSRIGPlus", _GENERATED, lambda a: _model(a, ig_config(a, plus=True)), _generated_renames),
]
