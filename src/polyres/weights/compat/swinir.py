"""SwinIR checkpoints, fixed-scale and of the IGConv repository, and what the networks after SwinIR share with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from polyres.errors import ConfigError
from polyres.model import ModelConfig, PartConfig
from polyres.weights.compat.base import DIV2K_MEAN, Foreign, Rename
from polyres.weights.compat.heads import (
    direct_renames,
    ig_config,
    ig_renames,
    nearest_renames,
    prefixed,
    staged_renames,
)
from polyres.weights.compat.shapes import NotThisNetworkError, Tensors
from polyres.weights.compat.swin_shapes import infer_head, infer_training_size, infer_trunk, infer_windows

#: Arguments of the whole family, with their defaults.
COMMON: dict[str, Any] = {
    "img_size": 64,
    "patch_size": 1,
    "in_chans": 3,
    "embed_dim": 96,
    "depths": (6, 6, 6, 6),
    "num_heads": (6, 6, 6, 6),
    "window_size": 7,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "qk_scale": None,
    "drop_rate": 0.0,
    "attn_drop_rate": 0.0,
    "drop_path_rate": 0.1,
    "ape": False,
    "patch_norm": True,
    "use_checkpoint": False,
    "upscale": 2,
    "img_range": 1.0,
    "upsampler": "",
    "resi_connection": "1conv",
}
#: What the IGConv repository adds.
GENERATED: dict[str, Any] = {
    "sk_kernel_size": 3,
    "implicit_dim": 256,
    "latent_layers": 4,
    "geo_ensemble": True,
    "return_skip": True,
}

_CLOSINGS = {"1conv": "conv", "3conv": "bottleneck", "identity": "none"}
_GENERATORS = {"igconv": False, "igconv+igsample": True}
#: A block of a group in theirs and in ours.
BLOCK = r"layers\.(\d+)\.residual_group\.blocks\.(\d+)"
OUR_BLOCK = r"encoder.groups.\1.blocks.\2"


def training_size(arguments: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of the training pictures in tokens: ``img_size`` over ``patch_size``, each one number or two.

    Nothing else depends on ``patch_size``: whatever it is, a token is a pixel.
    """
    height, width = _pair(arguments["img_size"])
    rows, columns = _pair(arguments["patch_size"])
    return height // rows, width // columns


def _pair(size: Any) -> tuple[int, int]:
    first, second = size if isinstance(size, Sequence) else (size, size)
    return int(first), int(second)


def encoder_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the encoders of the family share.

    Training pictures of one window make the originals leave out the shift of every second block, for good.

    Raises:
        ConfigError: training pictures smaller than a window, which the originals would make smaller.
    """
    size, window = training_size(arguments), arguments["window_size"]
    if min(size) < window:
        raise ConfigError(
            f"network_g: img_size must be at least window_size; got {size[0]}x{size[1]} and {window}"
        )
    return {
        "channels": arguments["embed_dim"],
        "blocks": list(arguments["depths"]),
        "heads": list(arguments["num_heads"]),
        "window": arguments["window_size"],
        "mlp_ratio": arguments["mlp_ratio"],
        "closing": closing(arguments["resi_connection"]),
        "drop_path": arguments["drop_path_rate"],
        "bias": arguments["qkv_bias"],
        "shifted": min(size) > window,
        "attention_scale": arguments["qk_scale"] or None,
        "in_channels": arguments["in_chans"],
        **token_options(arguments),
    }


def token_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What is done to the pixels before the first group."""
    rows, columns = training_size(arguments)
    return {
        "input_norm": arguments["patch_norm"],
        "positions": rows * columns if arguments["ape"] else 0,
    }


def closing(name: str) -> str:
    """Our name of a ``resi_connection``."""
    if name not in _CLOSINGS:
        raise ConfigError(f"network_g: resi_connection is one of {', '.join(_CLOSINGS)}; got {name!r}")
    return _CLOSINGS[name]


def upsampler_of(arguments: Mapping[str, Any]) -> PartConfig:
    """The head that ``upsampler`` names.

    Raises:
        ConfigError: a name that stands for no enlarging head.
    """
    name = arguments["upsampler"]
    if name in _GENERATORS and "implicit_dim" in arguments:
        return _generated(arguments, _GENERATORS[name])
    if name not in _FIXED:
        raise ConfigError(
            f"network_g: upsampler is one of {', '.join((*_FIXED, *_GENERATORS))} "
            f"(without one the network enlarges nothing); got {name!r}"
        )
    if name == "nearest+conv" and arguments["upscale"] not in (2, 4):
        raise ConfigError(
            f"network_g: the originals' nearest+conv makes x2 or x4; got upscale={arguments['upscale']}"
        )
    ours, options = _FIXED[name]
    scales = {"scales": [arguments["upscale"]], "out_channels": arguments["in_chans"]}
    return PartConfig(name=ours, options={**scales, **options})


