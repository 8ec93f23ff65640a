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

_OVERLAP = r"layers\.(\d+)\.residual_group\.overlap_attn"


def _configure(arguments: Mapping[str, Any]) -> ModelConfig:
    swinir.check_plain("HAT", arguments)
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

FOREIGN = [Foreign("HAT", _DEFAULTS, _configure, _renames, swinir.IGNORED)]
