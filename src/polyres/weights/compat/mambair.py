"""MambaIR checkpoints: the fixed-scale original and the IGConv repository's class share one name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polyres.model import ModelConfig
from polyres.weights.compat.base import Foreign, Rename
from polyres.weights.compat.heads import prefixed
from polyres.weights.compat.shapes import Tensors, ratio, size
from polyres.weights.compat.swin_shapes import infer_head, infer_trunk
from polyres.weights.compat.swinir import (
    BLOCK,
    GENERATED,
    OUR_BLOCK,
    closing,
    model_of,
    shared_renames,
)

_DEFAULTS: dict[str, Any] = {
    "img_size": 64,
    "patch_size": 1,
    "in_chans": 3,
    "embed_dim": 96,
    "depths": (6, 6, 6, 6),
    "drop_rate": 0.0,
    "d_state": 16,
    "mlp_ratio": 2.0,
    "drop_path_rate": 0.1,
    "norm_layer": None,
    "patch_norm": True,
    "use_checkpoint": False,
    "upscale": 2,
    "img_range": 1.0,
    "upsampler": "",
    "resi_connection": "1conv",
    **GENERATED,
    "max_s": 4,
}
#: The convolutions of light networks. The first releases, of which the IGConv repository's class is a copy, have
#: the large network's, more compressed; later ones have depthwise convolutions.
_LIGHT_DENSE, _LIGHT_DEPTHWISE = ("dense", 6), ("depthwise", 2)

_SCAN, _OUR_SCAN = rf"{BLOCK}\.self_attention", f"{OUR_BLOCK}.scan"
_CAB, _OUR_CAB = rf"{BLOCK}\.conv_blk\.cab", f"{OUR_BLOCK}.convolution"


def _configure(arguments: Mapping[str, Any], light: tuple[str, int]) -> ModelConfig:
    # The light convolutions come with the light head; light networks with IGConv have the large network's.
    convolution, compression = light if arguments["upsampler"] == "pixelshuffledirect" else ("dense", 3)
    options = {
        "channels": arguments["embed_dim"],
        "blocks": list(arguments["depths"]),
        "states": arguments["d_state"],
        "expansion": arguments["mlp_ratio"],
        "convolution": convolution,
        "compression": compression,
        "closing": closing(arguments["resi_connection"]),
        "drop_path": arguments["drop_path_rate"],
        "input_norm": arguments["patch_norm"],
        "in_channels": arguments["in_chans"],
    }
    return _with_largest_scale(model_of("mambair", options, arguments), arguments)


def _with_largest_scale(config: ModelConfig, arguments: Mapping[str, Any]) -> ModelConfig:
    """``config`` with ``max_s``, which the class hands on to IGConv+ only."""
    if arguments["upsampler"] != "igconv+igsample":
        return config
    options = {**config.upsampler.options, "max_scale": arguments["max_s"]}
    return config.model_copy(update={"upsampler": config.upsampler.model_copy(update={"options": options})})


def _renames(arguments: Mapping[str, Any], convolutions: str, attention: int) -> list[Rename]:
    """``convolutions`` and ``attention``: the indices in the convolutional branch of what has weights."""
    modules = [
        (rf"{BLOCK}\.ln_([12])", rf"{OUR_BLOCK}.norm\3"),
        (rf"{_SCAN}\.in_proj", f"{_OUR_SCAN}.expand"),
        (rf"{_SCAN}\.conv2d", f"{_OUR_SCAN}.depthwise"),
        (rf"{_SCAN}\.out_norm", f"{_OUR_SCAN}.norm"),
        (rf"{_SCAN}\.out_proj", f"{_OUR_SCAN}.project"),
        (rf"{_CAB}\.([{convolutions}])", rf"{_OUR_CAB}.\3"),
        (rf"{_CAB}\.{attention}\.attention\.1", f"{_OUR_CAB}.{attention}.squeeze"),
        (rf"{_CAB}\.{attention}\.attention\.3", f"{_OUR_CAB}.{attention}.excite"),
    ]
    parameters = [
        Rename(rf"{BLOCK}\.skip_scale(2?)", lambda m: f"{m.expand(OUR_BLOCK)}.skip{m[3] or 1}"),
        Rename(rf"{_SCAN}\.x_proj_weight", f"{_OUR_SCAN}.select"),
        Rename(rf"{_SCAN}\.dt_projs_(weight|bias)", rf"{_OUR_SCAN}.step_\3"),
        Rename(rf"{_SCAN}\.A_logs", f"{_OUR_SCAN}.decay_log", lambda t: _by_path(t).mT.contiguous()),
        Rename(rf"{_SCAN}\.Ds", f"{_OUR_SCAN}.skip", _by_path),
    ]
    return [*prefixed(modules), *parameters, *shared_renames(arguments)]


def _by_path(tensor: Tensor) -> Tensor:
    """The four paths' values, stored one after another there."""
    return tensor.reshape(4, -1, *tensor.shape[1:])


def _infer(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    told = infer_trunk(tensors, "skip_scale")
    scan = "layers.0.residual_group.blocks.0.self_attention"
    told["d_state"] = size(tensors, f"{scan}.A_logs", 1)
    told["mlp_ratio"] = ratio(size(tensors, f"{scan}.out_norm.weight"), told["embed_dim"])
    head, assumed = infer_head(tensors, told["embed_dim"], told["in_chans"])
    if head["upsampler"] == "igconv+igsample":
        assumed["max_s"] = 4
    return {**told, **head}, {**assumed, "img_range": 1.0}


FOREIGN = [
    Foreign(
        "MambaIR",
        _DEFAULTS,
        lambda a: _configure(a, _LIGHT_DENSE),
        lambda a: _renames(a, convolutions="02", attention=3),
        infer=_infer,
    ),
    Foreign(
        "MambaIR",
        _DEFAULTS,
        lambda a: _configure(a, _LIGHT_DEPTHWISE),
        lambda a: _renames(a, convolutions="0134", attention=5),
        infer=_infer,
    ),
]
