"""ATD checkpoints: the fixed-scale original and the IGConv repository's class share one name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polyres.model import ModelConfig
from polyres.weights.compat import swinir
from polyres.weights.compat.base import Foreign, Rename
from polyres.weights.compat.heads import prefixed
from polyres.weights.compat.shapes import Tensors, ratio, root, size
from polyres.weights.compat.swin_shapes import infer_head, infer_trunk

_DEFAULTS: dict[str, Any] = {
    "img_size": 64,
    "patch_size": 1,
    "in_chans": 3,
    "embed_dim": 90,
    "depths": (6, 6, 6, 6),
    "num_heads": (6, 6, 6, 6),
    "window_size": 8,
    "category_size": 128,
    "num_tokens": 64,
    "reducted_dim": 4,
    "convffn_kernel_size": 5,
    "mlp_ratio": 2.0,
    "qkv_bias": True,
    "ape": False,
    "patch_norm": True,
    "use_checkpoint": False,
    "upscale": 2,
    "img_range": 1.0,
    "upsampler": "",
    "resi_connection": "1conv",
    **swinir.GENERATED,
    "max_s": 4,
}

_BLOCK = r"layers\.(\d+)\.residual_group\.layers\.(\d+)"
_OURS = swinir.OUR_BLOCK


def _configure(arguments: Mapping[str, Any]) -> ModelConfig:
    options = {
        "channels": arguments["embed_dim"],
        "blocks": list(arguments["depths"]),
        "heads": list(arguments["num_heads"]),
        "window": arguments["window_size"],
        "category_size": arguments["category_size"],
        "tokens": arguments["num_tokens"],
        "reduced_channels": arguments["reducted_dim"],
        "mlp_ratio": arguments["mlp_ratio"],
        "mlp_kernel_size": arguments["convffn_kernel_size"],
        "closing": swinir.closing(arguments["resi_connection"]),
        "bias": arguments["qkv_bias"],
        "in_channels": arguments["in_chans"],
        **swinir.token_options(arguments),
    }
    return swinir.model_of("atd", options, arguments)


def _renames(arguments: Mapping[str, Any]) -> list[Rename]:
    modules = [
        (rf"{_BLOCK}\.norm([12])", rf"{_OURS}.norm\3"),
        (rf"{_BLOCK}\.norm3", rf"{_OURS}.refine"),
        (rf"{_BLOCK}\.wqkv", rf"{_OURS}.mix"),
        (rf"{_BLOCK}\.attn_win\.proj", rf"{_OURS}.project"),
        (rf"{_BLOCK}\.attn_atd\.wq", rf"{_OURS}.to_dictionary.query"),
        (rf"{_BLOCK}\.attn_atd\.wk", rf"{_OURS}.to_dictionary.key"),
        (rf"{_BLOCK}\.attn_atd\.wv", rf"{_OURS}.to_dictionary.value"),
        (rf"{_BLOCK}\.attn_aca\.proj", rf"{_OURS}.to_category.project"),
        (rf"{_BLOCK}\.convffn\.fc1", rf"{_OURS}.mlp.expand"),
        (rf"{_BLOCK}\.convffn\.dwconv\.depthwise_conv\.0", rf"{_OURS}.mlp.depthwise"),
        (rf"{_BLOCK}\.convffn\.fc2", rf"{_OURS}.mlp.reduce"),
    ]
    return [
        *prefixed(modules),
        Rename(r"layers\.(\d+)\.residual_group\.td", r"encoder.groups.\1.dictionary"),
        Rename(rf"{_BLOCK}\.sigma", rf"{_OURS}.refine.keep"),
        Rename(rf"{_BLOCK}\.attn_win\.relative_position_bias_table", rf"{_OURS}.position.table"),
        Rename(rf"{_BLOCK}\.attn_atd\.scale", rf"{_OURS}.to_dictionary.sharpness"),
        Rename(rf"{_BLOCK}\.attn_aca\.logit_scale", rf"{_OURS}.to_category.logit_scale"),
        *swinir.shared_renames(arguments),
    ]


def _infer(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    told = infer_trunk(tensors, r"wqkv\.weight", blocks_are="layers")
    first = "layers.0.residual_group.layers.0"
    table = "layers.{}.residual_group.layers.0.attn_win.relative_position_bias_table"
    told["num_heads"] = [size(tensors, table.format(group), 1) for group in range(len(told["depths"]))]
    told["window_size"] = (root(size(tensors, table.format(0))) + 1) // 2
    told["num_tokens"] = size(tensors, "layers.0.residual_group.td")
    told["reducted_dim"] = size(tensors, f"{first}.attn_atd.wq.weight")
    told["convffn_kernel_size"] = size(tensors, f"{first}.convffn.dwconv.depthwise_conv.0.weight", 2)
    told["mlp_ratio"] = ratio(size(tensors, f"{first}.convffn.fc1.weight"), told["embed_dim"])
    told["qkv_bias"] = f"{first}.wqkv.bias" in tensors
    head, assumed = infer_head(tensors, told["embed_dim"], told["in_chans"])
    light = head["upsampler"] == "pixelshuffledirect"
    assumed |= {"category_size": 128 if light else 256, "img_range": 1.0}
    if head["upsampler"] == "igconv+igsample":
        assumed["max_s"] = 4
    return {**told, **head}, assumed


FOREIGN = [Foreign("ATD", _DEFAULTS, _configure, _renames, swinir.IGNORED, infer=_infer)]
