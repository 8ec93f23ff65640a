"""EDSR checkpoints of BasicSR and of the IGConv repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polyres.model import ModelConfig, PartConfig
from polyres.weights.compat.base import DIV2K_MEAN, Foreign, Rename
from polyres.weights.compat.heads import ig_config, ig_renames, prefixed, staged_renames
from polyres.weights.compat.shapes import Tensors, count, expect_sampler, generator, size, staged_scale

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
    "geo_ensemble": False,
}
_GENERATED_PLUS: dict[str, Any] = {**_GENERATED, "geo_ensemble": True, "return_skip": True}

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


def _plus(arguments: Mapping[str, Any]) -> ModelConfig:
    return _model(
        arguments, ig_config(arguments, plus=True, colours=arguments["num_in_ch"], sample_kernel_size=3)
    )


def _infer_encoder(tensors: Tensors, img_range: float) -> tuple[dict[str, Any], dict[str, Any]]:
    channels = size(tensors, "conv_first.weight")
    told = {
        "num_in_ch": size(tensors, "conv_first.weight", 1),
        "num_feat": channels,
        "num_block": count(tensors, r"body\.(\d+)\.conv1\.weight"),
    }
    # The large network is the one that needed its residuals scaled.
    return told, {"res_scale": 0.1 if channels >= 256 else 1, "img_range": img_range}


def _infer_fixed(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    told, assumed = _infer_encoder(tensors, img_range=255.0)
    told["num_out_ch"] = size(tensors, "conv_last.weight")
    told["upscale"] = staged_scale(tensors, "upsample", "conv_last")
    return told, assumed


def _infer_generated(tensors: Tensors, plus: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    expect_sampler(tensors, plus)
    told, assumed = _infer_encoder(tensors, img_range=1.0)
    return {**told, **generator(tensors, "upsample", told["num_feat"])}, {**assumed, "geo_ensemble": plus}


FOREIGN = [
    Foreign("EDSR", _COMMON, _fixed, _fixed_renames, infer=_infer_fixed),
    Foreign(
        "EDSRIG",
        _GENERATED,
        lambda a: _model(a, ig_config(a, plus=False)),
        _generated_renames,
        infer=lambda tensors: _infer_generated(tensors, plus=False),
    ),
    Foreign(
        "EDSRIGPlus",
        _GENERATED_PLUS,
        _plus,
        _generated_renames,
        infer=lambda tensors: _infer_generated(tensors, plus=True),
    ),
]
