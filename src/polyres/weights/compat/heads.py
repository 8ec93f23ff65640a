"""Names and layouts of the upsamplers that the original repositories share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from polyres.errors import ConfigError
from polyres.model import PartConfig
from polyres.weights.compat.base import Rename


def ig_config(
    arguments: Mapping[str, Any],
    *,
    plus: bool,
    layers: str = "latent_layers",
    colours: int = 3,
    **more: Any,
) -> PartConfig:
    """IGConv (``plus`` false) or IGConv+ as the IGConv repository configures it from a network's arguments.

    It writes three colours, whatever the picture has: ``colours``.

    Raises:
        ConfigError: IGConv+ for a picture of other than three, which the original cannot sample.
    """
    if plus and colours != 3:
        raise ConfigError(f"network_g: IGConv+ samples pictures of 3 colours; got {colours}")
    width, kernel_size = arguments["implicit_dim"], arguments.get("sk_kernel_size", 3)
    options = {
        "width": width,
        "hidden_layers": arguments[layers],
        "geometric": bool(arguments["geo_ensemble"]),
        "kernel_size": kernel_size,
    }
    if plus:
        options["sample_width"] = width // 2
        options["sample_layers"] = arguments[layers] // 2
        options["sample_kernel_size"] = kernel_size
    return PartConfig(name="igconv+" if plus else "igconv", options={**options, **more})


def ig_renames(generator: str) -> list[Rename]:
    """Keys of IGConv under the attribute ``generator`` and of IGSample, whose older name is ``dy_sampler``."""
    return [
        *_field(re.escape(generator), "upsampler.kernels", groups=1),
        *_field(r"(?:skip|dy_sampler)\.convs", "upsampler.sampler.kernels", groups=2),
    ]


def _field(theirs: str, ours: str, groups: int) -> list[Rename]:
    """One hypernetwork: 1x1 convolutions there, (grouped) matrices here; every second index is an activation."""

    def matrix(tensor: Tensor) -> Tensor:
        return tensor.reshape(groups, tensor.shape[0] // groups, -1)

    def vector(tensor: Tensor) -> Tensor:
        return tensor.reshape(groups, -1)

    def layer(kind: str) -> Any:
        return lambda match: f"{ours}.layers.{int(match[1]) // 2}.{kind}"

    return [
        Rename(rf"{theirs}\.freq", f"{ours}.frequency", lambda t: t.flatten(1)),
        Rename(rf"{theirs}\.amplitude", f"{ours}.amplitude", lambda t: t.flatten(1)),
        Rename(rf"{theirs}\.phase\.weight", f"{ours}.phase.weight", lambda t: t.flatten(1)),
        Rename(rf"{theirs}\.phase\.bias", f"{ours}.phase.bias"),
        Rename(rf"{theirs}\.query_kernel\.(\d+)\.weight", layer("weight"), matrix),
        Rename(rf"{theirs}\.query_kernel\.(\d+)\.bias", layer("bias"), vector),
    ]


def staged_renames(stages: str, last: str, scale: int, lead: str | None = None) -> list[Rename]:
    """Keys of SPConv+ at ``scale``: its stages (every second index is a shuffle), last and lead convolutions."""
    ours = f"upsampler.heads.x{scale}"
    renames = [
        Rename(
            re.escape(stages) + r"\.(\d+)\.(weight|bias)",
            lambda match: f"{ours}.stages.{int(match[1]) // 2}.{match[2]}",
        ),
        Rename(re.escape(last) + r"\.(weight|bias)", rf"{ours}.last.\1"),
    ]
    if lead is not None:
        renames.append(Rename(re.escape(lead) + r"\.(weight|bias)", rf"{ours}.lead.\1"))
    return renames


def direct_renames(conv: str, scale: int) -> list[Rename]:
    """Keys of SPConv at ``scale``."""
    return [Rename(re.escape(conv) + r"\.(weight|bias)", rf"upsampler.heads.x{scale}.conv.\1")]


def nearest_renames(scale: int) -> list[Rename]:
    """Keys of nearest+conv at ``scale``, which are named alike in every original; their stages count from 1."""
    ours = f"upsampler.heads.x{scale}"
    return [
        *prefixed(
            [
                (r"conv_before_upsample\.0", f"{ours}.lead"),
                (r"conv_hr", f"{ours}.refine"),
                (r"conv_last", f"{ours}.last"),
            ]
        ),
        Rename(r"conv_up(\d)\.(weight|bias)", lambda match: f"{ours}.stages.{int(match[1]) - 1}.{match[2]}"),
    ]


def prefixed(pairs: Sequence[tuple[str, str]]) -> list[Rename]:
    """Renames of plain modules: (their pattern, our replacement), each followed by weight or bias."""
    return [Rename(rf"{theirs}\.(?P<kind>weight|bias)", rf"{ours}.\g<kind>") for theirs, ours in pairs]
