"""SRFormer checkpoints: the fixed-scale original and the IGConv repository's class share one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polyres.model import ModelConfig
from polyres.weights.compat import swinir
from polyres.weights.compat.base import Foreign, Rename
from polyres.weights.compat.heads import prefixed
from polyres.weights.compat.shapes import Tensors
from polyres.weights.compat.swin_shapes import infer_head, infer_training_size, infer_trunk, infer_windows


def _configure(arguments: Mapping[str, Any]) -> ModelConfig:
    return swinir.model_of("srformer", swinir.encoder_options(_rounded(arguments)), arguments)


def _rounded(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """``arguments`` with ``img_size`` rounded up to whole windows, as the original does."""
    window, size = arguments["window_size"], arguments["img_size"]
    sides = size if isinstance(size, Sequence) else (size, size)
    return {**arguments, "img_size": [-(-side // window) * window for side in sides]}


def _renames(arguments: Mapping[str, Any]) -> list[Rename]:
    own = [
        (rf"{swinir.BLOCK}\.attn\.q", rf"{swinir.OUR_BLOCK}.attention.query"),
        (rf"{swinir.BLOCK}\.attn\.kv", rf"{swinir.OUR_BLOCK}.attention.keys"),
        (rf"{swinir.BLOCK}\.mlp\.dwconv\.depthwise_conv\.0", rf"{swinir.OUR_BLOCK}.mlp.depthwise"),
    ]
    return [*prefixed(own), *swinir.shared_renames(arguments)]


_DEFAULTS = {**swinir.COMMON, "upsampler": "igconv", **swinir.GENERATED}


def _infer(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    told = infer_trunk(tensors, r"attn\.kv\.weight")
    windows = infer_windows(tensors, told, half=True)
    head, assumed = infer_head(tensors, told["embed_dim"], told["in_chans"])
    trained, guessed = infer_training_size(tensors, windows["window_size"])
    return {**told, **windows, **head, **trained}, {**assumed, **guessed, "img_range": 1.0}


FOREIGN = [Foreign("SRFormer", _DEFAULTS, _configure, _renames, swinir.IGNORED, infer=_infer)]
