"""What the shapes of a checkpoint of SwinIR, or of a network built on its trunk, say about its options."""

from __future__ import annotations

import re
from typing import Any

from polyres.weights.compat.shapes import (
    NotThisNetworkError,
    Tensors,
    count,
    direct_scale,
    generator,
    has_sampler,
    size,
    staged_scale,
)


def infer_trunk(tensors: Tensors, of_block: str) -> dict[str, Any]:
    """Widths, depths and closing convolutions; ``of_block`` is a key that every block has one of, after its prefix.

    Raises:
        NotThisNetworkError: no such trunk.
    """
    pattern = re.compile(rf"layers\.(\d+)\.residual_group\.blocks\.(\d+)\.{of_block}")
    blocks = [match.groups() for key in tensors if (match := pattern.fullmatch(key))]
    groups = sorted({int(group) for group, _ in blocks})
    if groups != list(range(len(groups))) or not groups:
        raise NotThisNetworkError(of_block)
    closings = {"conv_after_body.weight": "1conv", "conv_after_body.0.weight": "3conv"}
    return {
        "in_chans": size(tensors, "conv_first.weight", 1),
        "embed_dim": size(tensors, "conv_first.weight"),
        "depths": [sum(int(group) == index for group, _ in blocks) for index in groups],
        "resi_connection": next((name for key, name in closings.items() if key in tensors), "identity"),
    }


def infer_head(tensors: Tensors, channels: int, colours: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The head's arguments that shapes tell, and those that they cannot tell, as the released networks have them.

    Raises:
        NotThisNetworkError: no head that enlarges.
    """
    if "upsample.freq" in tensors:
        plus = has_sampler(tensors)
        told = generator(tensors, "upsample", channels)
        return {"upsampler": "igconv+igsample" if plus else "igconv", **told}, {"geo_ensemble": plus}
    if "conv_hr.weight" in tensors:
        stages = count(tensors, r"conv_up(\d)\.weight")
        return {"upsampler": "nearest+conv", "upscale": 2**stages}, {}
    if "conv_last.weight" in tensors:
        scale = staged_scale(tensors, "upsample", "conv_last")
        return {"upsampler": "pixelshuffle", "upscale": scale}, {}
    scale = direct_scale(tensors, "upsample.0", colours)
    return {"upsampler": "pixelshuffledirect", "upscale": scale}, {}
