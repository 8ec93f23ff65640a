"""KRGN: the costs of its presets, and CFGN's released weights with their published numbers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

import polyres
from polyres.data import find_pairs
from polyres.encoders import ENCODERS
from polyres.encoders.krgn import KRGN
from polyres.errors import ConfigError
from polyres.evaluation import evaluate
from polyres.evaluation.models import model_upscaler
from polyres.evaluation.quadrants import in_quadrants
from polyres.layers import recalibrate
from polyres.scale import Scale
from polyres.weights import load

SCALES = (2, 3, 4)

#: Options on top of the preset's: thousands of parameters with SPConv, and multiply-adds per LR pixel.
COSTS = {
    "A, as released": ("krgn", {}, (600_532, 609_187, 621_304), (568_000, 576_640, 588_736)),
    "B, no attention": ("krgn-noattention", {}, (590_668, 599_323, 611_440), (568_000, 576_640, 588_736)),
    "C, one slope": ("krgn", {"branch_activation": "leaky"}, (590_164, 598_819, 610_936), None),
    "E, head not gathered": ("krgn", {"gather_head": False}, (596_436, 605_091, 617_208), None),
    "K, 8 blocks": ("krgn", {"blocks": 8}, (539_340, 547_995, 560_112), None),
    "L, 10 blocks": ("krgn", {"blocks": 10}, (661_724, 670_379, 682_496), None),
    "O, depthwise": ("krgn", {"groups": 64}, (507_220, 515_875, 527_992), None),
    "W, as drawn": ("krgn-figure", {}, (590_164, 598_819, 610_936), (557_632, 566_272, 578_368)),
}


def model_of(encoder: str, scales: Sequence[int], **options: object) -> polyres.SRModel:
    parts = {
        "encoder": {"name": encoder, "options": options},
        "upsampler": {"name": "spconv", "options": {"scales": list(scales)}},
    }
    return polyres.build(polyres.ModelConfig.model_validate(parts))


def multiply_adds(network: nn.Module) -> int:
    """Per LR pixel, of the convolutions that run at every pixel."""
    return sum(
        conv.weight.numel()
        for name, conv in network.named_modules()
        if isinstance(conv, nn.Conv2d) and "attention" not in name
    )


@pytest.mark.parametrize("case", COSTS)
def test_fused_costs_are_the_specified_ones(case: str) -> None:
    preset, options, parameters, operations = COSTS[case]
    if not case.startswith("A"):
        options = {**options, "recalibration": "none"}  # nothing is left of it anyway, and plain is faster
    with torch.device("meta"):
        model = model_of(preset, SCALES, **options)
        fused = [polyres.fuse(model, scale) for scale in SCALES]
    assert tuple(sum(p.numel() for p in network.parameters()) for network in fused) == parameters
    if operations is not None:
        assert tuple(multiply_adds(network) for network in fused) == operations


def test_training_takes_a_dense_convolutions_parameters_more_for_each_kernel() -> None:
    with torch.device("meta"):
        model = model_of("krgn", [4])
    assert sum(p.numel() for p in model.parameters()) == 6_593_272 == 621_304 + 162 * 36_864


def test_without_attention_the_context_is_finite() -> None:
    with torch.device("meta"):
        assert ENCODERS.make("krgn-noattention").context == 9 * (27 + 1) + 2
        assert ENCODERS.make("krgn").context is None


@pytest.mark.parametrize(
    "options", [{"channels": 7}, {"blocks": 0}, {"branch_activation": "tanh"}, {"groups": 5}]
)
def test_refuses_structures_that_do_not_exist(options: dict) -> None:
    with pytest.raises(ConfigError):
        ENCODERS.make("krgn", **options)


def test_a_picture_of_one_pixel_trains() -> None:
    torch.manual_seed(0)
    encoder = KRGN(8, blocks=1, groups_per_block=1, pairs_per_group=1, groups=4)
    encoder(torch.rand(1, 3, 1, 1)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def checkpoint(shared: Path, scale: int) -> Path:
    path = shared / "weights" / f"cfgn_x{scale}.pt"
    if not path.is_file():
        pytest.skip(f"no checkpoint {path}")
    return path


#: Every 13th row and 17th column of x4 of a random picture; Set5's numbers below vouch for the network.
GOLDEN = """0.1740 0.4783 0.3649 0.5101 0.6354 -0.0269 0.6323 0.7115 -0.0803 0.0384 -0.3977 0.8568
0.4830 0.1656 -0.0553 1.2682 0.2631 0.4028 -0.2492 -0.0377 0.4295 0.1654 0.5484 1.0731
0.3461 1.0745 0.1871 1.0134 0.5203 0.4610 0.7917 0.1911 0.5296 -0.0548 0.4174 0.3006"""


def picture() -> torch.Tensor:
    return torch.rand(1, 3, 10, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("network_g", [None, {"type": "CFGN", "scale": [4]}, {"type": "KRGN", "scale": 4}])
def test_released_weights_load_and_give_the_frozen_output(network_g: dict | None, shared: Path) -> None:
    model = load(checkpoint(shared, 4), network_g=network_g)
    with torch.no_grad():
        output = model(picture(), 4)[0, :, ::13, ::17]
    expected = torch.tensor([float(word) for word in GOLDEN.split()]).view(3, 4, 3)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
def test_released_weights_as_a_basis_leave_the_output_bit_for_bit(layout: str, shared: Path) -> None:
    model, image = load(checkpoint(shared, 2)), picture()[..., :5, :6]
    with torch.no_grad():
        before = model(image, 2)
        recalibrate(model.encoder, layout=layout, freeze_basis=True)
        assert torch.equal(model(image, 2), before)


def test_the_range_of_values_is_read_from_the_stored_mean(
    shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tensors = torch.load(checkpoint(shared, 2), map_location="cpu", weights_only=True)
    torch.save({**tensors, "sub_mean.bias": tensors["sub_mean.bias"] / 255}, tmp_path / "unit.pt")
    with caplog.at_level(logging.INFO):
        unit, original = load(tmp_path / "unit.pt"), load(checkpoint(shared, 2))
    assert (unit.value_range, original.value_range) == (1, 255)
    assert "dilation=3" in caplog.text


@pytest.mark.parametrize("act", ["prelu", "identity", "relu"])
def test_other_side_activations_are_read_by_name(act: str) -> None:
    from polyres.weights.compat import FOREIGN

    reader = FOREIGN["CFGN"][0]
    config = reader.configure(reader.arguments({"act": act, "n_feats": 8, "groups": 4, "n_resgroups": 1}))
    encoder = polyres.build(config).encoder
    kind = {"prelu": nn.PReLU, "identity": nn.Identity, "relu": nn.ReLU}[act]
    assert all(isinstance(part, kind) for part in encoder.blocks[0].activations)
    with pytest.raises(ConfigError, match="gelu"):
        reader.configure(reader.arguments({"act": "gelu"}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "chopped", "psnr", "ssim"),
    [
        (2, False, 38.034, 0.9607),
        (3, False, 34.439, 0.9277),
        (4, False, 32.331, 0.8958),
        (2, True, 38.028, 0.9607),
        (3, True, 34.415, 0.9276),
        (4, True, 32.319, 0.8957),
    ],
)
def test_set5_numbers_equal_the_originals(
    scale: int, chopped: bool, psnr: float, ssim: float, shared: Path
) -> None:
    pairs = find_pairs(shared / "data" / "bench" / "Set5", [Scale.of(scale)])
    upscale = model_upscaler(Fixed(polyres.fuse(load(checkpoint(shared, scale)), scale)))
    (mean,) = evaluate(in_quadrants(upscale) if chopped else upscale, pairs, "paper-y").means()
    assert mean.psnr == pytest.approx(psnr, abs=0.005)
    assert mean.ssim == pytest.approx(ssim, abs=0.0002)


class Fixed(nn.Module):
    """A fused model called like any other; channels last, where grouped convolutions are twice as fast."""

    def __init__(self, fused: nn.Module) -> None:
        super().__init__()
        self.fused = fused

    def forward(self, image: torch.Tensor, scale: Scale) -> torch.Tensor:
        return self.fused(image.to(memory_format=torch.channels_last))
