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
    ratio,
    root,
    size,
    staged_scale,
)


def infer_trunk(tensors: Tensors, of_block: str, blocks_are: str = "blocks") -> dict[str, Any]:
    """Widths, depths and closing convolutions; ``of_block`` is a key that every block has one of, after its prefix.

    ``blocks_are`` is what the class calls a group's list of blocks.

    Raises:
        NotThisNetworkError: no such trunk.
    """
    pattern = re.compile(rf"layers\.(\d+)\.residual_group\.{blocks_are}\.(\d+)\.{of_block}")
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


def infer_windows(tensors: Tensors, told: dict[str, Any], half: bool = False) -> dict[str, Any]:
    """Heads, window and widths of window attention, beside what :func:`infer_trunk` told.

    ``half``: the table of relative positions is that of half the window's side.
    """
    first = "layers.0.residual_group.blocks.0"
    table = "layers.{}.residual_group.blocks.0.attn.relative_position_bias_table"
    side = (root(size(tensors, table.format(0))) + 1) // 2
    return {
        "num_heads": [size(tensors, table.format(group), 1) for group in range(len(told["depths"]))],
        "window_size": 2 * side if half else side,
        "mlp_ratio": ratio(size(tensors, f"{first}.mlp.fc1.weight"), told["embed_dim"]),
        "qkv_bias": any(f"{first}.attn.{name}.bias" in tensors for name in ("qkv", "q")),
    }


def infer_training_size(tensors: Tensors, window: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """``img_size`` as the stored masks tell it, or else as the released networks have it.

    A file with stored indices but no mask is of a network that never shifts its windows.
    """
    masks = [key for key in tensors if key.endswith(".attn_mask")]
    if masks:
        return {"img_size": root(size(tensors, masks[0])) * window}, {}
    if any(key.endswith("relative_position_index") for key in tensors):
        return {"img_size": window}, {}
    return {}, {"img_size": max(64, 2 * window)}