_FIXED: dict[str, tuple[str, dict[str, Any]]] = {
    "pixelshuffle": ("spconv+", {"channels": 64}),
    "pixelshuffledirect": ("spconv", {}),
    "nearest+conv": ("nearest+conv", {"channels": 64}),
}


def _generated(arguments: Mapping[str, Any], plus: bool) -> PartConfig:
    options: dict[str, Any] = {}
    if plus and "max_s" in arguments:  # the classes that have it hand it on to IGConv+ only
        options["max_scale"] = arguments["max_s"]
    return ig_config(arguments, plus=plus, colours=arguments["in_chans"], **options)


def model_of(encoder: str, options: Mapping[str, Any], arguments: Mapping[str, Any]) -> ModelConfig:
    """Our configuration, with ``encoder`` of these ``options``."""
    return ModelConfig(
        encoder=PartConfig(name=encoder, options=dict(options)),
        upsampler=upsampler_of(arguments),
        mean=DIV2K_MEAN if arguments["in_chans"] == 3 else (0.0,),
        value_range=arguments["img_range"],
    )


def shared_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    """Keys of the trunk, of the blocks' norms and attention, and of the head."""
    return [
        *prefixed(
            [
                (r"conv_first", "encoder.head"),
                (r"patch_embed\.norm", "encoder.norm_in"),
                (rf"{BLOCK}\.norm([12])", rf"{OUR_BLOCK}.norm\3"),
                (rf"{BLOCK}\.attn\.proj", rf"{OUR_BLOCK}.attention.project"),
                (rf"{BLOCK}\.mlp\.fc1", rf"{OUR_BLOCK}.mlp.expand"),
                (rf"{BLOCK}\.mlp\.fc2", rf"{OUR_BLOCK}.mlp.reduce"),
                (r"layers\.(\d+)\.conv((?:\.\d)?)", r"encoder.groups.\1.closing\2"),
                (r"norm", "encoder.norm_out"),
                (r"conv_after_body((?:\.\d)?)", r"encoder.tail\1"),
            ]
        ),
        Rename(rf"{BLOCK}\.attn\.relative_position_bias_table", rf"{OUR_BLOCK}.attention.position.table"),
        Rename(r"absolute_pos_embed", "encoder.positions", lambda tensor: tensor.squeeze(0)),
        *_head_renames(arguments),
    ]


def _head_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    name, scale = arguments["upsampler"], arguments["upscale"]
    if name == "pixelshuffle":
        return staged_renames("upsample", "conv_last", scale, lead="conv_before_upsample.0")
    if name == "pixelshuffledirect":
        return direct_renames("upsample.0", scale)
    if name == "nearest+conv":
        return nearest_renames(scale)
    return ig_renames("upsample")


#: Stored masks and indices, recomputed here.
IGNORED = (r".*\.attn_mask", r".*\.(aligned_)?relative_position_index", r"relative_position_index_(SA|OCA)")


def _configure(arguments: Mapping[str, Any]) -> ModelConfig:
    return model_of("swinir", encoder_options(arguments), arguments)


def _renames(arguments: Mapping[str, Any]) -> list[Rename]:
    mixed = prefixed([(rf"{BLOCK}\.attn\.qkv", rf"{OUR_BLOCK}.attention.mix")])
    return [*mixed, *shared_renames(arguments)]


def _infer(tensors: Tensors, *, generated: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    told = infer_trunk(tensors, r"attn\.qkv\.weight")
    windows = infer_windows(tensors, told)
    head, assumed = infer_head(tensors, told["embed_dim"], told["in_chans"])
    if (head["upsampler"] in _GENERATORS) != generated:
        raise NotThisNetworkError("upsample.freq")
    trained, guessed = infer_training_size(tensors, windows["window_size"])
    return {**told, **windows, **head, **trained}, {**assumed, **guessed, "img_range": 1.0}


def _foreign(name: str, defaults: Mapping[str, Any], generated: bool) -> Foreign:
    infer = partial(_infer, generated=generated)
    return Foreign(name, defaults, _configure, _renames, IGNORED, infer=infer)


FOREIGN = [
    _foreign("SwinIR", COMMON, generated=False),
    _foreign("SwinIRMS", {**COMMON, "upsampler": "igconv", **GENERATED}, generated=True),
]
