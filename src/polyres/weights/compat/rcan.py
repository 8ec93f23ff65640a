"""RCAN checkpoints: of its authors, of BasicSR, and of the IGConv repository. The first two share a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polyres.model import ModelConfig, PartConfig
from polyres.weights.compat.base import DIV2K_MEAN, Foreign, Rename
from polyres.weights.compat.heads import ig_config, ig_renames, prefixed, staged_renames
from polyres.weights.compat.shapes import Tensors, count, expect_sampler, generator, size, staged_scale

_AUTHORS: dict[str, Any] = {
    "n_resgroups": 10,
    "n_resblocks": 20,
    "n_feats": 64,
    "reduction": 16,
    "scale": 4,
    "rgb_range": 255,
    "n_colors": 3,
    "res_scale": 1,
    "data_train": "DIV2K",
}
_BASICSR: dict[str, Any] = {
    "num_in_ch": 3,
    "num_out_ch": 3,
    "num_feat": 64,
    "num_group": 10,
    "num_block": 16,
    "squeeze_factor": 16,
    "upscale": 4,
    "res_scale": 1,
    "img_range": 255.0,
    "rgb_mean": DIV2K_MEAN,
}
_GENERATED: dict[str, Any] = {
    "sk_kernel_size": 3,
    "implicit_dim": 256,
    "n_layers": 4,
    "geo_ensemble": True,
    "return_skip": False,
    "dysample_kernel_size": 3,
    "max_s": 4,
    # Constants there, not arguments.
    "n_resgroups": 10,
    "n_resblocks": 20,
    "n_feats": 64,
    "reduction": 16,
}

_BLOCK = r"encoder.groups.\1.blocks.\2"
#: The mean shifts are 1x1 convolutions with weights that were trained along.
_AUTHORS_KEYS = prefixed(
    [
        (r"sub_mean", "encoder.input_shift"),
        (r"head\.0", "encoder.head"),
        (r"body\.(\d+)\.body\.(\d+)\.body\.0", rf"{_BLOCK}.conv1"),
        (r"body\.(\d+)\.body\.(\d+)\.body\.2", rf"{_BLOCK}.conv2"),
        (r"body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.0", rf"{_BLOCK}.attention.squeeze"),
        (r"body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.2", rf"{_BLOCK}.attention.excite"),
        (r"body\.(\d+)\.body\.\d+", r"encoder.groups.\1.tail"),
        (r"body\.\d+", "encoder.tail"),
    ]
)
_BASICSR_KEYS = prefixed(
    [
        (r"conv_first", "encoder.head"),
        (r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.0", rf"{_BLOCK}.conv1"),
        (r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.2", rf"{_BLOCK}.conv2"),
        (r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.1", rf"{_BLOCK}.attention.squeeze"),
        (r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.3", rf"{_BLOCK}.attention.excite"),
        (r"body\.(\d+)\.conv", r"encoder.groups.\1.tail"),
        (r"conv_after_body", "encoder.tail"),
    ]
)


def _authors_encoder(arguments: Mapping[str, Any], colours: int = 3) -> PartConfig:
    """``res_scale`` is an argument there that nothing reads."""
    options = {
        "channels": arguments["n_feats"],
        "groups": arguments["n_resgroups"],
        "blocks": arguments["n_resblocks"],
        "reduction": arguments["reduction"],
        "input_shift": True,
        "in_channels": colours,
    }
    return PartConfig(name="rcan", options=options)


def _scale(arguments: Mapping[str, Any]) -> int:
    """The first of the scales, which the command line gives as a list."""
    scale = arguments["scale"]
    return int(scale[0] if isinstance(scale, Sequence) else scale)


def _authors(arguments: Mapping[str, Any]) -> ModelConfig:
    colours = arguments["n_colors"]
    head = {"scales": [_scale(arguments)], "out_channels": colours, "colour_map": True}
    return ModelConfig(
        encoder=_authors_encoder(arguments, colours),
        upsampler=PartConfig(name="spconv+", options=head),
        value_range=arguments["rgb_range"],
    )


def _authors_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    scale = _scale(arguments)
    shift = prefixed([(r"add_mean", f"upsampler.heads.x{scale}.colour_map")])
    return [*_AUTHORS_KEYS, *shift, *staged_renames("tail.0", "tail.1", scale)]


def _basicsr(arguments: Mapping[str, Any]) -> ModelConfig:
    encoder = {
        "channels": arguments["num_feat"],
        "groups": arguments["num_group"],
        "blocks": arguments["num_block"],
        "reduction": arguments["squeeze_factor"],
        "residual_scale": arguments["res_scale"],
        "in_channels": arguments["num_in_ch"],
    }
    head = {"scales": [arguments["upscale"]], "out_channels": arguments["num_out_ch"]}
    return ModelConfig(
        encoder=PartConfig(name="rcan", options=encoder),
        upsampler=PartConfig(name="spconv+", options=head),
        mean=tuple(arguments["rgb_mean"]),
        value_range=arguments["img_range"],
    )


def _basicsr_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    return [*_BASICSR_KEYS, *staged_renames("upsample", "conv_last", arguments["upscale"])]


def _generated(arguments: Mapping[str, Any]) -> ModelConfig:
    upsampler = ig_config(
        arguments,
        plus=True,
        layers="n_layers",
        sample_width=128,
        sample_layers=2,
        sample_kernel_size=arguments["dysample_kernel_size"],
        max_scale=arguments["max_s"],
        colour_map=True,
    )
    return ModelConfig(encoder=_authors_encoder(arguments), upsampler=upsampler)


def _generated_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    shift = Rename(r"add_mean\.weight", "upsampler.colour_map.weight", lambda tensor: tensor.flatten(1))
    bias = Rename(r"add_mean\.bias", "upsampler.colour_map.bias")
    return [*_AUTHORS_KEYS, shift, bias, *ig_renames("tail")]


def _infer_authors_encoder(tensors: Tensors) -> dict[str, Any]:
    channels = size(tensors, "head.0.weight")
    squeezed = size(tensors, "body.0.body.0.body.3.conv_du.0.weight")
    return {
        "n_feats": channels,
        "n_resgroups": count(tensors, r"body\.(\d+)\.body\.0\.body\.0\.weight"),
        "n_resblocks": count(tensors, r"body\.0\.body\.(\d+)\.body\.0\.weight"),
        "reduction": channels // squeezed,
    }


def _infer_authors(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    told = _infer_authors_encoder(tensors)
    told["n_colors"] = size(tensors, "tail.1.weight")
    told["scale"] = staged_scale(tensors, "tail.0", "tail.1")
    shift = tensors.get("sub_mean.bias")
    if shift is None or shift.is_meta:
        return told, {"rgb_range": 255}
    # The shift is the mean colour times the range, so its size tells the range.
    told["rgb_range"] = 255 if float(shift.abs().mean()) > 2 else 1
    return told, {}


def _infer_basicsr(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    channels = size(tensors, "conv_first.weight")
    block = r"body\.{}\.residual_group\.{}\.rcab\.0\.weight"
    squeezed = size(tensors, "body.0.residual_group.0.rcab.3.attention.1.weight")
    told = {
        "num_in_ch": size(tensors, "conv_first.weight", 1),
        "num_out_ch": size(tensors, "conv_last.weight"),
        "num_feat": channels,
        "num_group": count(tensors, block.format(r"(\d+)", "0")),
        "num_block": count(tensors, block.format("0", r"(\d+)")),
        "squeeze_factor": channels // squeezed,
        "upscale": staged_scale(tensors, "upsample", "conv_last"),
    }
    return told, {"res_scale": 1, "img_range": 255.0}


def _infer_generated(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    expect_sampler(tensors, plus=True)
    told = _infer_authors_encoder(tensors)
    told |= generator(tensors, "tail", told["n_feats"], layers="n_layers")
    # The one released network was trained for x2, x3, x4 and x8.
    return told, {"max_s": 8, "geo_ensemble": True}


FOREIGN = [
    Foreign("RCAN", _AUTHORS, _authors, _authors_renames, infer=_infer_authors),
    Foreign("RCAN", _BASICSR, _basicsr, _basicsr_renames, infer=_infer_basicsr),
    Foreign("RCANIGPlus", _GENERATED, _generated, _generated_renames, infer=_infer_generated),
]
