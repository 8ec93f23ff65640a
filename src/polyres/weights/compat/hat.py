"""HAT checkpoints: the fixed-scale original and the IGConv repository's class share one name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polyres.model import ModelConfig
from polyres.weights.compat import swinir
from polyres.weights.compat.base import Foreign, Rename
from polyres.weights.compat.heads import prefixed
from polyres.weights.compat.shapes import Tensors, ratio, root, size
from polyres.weights.compat.swin_shapes import infer_head, infer_trunk, infer_windows

_OVERLAP = r"layers\.(\d+)\.residual_group\.overlap_attn"


def _configure(arguments: Mapping[str, Any]) -> ModelConfig:
    options = {
        **swinir.encoder_options(arguments),
        "overlap": arguments["overlap_ratio"],
        "compression": arguments["compress_ratio"],
        "reduction": arguments["squeeze_factor"],
        "convolution_scale": arguments["conv_scale"],
    }
    return swinir.model_of("hat", options, arguments)


def _renames(arguments: Mapping[str, Any]) -> list[Rename]:
    own = [
        (rf"{swinir.BLOCK}\.attn\.qkv", rf"{swinir.OUR_BLOCK}.attention.mix"),
        (rf"{swinir.BLOCK}\.conv_block\.cab\.([02])", rf"{swinir.OUR_BLOCK}.convolution.\3"),
        (rf"{swinir.BLOCK}\.conv_block\.cab\.3\.attention\.1", rf"{swinir.OUR_BLOCK}.convolution.3.squeeze"),
        (rf"{swinir.BLOCK}\.conv_block\.cab\.3\.attention\.3", rf"{swinir.OUR_BLOCK}.convolution.3.excite"),
    ]
    return [*prefixed(own), *_overlap_renames(arguments), *swinir.shared_renames(arguments)]


def _overlap_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    """Keys of the overlapping attention, which is the last block of its group here."""
    window = arguments["window_size"]
    larger = window + int(window * arguments["overlap_ratio"])
    names = {
        "qkv": "attention.mix",
        "proj": "attention.project",
        "mlp.fc1": "mlp.expand",
        "mlp.fc2": "mlp.reduce",
    }

    def ours(match: re.Match[str]) -> str:
        group, name, kind = match.groups()
        return (
            f"encoder.groups.{group}.blocks.{arguments['depths'][int(group)]}.{names.get(name, name)}.{kind}"
        )

    def table(match: re.Match[str]) -> str:
        return (
            f"encoder.groups.{match[1]}.blocks.{arguments['depths'][int(match[1])]}.attention.position.table"
        )

    def reordered(tensor: Tensor) -> Tensor:
        # Theirs counts key minus query from an offset that leaves some indices negative, and these wrap around;
        # ours counts query minus key from zero.
        return tensor.roll((larger - 2) * (window + larger), 0).flip(0)

    return [
        Rename(rf"{_OVERLAP}\.relative_position_bias_table", table, reordered),
        Rename(rf"{_OVERLAP}\.([\w.]+)\.(weight|bias)", ours),
    ]


_DEFAULTS = {
    **swinir.COMMON,
    "compress_ratio": 3,
    "squeeze_factor": 30,
    "conv_scale": 0.01,
    "overlap_ratio": 0.5,
    **swinir.GENERATED,
}


def _infer(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    told = infer_trunk(tensors, r"attn\.qkv\.weight")
    windows = infer_windows(tensors, told)
    channels, window = told["embed_dim"], windows["window_size"]
    group = "layers.0.residual_group"
    branch = f"{group}.blocks.0.conv_block.cab"
    offsets = root(size(tensors, f"{group}.overlap_attn.relative_position_bias_table"))
    told["overlap_ratio"] = ratio(offsets + 1 - 2 * window, window)
    told["compress_ratio"] = channels // size(tensors, f"{branch}.0.weight")
    told["squeeze_factor"] = channels // size(tensors, f"{branch}.3.attention.1.weight")
    head, assumed = infer_head(tensors, channels, told["in_chans"])
    assumed |= {"img_size": max(64, 2 * window), "conv_scale": 0.01, "img_range": 1.0}
    return {**told, **windows, **head}, assumed


FOREIGN = [Foreign("HAT", _DEFAULTS, _configure, _renames, swinir.IGNORED, infer=_infer)]
