"""Fusing makes a new plain module and leaves the model as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import polyres
from polyres.layers.folding import fold


def model(upsampler: str, **options: object) -> polyres.SRModel:
    torch.manual_seed(0)
    parts = {
        "encoder": {"name": "edsr", "options": {"channels": 8, "blocks": 2}},
        "upsampler": {"name": upsampler, "options": options},
        "mean": [0.45, 0.44, 0.4],
    }
    return polyres.build(polyres.ModelConfig.model_validate(parts))


class Doubled(nn.Module):
    """A parametrisation: the weight used is twice the weight stored."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


class TwoConvolutions(nn.Module):
    """A foldable block: a convolution and a 1x1 convolution, added."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.wide(features) + self.narrow(features)

    def folded(self) -> nn.Module:
        conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        with torch.no_grad():
            conv.weight.copy_(self.wide.weight + nn.functional.pad(self.narrow.weight, (1, 1, 1, 1)))
        return conv


@pytest.mark.parametrize("upsampler", ["igconv", "igconv+", "spconv", "spconv+"])
@pytest.mark.parametrize("scale", [2, 3])
def test_fused_equals_the_model(upsampler: str, scale: int) -> None:
    network = model(upsampler).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fused = polyres.fuse(network, scale)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    image = torch.rand(1, 3, 11, 6)
    with torch.no_grad():
        assert (fused(image) - network.eval()(image, scale)).abs().max() < 1e-5
    assert not any(p.requires_grad for p in fused.parameters())
    storages = {p.untyped_storage().data_ptr() for p in network.parameters()}
    assert not storages & {p.untyped_storage().data_ptr() for p in fused.parameters()}


def test_fused_upsampler_is_one_convolution() -> None:
    fused = polyres.fuse(model("igconv+"), 3)
    convolutions = [m for m in fused.upsampler.modules() if isinstance(m, nn.Conv2d)]
    assert [tuple(c.weight.shape) for c in convolutions] == [(15 * 9, 8, 3, 3)]
    assert sum(p.numel() for p in fused.upsampler.parameters()) == 15 * 9 * 8 * 9


def test_parametrised_weights_and_foldable_blocks_become_plain() -> None:
    block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), TwoConvolutions())
    parametrize.register_parametrization(block[0], "weight", Doubled())
    features = torch.randn(1, 4, 6, 6)
    plain = fold(block)
    assert [type(child) for child in plain] == [nn.Conv2d, nn.Conv2d]
    assert set(plain.state_dict()) == {"0.weight", "0.bias", "1.weight"}
    assert torch.allclose(plain(features), block(features), atol=1e-6)
    assert parametrize.is_parametrized(block[0])


def test_context_is_the_sum_of_the_parts() -> None:
    network = model("igconv", base="bilinear").eval()
    assert network.context == (2 + 2 * 2) + 1
    image = torch.rand(1, 3, 20, 20)
    changed = image.clone()
    changed[..., 10, 10] += 0.5
    with torch.no_grad():
        difference = (network(changed, 2) - network(image, 2)).abs().amax(dim=(0, 1))
    touched = difference.nonzero()
    # The changed pixel covers output rows 20 and 21; nothing further than the context may move.
    assert touched.min() >= 20 - 2 * network.context
    assert touched.max() <= 21 + 2 * network.context
    assert touched.min() <= 20 - 2 * (network.context - 1)
    assert model("igconv+").context is None


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (3, 2)])
def test_smallest_pictures_work(size: tuple[int, int]) -> None:
    network = model("igconv+").eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, *size), "5/2").shape[-2:] == polyres.Scale.of("5/2").output_size(
            *size
        )


def test_bfloat16_keeps_the_last_sum_in_float32() -> None:
    network = model("igconv", base="bilinear").eval()
    for parameter in network.upsampler.parameters():
        nn.init.zeros_(parameter)
    network.mean = (0.0,)
    image = torch.rand(1, 3, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = network(image, 2)
    assert output.dtype == torch.float32
    expected = nn.functional.interpolate(image, scale_factor=2, mode="bilinear")
    assert (output - expected).abs().max() < 1e-6
