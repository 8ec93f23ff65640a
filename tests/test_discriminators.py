"""Discriminators: the contract of the table, spectral normalisation, and the original's weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from polyres.discriminators import DISCRIMINATORS, Discriminator
from polyres.layers.spectral import SpectralNorm, follow_weights, spectral_norm


def made(name: str, **options: object) -> Discriminator:
    torch.manual_seed(0)
    return DISCRIMINATORS.make(name, **{**DISCRIMINATORS[name].tiny, **options})


@pytest.mark.parametrize("name", list(DISCRIMINATORS))
@pytest.mark.parametrize("size", [(0, 0), (11, 3), (21, 18)])
def test_pictures_of_any_size_get_scores(name: str, size: tuple[int, int]) -> None:
    network = made(name)
    rows, columns = (network.minimum_size + more for more in size)
    scores = network(torch.rand(2, 3, rows, columns))
    assert scores.shape[:2] == (2, 1)
    assert bool(scores.isfinite().all())


@pytest.mark.parametrize("name", list(DISCRIMINATORS))
def test_passes_change_nothing_and_pictures_do_not_meet(name: str) -> None:
    network, images = made(name).train(), torch.rand(3, 3, 24, 24)
    before = copy.deepcopy(network.state_dict())
    scores = network(images)
    assert torch.equal(network(images), scores)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())
    assert torch.allclose(network(images[:1]), scores[:1], atol=1e-5)
    scores.mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())


def test_normalised_weights_have_a_largest_singular_value_of_one() -> None:
    torch.manual_seed(0)
    conv = spectral_norm(nn.Conv2d(8, 6, 3, bias=False))

    def largest() -> float:
        return float(torch.linalg.matrix_norm(conv.weight.detach().flatten(1), 2))

    for _ in range(50):
        follow_weights(conv)
    assert largest() == pytest.approx(1, abs=1e-3)
    basis = conv.parametrizations.weight.original
    torch.nn.init.normal_(basis, std=9)
    stale = largest()
    for _ in range(50):
        follow_weights(conv)
    assert abs(largest() - 1) < 1e-3 < abs(stale - 1)


def test_gradients_go_through_the_norm() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    norm = SpectralNorm(weight).double()
    assert torch.autograd.gradcheck(norm, (weight,))
    (slope,) = torch.autograd.grad(norm(weight).sum(), weight)
    assert (slope * weight).sum().abs() < 1e-9  # making the weight longer changes nothing


@pytest.mark.parametrize("skip", [True, False])
def test_weights_of_the_original_are_translated(skip: bool) -> None:
    network = made("unet", skip=skip)
    names = ["first", "down.0", "down.1", "down.2", "up.0", "up.1", "up.2", "refine.0", "refine.1", "last"]
    original = {}
    for number, name in enumerate(names):
        layer = network.get_submodule(name)
        if number in (0, 9):
            original[f"conv{number}.weight"], original[f"conv{number}.bias"] = layer.weight, layer.bias
        else:
            original[f"conv{number}.weight_orig"] = layer.parametrizations.weight.original
            original[f"conv{number}.weight_u"] = layer.parametrizations.weight[0].left
            original[f"conv{number}.weight_v"] = layer.parametrizations.weight[0].right
    other = DISCRIMINATORS.make("unet", channels=4, skip=skip)
    other.load_state_dict(network.translated(original))
    images = torch.rand(1, 3, 16, 24)
    assert torch.equal(other(images), network(images))
    assert network.translated(network.state_dict()).keys() == network.state_dict().keys()


def test_the_way_up_sees_the_way_down_unless_it_should_not() -> None:
    images = torch.rand(1, 3, 16, 16)
    assert not torch.allclose(made("unet")(images), made("unet", skip=False)(images))


def test_the_published_size() -> None:
    # Real-ESRGAN's, by the shapes of its ten convolutions.
    dense = [
        (3, 64, 9),
        (64, 128, 16),
        (128, 256, 16),
        (256, 512, 16),
        (512, 256, 9),
        (256, 128, 9),
        (128, 64, 9),
    ]
    dense += [(64, 64, 9), (64, 64, 9), (64, 1, 9)]
    network = DISCRIMINATORS.make("unet")
    assert sum(p.numel() for p in network.parameters()) == sum(a * b * k for a, b, k in dense) + 64 + 1
