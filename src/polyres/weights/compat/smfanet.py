"""SMFANet checkpoints of its authors and of the IGConv repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polyres.model import ModelConfig, PartConfig
from polyres.weights.compat.base import Foreign, Rename
from polyres.weights.compat.heads import direct_renames, ig_config, ig_renames, prefixed
from polyres.weights.compat.shapes import (
    Tensors,
    count,
    direct_scale,
    expect_sampler,
    generator,
    ratio,
    size,
)

_COMMON: dict[str, Any] = {"dim": 36, "n_blocks": 8, "ffn_scale": 2, "upscaling_factor": 4}
_GENERATED: dict[str, Any] = {
    **_COMMON,
    "sk_kernel_size": 3,
    "implicit_dim": 256,
    "latent_layers": 4,
    "geo_ensemble": False,
}
_GENERATED_PLUS: dict[str, Any] = {**_GENERATED, "geo_ensemble": True, "return_skip": True}

_MODULATION, _OUR_MODULATION = r"feats\.(\d+)\.smfa", r"encoder.blocks.\1.modulation"
_FEED_FORWARD, _OUR_FEED_FORWARD = r"feats\.(\d+)\.pcfn", r"encoder.blocks.\1.feed_forward"
_ENCODER = [
    Rename(rf"{_MODULATION}\.alpha", f"{_OUR_MODULATION}.coarse_weight"),
    Rename(rf"{_MODULATION}\.belt", f"{_OUR_MODULATION}.variance_weight"),
    *prefixed(
        [
            (r"to_feat", "encoder.head"),
            (rf"{_MODULATION}\.linear_0", f"{_OUR_MODULATION}.split"),
            (rf"{_MODULATION}\.linear_1", f"{_OUR_MODULATION}.modulate"),
            (rf"{_MODULATION}\.linear_2", f"{_OUR_MODULATION}.merge"),
            (rf"{_MODULATION}\.dw_conv", f"{_OUR_MODULATION}.coarse"),
            (rf"{_MODULATION}\.lde\.conv_0\.0", f"{_OUR_MODULATION}.detail.spatial"),
            (rf"{_MODULATION}\.lde\.conv_0\.1", f"{_OUR_MODULATION}.detail.expand"),
            (rf"{_MODULATION}\.lde\.conv_1", f"{_OUR_MODULATION}.detail.project"),
            (rf"{_FEED_FORWARD}\.conv_0", f"{_OUR_FEED_FORWARD}.expand"),
            (rf"{_FEED_FORWARD}\.conv_1", f"{_OUR_FEED_FORWARD}.spatial"),
            (rf"{_FEED_FORWARD}\.conv_2", f"{_OUR_FEED_FORWARD}.project"),
        ]
    ),
]


def _model(arguments: Mapping[str, Any], upsampler: PartConfig) -> ModelConfig:
    encoder = {
        "channels": arguments["dim"],
        "blocks": arguments["n_blocks"],
        "expansion": arguments["ffn_scale"],
    }
    return ModelConfig(encoder=PartConfig(name="smfanet", options=encoder), upsampler=upsampler)


def _fixed(arguments: Mapping[str, Any]) -> ModelConfig:
    return _model(arguments, PartConfig(name="spconv", options={"scales": [arguments["upscaling_factor"]]}))


def _fixed_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    return [*_ENCODER, *direct_renames("to_img.0", arguments["upscaling_factor"])]


def _generated_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    return [*_ENCODER, *ig_renames("to_img")]


def _infer_encoder(tensors: Tensors) -> dict[str, Any]:
    channels = size(tensors, "to_feat.weight")
    return {
        "dim": channels,
        "n_blocks": count(tensors, r"feats\.(\d+)\.smfa\.alpha"),
        "ffn_scale": ratio(size(tensors, "feats.0.pcfn.conv_0.weight"), channels),
    }


def _infer_fixed(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    return {**_infer_encoder(tensors), "upscaling_factor": direct_scale(tensors, "to_img.0")}, {}


def _infer_generated(tensors: Tensors, plus: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    expect_sampler(tensors, plus)
    told = _infer_encoder(tensors)
    return {**told, **generator(tensors, "to_img", told["dim"])}, {"geo_ensemble": plus}


FOREIGN = [
    Foreign("SMFANet", _COMMON, _fixed, _fixed_renames, infer=_infer_fixed),
    Foreign(
        "SMFANetIG",
        _GENERATED,
        lambda a: _model(a, ig_config(a, plus=False)),
        _generated_renames,
        infer=lambda tensors: _infer_generated(tensors, plus=False),
    ),
    Foreign(
        "SMFANetIGPlus",
        _GENERATED_PLUS,
        lambda a: _model(a, ig_config(a, plus=True)),
        _generated_renames,
        infer=lambda tensors: _infer_generated(tensors, plus=True),
    ),
]
