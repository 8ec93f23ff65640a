"""HiT-SR checkpoints (HiT-SIR, HiT-SNG, HiT-SRF), fixed-scale and of the IGConv repository."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from polyres.model import ModelConfig
from polyres.weights.compat.base import Foreign, Rename
from polyres.weights.compat.heads import prefixed
from polyres.weights.compat.shapes import NotThisNetworkError, Tensors, ratio, root, size
from polyres.weights.compat.swin_shapes import infer_head, infer_trunk
from polyres.weights.compat.swinir import (
    BLOCK,
    GENERATED,
    IGNORED,
    OUR_BLOCK,
    closing,
    model_of,
    shared_renames,
    token_options,
)

_COMMON: dict[str, Any] = {
    "img_size": 64,
    "patch_size": 1,
    "in_chans": 3,
    "embed_dim": 60,
    "depths": (6, 6, 6, 6),
    "num_heads": (6, 6, 6, 6),
    "base_win_size": (8, 8),
    "mlp_ratio": 2.0,
    "drop_rate": 0.0,
    "value_drop_rate": 0.0,
    "drop_path_rate": 0.0,
    "ape": False,
    "patch_norm": True,
    "use_checkpoint": False,
    "upscale": 4,
    "img_range": 1.0,
    "upsampler": "pixelshuffledirect",
    "resi_connection": "1conv",
    "hier_win_ratios": (0.5, 1, 2, 4, 6, 8),
    "expansion_factor": 2,  # stands in every released options file, but the classes take no notice of it
}

_THEIRS = rf"{BLOCK}\.correlation"
_NGRAM = rf"{_THEIRS}\.ngram_window_partition\.ngram_context"


def _configured(arguments: Mapping[str, Any], encoder: str) -> ModelConfig:
    options = {
        "channels": arguments["embed_dim"],
        "blocks": list(arguments["depths"]),
        "heads": list(arguments["num_heads"]),
        "window": list(arguments["base_win_size"]),
        "ratios": list(arguments["hier_win_ratios"]),
        "mlp_ratio": arguments["mlp_ratio"],
        "closing": closing(arguments["resi_connection"]),
        "drop_path": arguments["drop_path_rate"],
        "in_channels": arguments["in_chans"],
        **token_options(arguments),
    }
    # Whatever geo_ensemble says: the class fixes it by the kind of the upsampler.
    plus = arguments["upsampler"] == "igconv+igsample"
    return model_of(encoder, options, {**arguments, "geo_ensemble": plus})


def _of_position(match: re.Match[str]) -> str:
    """Three pieces of (norm, activation, linear), one after another here."""
    index = 1 + 3 * (int(match[3]) - 1) + int(match[4])
    return f"encoder.groups.{match[1]}.blocks.{match[2]}.correlate.position.network.{index}.{match[5]}"


def _renames(arguments: Mapping[str, Any]) -> list[Rename]:
    return [
        *prefixed(
            [
                (rf"{_THEIRS}\.qv\.conv\.(\d)", rf"{OUR_BLOCK}.extract.bottleneck.\3"),
                (rf"{_THEIRS}\.qv\.linear", rf"{OUR_BLOCK}.extract.gate"),
                (rf"{_THEIRS}\.proj", rf"{OUR_BLOCK}.correlate.project"),
                (rf"{_THEIRS}\.spatial_linear", rf"{OUR_BLOCK}.correlate.pool"),
                (rf"{_THEIRS}\.pos\.pos_proj", rf"{OUR_BLOCK}.correlate.position.network.0"),
                (rf"{_NGRAM}\.unigram_embed", rf"{OUR_BLOCK}.neighbours.summary"),
                (rf"{_NGRAM}\.ngram_attn\.qkv", rf"{OUR_BLOCK}.neighbours.attention.mix"),
                (rf"{_NGRAM}\.ngram_attn\.proj", rf"{OUR_BLOCK}.neighbours.attention.project"),
                (rf"{_NGRAM}\.merge", rf"{OUR_BLOCK}.neighbours.merge"),
                (rf"{BLOCK}\.mlp\.dwconv\.depthwise_conv\.0", rf"{OUR_BLOCK}.mlp.depthwise"),
            ]
        ),
        Rename(rf"{_THEIRS}\.pos\.pos(\d)\.(\d)\.(weight|bias)", _of_position),
        Rename(
            rf"{_NGRAM}\.ngram_attn\.relative_position_bias_table",
            rf"{OUR_BLOCK}.neighbours.attention.position.table",
        ),
        *shared_renames(arguments),
    ]


def _infer(tensors: Tensors, *, ngram: bool, depthwise: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    first = "layers.0.residual_group.blocks.0"
    context = f"{first}.correlation.ngram_window_partition.ngram_context.merge.weight"
    if (context in tensors, f"{first}.mlp.dwconv.depthwise_conv.0.weight" in tensors) != (ngram, depthwise):
        raise NotThisNetworkError(context)
    told = infer_trunk(tensors, r"correlation\.proj\.weight")
    of_heads = "layers.{}.residual_group.blocks.0.correlation.pos.pos3.2.weight"
    told["num_heads"] = [size(tensors, of_heads.format(group)) for group in range(len(told["depths"]))]
    told["mlp_ratio"] = ratio(size(tensors, f"{first}.mlp.fc1.weight"), told["embed_dim"])
    windows, guessed = _infer_windows(tensors, told["depths"])
    head, assumed = infer_head(tensors, told["embed_dim"], told["in_chans"])
    return {**told, **windows, **head}, {**guessed, **assumed, "img_range": 1.0}


def _infer_windows(tensors: Tensors, depths: list[int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The base window and the ratios to it.

    Shapes tell how many pixels each window pools into one, and the window itself where it has an n-gram context.
    """
    group = f"layers.{depths.index(max(depths))}.residual_group.blocks"
    blocks = [f"{group}.{index}.correlation" for index in range(max(depths))]
    pooled = [root(size(tensors, f"{block}.spatial_linear.weight", 1)) for block in blocks]
    unigram = f"{blocks[0]}.ngram_window_partition.ngram_context.unigram_embed.weight"
    if unigram in tensors:
        sides = [size(tensors, unigram.replace(blocks[0], block), 2) for block in blocks]
        base = max((side // n for side, n in zip(sides, pooled, strict=True) if n > 1), default=8)
        found = {"base_win_size": [base, base], "hier_win_ratios": [side / base for side in sides]}
        return (found, {}) if max(pooled) > 1 else ({}, found)
    released = [
        0.5,
        *(1.0 for _ in blocks[1:]),
    ]  # of the windows that pool nothing, the first is the small one
    ratios = [n if n > 1 else small for n, small in zip(pooled, released, strict=True)]
    found = {"base_win_size": [8, 8], "hier_win_ratios": ratios}
    return {}, found


def _foreign(
    name: str,
    encoder: str,
    defaults: Mapping[str, Any] = _COMMON,
    ngram: bool = False,
    depthwise: bool = False,
) -> Foreign:
    return Foreign(
        name,
        defaults,
        lambda arguments: _configured(arguments, encoder),
        _renames,
        IGNORED,
        infer=lambda tensors: _infer(tensors, ngram=ngram, depthwise=depthwise),
    )


FOREIGN = [
    _foreign("HiT_SIR", "hit-sir"),
    _foreign("HiT_SNG", "hit-sng", ngram=True),
    _foreign("HiT_SRF", "hit-srf", {**_COMMON, **GENERATED}, depthwise=True),
]
