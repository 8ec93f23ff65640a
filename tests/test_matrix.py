"""Residual blocks on matrix units: what their passes compute, and that training takes them where autocast is on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_runs import config, save_pictures

from polyres.deploy.accelerate import narrows
from polyres.layers.native import Kernels, fast_convolutions, matrix, residual
from polyres.layers.pixel_attention import PixelAttention
from polyres.training import run

#: Part of a number that its rounding to bfloat16 may take.
ROUNDING = 2**-8


def narrow(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + seed)).bfloat16()


def weighted(features: Tensor, mixture: Tensor, least: float) -> Tensor:
    return features * torch.relu(1 + mixture / (features.mean(1, keepdim=True) + least))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("channels", [16, 64])
def test_passes_are_their_formulas(
    workers: int, channels: int, each_kernels: Kernels, threads: Callable[[int], None]
) -> None:
    threads(workers)
    features, mixture, toward = (
        narrow(101, channels).relu(),
        narrow(101, channels, seed=1),
        narrow(101, channels),
    )
    features[7] = 0
    leaves = [tensor.double().requires_grad_() for tensor in (features, mixture)]
    wanted = weighted(leaves[0], leaves[1], 1e-3)
    made, share = each_kernels.narrow_attention(features, mixture, 1e-3)
    assert_rounded(made, wanted)

    of_mixture, direct = each_kernels.narrow_attention_gradient(toward, features, mixture, share)
    exact, exact_mixture = torch.autograd.grad(wanted, leaves, toward.double())
    assert_rounded(of_mixture, exact_mixture)
    assert_rounded(direct, exact)

    further, positive = narrow(101, channels, seed=3), features > 0
    assert_rounded(each_kernels.narrow_rectified(toward.clone(), features), toward.double() * positive)
    both = (toward.double() + further.double()) * positive
    assert_rounded(each_kernels.narrow_rectified(toward.clone(), features, further), both)

    wide = torch.randn(101, channels)
    assert torch.equal(each_kernels.narrow_sum(wide, toward), wide + toward)


def assert_rounded(made: Tensor, exact: Tensor) -> None:
    """To bfloat16, but for what sums of float32 lose."""
    assert made.dtype == torch.bfloat16
    exact = exact.detach()
    torch.testing.assert_close(made.double(), exact, rtol=ROUNDING, atol=1e-5 * float(exact.abs().max()))


def test_numbers_halfway_are_rounded_as_torch_rounds_them(each_kernels: Kernels) -> None:
    features = torch.ones(2, 16).bfloat16()
    mixture = torch.linspace(-3, 3, 32).bfloat16().view(2, 16)
    made, share = each_kernels.narrow_attention(features, mixture, 0.0)
    assert torch.equal(share, torch.ones(2))  # so that all before the rounding is exact
    assert torch.equal(made, torch.relu(1 + mixture.float()).bfloat16())
    sums = (torch.arange(256, dtype=torch.int32) * 0x8001 + 0x3F800000).view(torch.float32).view(16, 16)
    low = sums.bfloat16()
    rest = (sums - low.float()).bfloat16()
    ones = torch.ones_like(low)
    torch.testing.assert_close(
        each_kernels.narrow_rectified(low.clone(), ones, rest),
        (low.float() + rest.float()).bfloat16(),
        rtol=0,
        atol=0,
    )


def test_other_channels_than_vectors_hold_are_refused(kernels: Kernels) -> None:
    features = narrow(5, kernels.lanes + 1)
    with pytest.raises(ValueError, match="size or precision"):
        kernels.narrow_attention(features, features, 1e-6)


class Block(nn.Module):
    def __init__(self, channels: int, attention: bool, bias: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1, bias=bias) for _ in range(2))
        self.attention = PixelAttention(channels) if attention else None
        if self.attention is not None:
            nn.init.normal_(self.attention.mix.weight, std=0.2)

    def forward(self, features: Tensor) -> Tensor:
        return residual(self.conv1, self.conv2, features, self.attention)


def results(block: nn.Module, features: Tensor, autocast: bool, fast: bool) -> list[Tensor]:
    """What a block makes, then the gradients of the features and of its weights."""
    leaf = features.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), fast_convolutions(fast):
        made = block(leaf)
    toward = torch.randn(made.shape, generator=torch.Generator().manual_seed(1)).to(made.dtype)
    gradients = torch.autograd.grad(made, [leaf, *block.parameters()], toward)
    assert all(one.dtype == torch.float32 for one in gradients)
    return [made.detach().float(), *gradients]


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_blocks_are_as_near_to_exact_ones_as_torchs(
    attention: bool, bias: bool, last: bool, kernels: Kernels, threads: Callable[[int], None]
) -> None:
    torch.manual_seed(0)
    block, features = Block(32, attention, bias), torch.randn(2, 32, 21, 18)
    if last:
        features = features.contiguous(memory_format=torch.channels_last)
    exact, ours, theirs = (
        results(block, features, *how) for how in ((False, False), (True, True), (True, False))
    )
    for one, mine, torchs in zip(exact, ours, theirs, strict=True):
        assert 0 < (mine - one).norm() < 1.5 * (torchs - one).norm()
    for workers in (1, 3):
        threads(workers)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), fast_convolutions():
            made = block(features)
        assert made.dtype == torch.float32
        torch.testing.assert_close(made, ours[0], rtol=1e-3, atol=1e-3)


def test_features_that_need_no_gradient_get_none(kernels: Kernels) -> None:
    block = Block(16, True)
    with torch.autocast("cpu", torch.bfloat16), fast_convolutions():
        made = block(torch.randn(1, 16, 8, 8))
    made.sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())


def test_other_blocks_are_left_to_torch(monkeypatch: pytest.MonkeyPatch, kernels: Kernels) -> None:
    features, asked = torch.randn(1, 16, 8, 8), watched(monkeypatch)
    for first, second in (
        (
            nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
            nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
        ),
        (nn.Conv2d(16, 16, 1, bias=False), nn.Conv2d(16, 16, 3, padding=1, bias=False)),
        (nn.Conv2d(16, 12, 3, padding=1, bias=False), nn.Conv2d(12, 16, 3, padding=1, bias=False)),
        (nn.Conv2d(16, 16, 3, padding=1, bias=False, groups=2), nn.Conv2d(16, 16, 3, padding=1, bias=False)),
    ):
        with torch.autocast("cpu", torch.bfloat16), fast_convolutions():
            made = residual(first, second, features)
        torch.testing.assert_close(
            made.float(), features + second(first(features).relu()), rtol=0.05, atol=0.05
        )
    assert not asked


def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each block from here on."""
    asked: list[int] = []
    plain = matrix._Residual.forward

    def forward(*given: Any) -> Tensor:
        asked.append(1)
        return plain(*given)

    monkeypatch.setattr(matrix._Residual, "forward", forward)
    return asked


@pytest.mark.parametrize(
    ("options", "used"),
    [
        ({"precision": "bfloat16"}, True),
        ({"precision": "bfloat16", "fast_convolutions": False}, False),
        ({"precision": "float32"}, False),
    ],
)
def test_training_takes_them_under_autocast(
    options: dict[str, Any], used: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: Kernels
) -> None:
    monkeypatch.setattr(sys.modules[narrows.__module__], "has_narrow_products", lambda: False)
    asked = watched(monkeypatch)
    save_pictures(tmp_path)
    parts = {"channels": 16, "blocks": 2, "normalisation_equivariant": True, "attention_every": 1}
    model = {
        "encoder": {"name": "edsr-baseline", "options": parts},
        "upsampler": {"name": "igconv", "options": {"width": 8, "hidden_layers": 1, "base": "bilinear"}},
    }
    run(config(tmp_path, model=model, data={"patch": 20, "batch": 1}, steps=3, **options))
    assert len(asked) == (6 if used else 0)
