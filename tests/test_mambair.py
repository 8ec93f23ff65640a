"""MambaIR's checkpoints: the class has had two kinds of light networks under one name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from polyres.encoders.mambair import MambaIR
from polyres.weights import load

OPTIONS = {"embed_dim": 30, "depths": [1, 2], "d_state": 3, "mlp_ratio": 1.2, "upscale": 3}


def checkpoint(
    scan: dict[str, tuple[int, ...]], branch: dict[str, tuple[int, ...]]
) -> dict[str, torch.Tensor]:
    """A light network's state as the original stores it, with these branches in each block."""
    shapes: dict[str, tuple[int, ...]] = {
        "conv_first.weight": (30, 3, 3, 3),
        "upsample.0.weight": (27, 30, 3, 3),
        "upsample.0.bias": (27,),
        **{f"{name}.weight": (30,) for name in ("patch_embed.norm", "norm")},
        **{f"{name}.bias": (30,) for name in ("conv_first", "patch_embed.norm", "norm", "conv_after_body")},
        "conv_after_body.weight": (30, 30, 3, 3),
    }
    for group, depth in enumerate(OPTIONS["depths"]):
        shapes |= {f"layers.{group}.conv.weight": (30, 30, 3, 3), f"layers.{group}.conv.bias": (30,)}
        for block in range(depth):
            prefix = f"layers.{group}.residual_group.blocks.{block}"
            shapes |= {f"{prefix}.{name}": (30,) for name in ("skip_scale", "skip_scale2")}
            shapes |= {f"{prefix}.ln_{i}.{kind}": (30,) for i in (1, 2) for kind in ("weight", "bias")}
            shapes |= {f"{prefix}.self_attention.{name}": shape for name, shape in scan.items()}
            shapes |= {f"{prefix}.conv_blk.cab.{name}": shape for name, shape in branch.items()}
    generator = torch.Generator().manual_seed(0)
    return {key: torch.rand(shape, generator=generator) * 0.1 for key, shape in shapes.items()}


SCAN = {
    "x_proj_weight": (4, 8, 36),
    "dt_projs_weight": (4, 36, 2),
    "dt_projs_bias": (4, 36),
    "A_logs": (144, 3),
    "Ds": (144,),
    "in_proj.weight": (72, 30),
    "conv2d.weight": (36, 1, 3, 3),
    "conv2d.bias": (36,),
    "out_norm.weight": (36,),
    "out_norm.bias": (36,),
    "out_proj.weight": (30, 36),
}


def attention(index: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{index}.attention.1.weight": (1, 30, 1, 1),
        f"{index}.attention.1.bias": (1,),
        f"{index}.attention.3.weight": (30, 1, 1, 1),
        f"{index}.attention.3.bias": (30,),
    }


FIRST_RELEASE = {
    "0.weight": (5, 30, 3, 3),
    "0.bias": (5,),
    "2.weight": (30, 5, 3, 3),
    "2.bias": (30,),
    **attention(3),
}
PRESENT = {
    "0.weight": (15, 30, 1, 1),
    "0.bias": (15,),
    "1.weight": (15, 1, 3, 3),
    "1.bias": (15,),
    "3.weight": (30, 15, 1, 1),
    "3.bias": (30,),
    "4.weight": (30, 1, 3, 3),
    "4.bias": (30,),
    **attention(5),
}


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("branch", "kind"), [(FIRST_RELEASE, "dense"), (PRESENT, "depthwise")])
def test_both_kinds_of_light_networks_load(branch: dict, kind: str, named: bool, tmp_path: Path) -> None:
    path = tmp_path / "light.pth"
    torch.save({"params": checkpoint(SCAN, branch)}, path)
    network_g = {"type": "MambaIR", "upsampler": "pixelshuffledirect", **OPTIONS} if named else None
    model = load(path, network_g=network_g)
    assert model.config is not None
    assert model.config.encoder.options["convolution"] == kind
    assert model.config.encoder.options["blocks"] == [1, 2]
    with torch.no_grad():
        assert model(torch.rand(1, 3, 5, 6), 3).shape == (1, 3, 15, 18)


def test_refuses_options_that_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="dense"):
        MambaIR(channels=30, blocks=[1], convolution="fast")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reduction"):
        MambaIR(channels=16, blocks=[1])
