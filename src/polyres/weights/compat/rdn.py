"""RDN checkpoints of EDSR-PyTorch (also through LIIF) and of the IGConv repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polyres.errors import ConfigError
from polyres.model import ModelConfig, PartConfig
from polyres.weights.compat.base import Foreign, Rename
from polyres.weights.compat.heads import ig_config, ig_renames, prefixed
from polyres.weights.compat.shapes import Tensors, count, expect_sampler, generator, size, staged_scale

#: ``RDNconfig`` by name: dense blocks, convolutions in each, channels that each of them adds. A and B are the
#: paper's; S and T are the small ones that the reference recordings added.
_CONFIGURATIONS: dict[str, Any] = {"A": (20, 6, 32), "B": (16, 8, 64), "S": (2, 3, 12), "T": (3, 2, 8)}

_COMMON: dict[str, Any] = {"G0": 64, "RDNkSize": 3, "RDNconfig": "B", "n_colors": 3, **_CONFIGURATIONS}
_FIXED: dict[str, Any] = {**_COMMON, "scale": 2, "no_upsampling": False}
_GENERATED: dict[str, Any] = {
    **_COMMON,
    "sk_kernel_size": 3,
    "implicit_dim": 256,
    "latent_layers": 4,
    "geo_ensemble": False,
}
_GENERATED_PLUS: dict[str, Any] = {**_GENERATED, "max_s": 4, "return_skip": False}

_ENCODER = prefixed(
    [
        (r"SFENet1", "encoder.head"),
        (r"SFENet2", "encoder.shallow"),
        (r"RDBs\.(\d+)\.convs\.(\d+)\.conv\.0", r"encoder.blocks.\1.layers.\2"),
        (r"RDBs\.(\d+)\.LFF", r"encoder.blocks.\1.fusion"),
        (r"GFF\.0", "encoder.fusion"),
        (r"GFF\.1", "encoder.tail"),
    ]
)


def _sizes(arguments: Mapping[str, Any]) -> tuple[int, int, int]:
    """Blocks, layers and growth of ``RDNconfig``: a name, or the three numbers themselves."""
    config = arguments["RDNconfig"]
    numbers = arguments.get(config) if isinstance(config, str) else config
    if not isinstance(numbers, Sequence) or len(numbers) != 3:
        raise ConfigError(
            f"network_g: RDNconfig is one of {', '.join(_CONFIGURATIONS)} or [blocks, layers, growth]; got {config!r}"
        )
    blocks, layers, growth = numbers
    return int(blocks), int(layers), int(growth)


def _model(arguments: Mapping[str, Any], upsampler: PartConfig) -> ModelConfig:
    blocks, layers, growth = _sizes(arguments)
    encoder = {
        "channels": arguments["G0"],
        "blocks": blocks,
        "layers": layers,
        "growth": growth,
        "kernel_size": arguments["RDNkSize"],
        "in_channels": arguments["n_colors"],
    }
    return ModelConfig(encoder=PartConfig(name="rdn", options=encoder), upsampler=upsampler)


def _scale(arguments: Mapping[str, Any]) -> int:
    """The first of the scales, which EDSR-PyTorch's command line gives as a list."""
    scale = arguments["scale"]
    return int(scale[0] if isinstance(scale, Sequence) else scale)


def _fixed(arguments: Mapping[str, Any]) -> ModelConfig:
    if arguments["no_upsampling"]:
        raise ConfigError("network_g: an RDN with no_upsampling makes features, not pictures")
    head = {
        "scales": [_scale(arguments)],
        "out_channels": arguments["n_colors"],
        "stage_channels": _sizes(arguments)[2],
        "kernel_size": arguments["RDNkSize"],
    }
    return _model(arguments, PartConfig(name="spconv+", options=head))


def _fixed_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    """Stages and last convolution are one list there, in which every second entry is a shuffle."""
    ours, stages = f"upsampler.heads.x{_scale(arguments)}", {2: 1, 3: 1, 4: 2}.get(_scale(arguments), 0)
    head = [
        (rf"UPNet\.{2 * i}", f"{ours}.stages.{i}" if i < stages else f"{ours}.last")
        for i in range(stages + 1)
    ]
    return [*_ENCODER, *prefixed(head)]


def _plus(arguments: Mapping[str, Any]) -> ModelConfig:
    head = ig_config(arguments, plus=True, colours=arguments["n_colors"], max_scale=arguments["max_s"])
    return _model(arguments, head)


def _generated_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    return [*_ENCODER, *ig_renames("UPNet")]


def _infer_encoder(tensors: Tensors) -> dict[str, Any]:
    return {
        "G0": size(tensors, "SFENet1.weight"),
        "n_colors": size(tensors, "SFENet1.weight", 1),
        "RDNkSize": size(tensors, "SFENet1.weight", 2),
        "RDNconfig": [
            count(tensors, r"RDBs\.(\d+)\.LFF\.weight"),
            count(tensors, r"RDBs\.0\.convs\.(\d+)\.conv\.0\.weight"),
            size(tensors, "RDBs.0.convs.0.conv.0.weight"),
        ],
    }


def _infer_fixed(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    convolutions = count(tensors, r"UPNet\.(\d+)\.weight")
    scale = staged_scale(tensors, "UPNet", f"UPNet.{2 * convolutions - 2}")
    return {**_infer_encoder(tensors), "scale": scale}, {}


def _infer_generated(tensors: Tensors, plus: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    expect_sampler(tensors, plus)
    told = _infer_encoder(tensors)
    told |= generator(tensors, "UPNet", told["G0"])
    return told, {"geo_ensemble": plus, **({"max_s": 4} if plus else {})}


FOREIGN = [
    Foreign("RDN", _FIXED, _fixed, _fixed_renames, infer=_infer_fixed),
    Foreign(
        "RDNIG",
        _GENERATED,
        lambda a: _model(a, ig_config(a, plus=False)),
        _generated_renames,
        infer=lambda tensors: _infer_generated(tensors, plus=False),
    ),
    Foreign(
        "RDNIGPlus",
        _GENERATED_PLUS,
        _plus,
        _generated_renames,
        infer=lambda tensors: _infer_generated(tensors, plus=True),
    ),
]
