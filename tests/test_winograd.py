"""Minimal filtering computes what torch's convolutions do, gradients included, and only where it is meant to."""

from __future__ import annotations

import ctypes
import inspect
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from training_runs import config, save_pictures

import polyres
from polyres.deploy.accelerate import AcceleratedModel, accelerate, narrows
from polyres.encoders import ENCODERS
from polyres.layers import native
from polyres.layers.equivariance import exchanged
from polyres.layers.native import (
    Attention,
    Kernels,
    binding,
    compiling,
    convolve,
    fast_convolutions,
    residual,
    team,
)
from polyres.layers.native.team import torchs_team
from polyres.layers.pixel_attention import PixelAttention
from polyres.training import run

LAST = torch.channels_last


class Convolution(NamedTuple):
    """What the kernels were asked for."""

    channels: int
    opposed: bool
    narrow: bool


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, kernels: Kernels) -> list[Convolution]:
    """Every convolution that the kernels were given."""
    calls: list[Convolution] = []
    single, pair = Kernels.winograd, Kernels.winograd_residual

    def arguments(plain: Callable[..., Any], *given: Any, **options: Any) -> dict[str, Any]:
        bound = inspect.signature(plain).bind(*given, **options)
        bound.apply_defaults()
        return bound.arguments

    def one(*given: Any, **options: Any) -> Tensor:
        told = arguments(single, *given, **options)
        calls.append(Convolution(told["weight"].shape[1], told["opposed"], told["narrow"]))
        return single(*given, **options)

    def two(*given: Any, **options: Any) -> tuple[Tensor, Tensor]:
        told = arguments(pair, *given, **options)
        for weight, opposed in zip(told["weights"], told["opposed"], strict=True):
            calls.append(Convolution(weight.shape[1], opposed, told["narrow"]))
        return pair(*given, **options)

    monkeypatch.setattr(Kernels, "winograd", one)
    monkeypatch.setattr(Kernels, "winograd_residual", two)
    return calls


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


def exactly(features: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    return F.conv2d(
        features.double(), weight.double(), None if bias is None else bias.double(), padding=padding
    )


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 3),
    height=st.integers(1, 23),
    width=st.integers(1, 23),
    channels=st.integers(1, 40),
    count=st.integers(1, 70),
    padding=st.integers(0, 2),
    given_bias=st.booleans(),
)
def test_any_size_is_torchs(
    each_kernels: Kernels,
    images: int,
    height: int,
    width: int,
    channels: int,
    count: int,
    padding: int,
    given_bias: bool,
) -> None:
    assume(min(height, width) + 2 * padding >= 3)
    features = random(images, channels, height, width)
    weight, bias = random(count, channels, 3, 3) / (3 * channels**0.5), random(count) if given_bias else None
    made = each_kernels.winograd(features, weight, bias, padding)
    expected = exactly(features, weight, bias, padding)
    torch.testing.assert_close(made.double(), expected, rtol=1e-5, atol=1e-5)
    gradient = random(*made.shape, seed=1)
    found = each_kernels.winograd_weight(features, gradient, padding)
    wanted = torch.nn.grad.conv2d_weight(features.double(), weight.shape, gradient.double(), padding=padding)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def with_opposites(kernel: Tensor) -> Tensor:
    """The mean of ``kernel`` and what the negative makes of it."""
    return (kernel + exchanged(kernel, [0, 1])) / 2


@settings(max_examples=25, deadline=None)
@given(
    images=st.integers(1, 3),
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    channels=st.sampled_from([64, 128]),
    count=st.sampled_from([64, 128, 192]),
    padding=st.integers(0, 2),
    slope=st.sampled_from([0, 0.1, 1]),
    added=st.booleans(),
)
def test_opposites_take_half_of_the_products(
    each_kernels: Kernels,
    images: int,
    height: int,
    width: int,
    channels: int,
    count: int,
    padding: int,
    slope: float,
    added: bool,
) -> None:
    assume(min(height, width) + 2 * padding >= 3)
    features, bias = random(images, channels, height, width), random(count)
    weight = with_opposites(random(count, channels, 3, 3)) / (3 * channels**0.5)
    expected = F.leaky_relu(exactly(features, weight, bias, padding), slope)
    more = random(*expected.shape, seed=2) if added else None
    made = each_kernels.winograd(features, weight, bias, padding, slope, more, opposed=True)
    expected += 0 if more is None else more
    torch.testing.assert_close(made.double(), expected, rtol=1e-5, atol=1e-5)
    gradient = random(*made.shape, seed=1)
    found = each_kernels.winograd_weight(features, gradient, padding, opposed=True)
    wanted = with_opposites(
        torch.nn.grad.conv2d_weight(features.double(), weight.shape, gradient.double(), padding=padding)
    )
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@pytest.fixture(scope="module")
def narrow_kernels(kernels: Kernels) -> Kernels:
    if not kernels.has_bfloat16:
        pytest.skip("needs a processor that multiplies pairs of bfloat16")
    return kernels


def within_bfloat16(found: Tensor, exact: Tensor, squares: Tensor) -> bool:
    """Off by no more than rounding to bfloat16 makes; squares: what ``exact`` is for squared factors.

    A channel or a tile left out would be off by a sixth or more.
    """
    return bool((found - exact).square().sum() <= 0.04**2 * squares.sum())


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 3),
    height=st.integers(1, 15),
    width=st.integers(1, 15),
    sizes=st.one_of(
        st.tuples(st.integers(1, 40), st.integers(1, 70), st.just(False)),
        st.tuples(st.sampled_from([64, 128]), st.sampled_from([64, 192]), st.just(True)),
    ),
    padding=st.integers(0, 2),
)
def test_products_of_bfloat16_are_off_by_their_roundings(
    narrow_kernels: Kernels, images: int, height: int, width: int, sizes: tuple[int, int, bool], padding: int
) -> None:
    assume(min(height, width) + 2 * padding >= 3)
    channels, count, opposed = sizes
    features, weight = random(images, channels, height, width), random(count, channels, 3, 3)
    weight = with_opposites(weight) if opposed else weight
    made = narrow_kernels.winograd(features, weight, padding=padding, opposed=opposed, narrow=True)
    squares = exactly(features**2, weight**2, None, padding)
    assert within_bfloat16(made, exactly(features, weight, None, padding), squares)
    assert not torch.equal(made, narrow_kernels.winograd(features, weight, padding=padding, opposed=opposed))

    def of_weight(features: Tensor, gradient: Tensor) -> Tensor:
        size = (count, channels, 3, 3)
        found = torch.nn.grad.conv2d_weight(features.double(), size, gradient.double(), padding=padding)
        return with_opposites(found) if opposed else found

    gradient = random(*made.shape, seed=1)
    found = narrow_kernels.winograd_weight(features, gradient, padding, opposed, narrow=True)
    assert within_bfloat16(found, of_weight(features, gradient), of_weight(features**2, gradient**2))


def test_products_of_bfloat16_repeat_exactly(narrow_kernels: Kernels, threads: Callable[[int], None]) -> None:
    """However the tiles are dealt out, and for a part of a picture as for the whole."""
    features, weight = random(3, 16, 44, 37), random(24, 16, 3, 3)
    alone = narrow_kernels.winograd(features, weight, narrow=True)
    part = narrow_kernels.winograd(features[:, :, 8:], weight, narrow=True)
    assert torch.equal(part[:, :, 4:], alone[:, :, 12:])
    threads(3)
    assert torch.equal(narrow_kernels.winograd(features, weight, narrow=True), alone)
    gradient = random(*alone.shape, seed=1)
    first, second = (narrow_kernels.winograd_weight(features, gradient, narrow=True) for _ in range(2))
    assert torch.equal(first, second)


def test_products_of_bfloat16_only_where_there_are_some(each_kernels: Kernels) -> None:
    if each_kernels.has_bfloat16:
        pytest.skip("this processor has them")
    features, weight = random(1, 16, 9, 9), random(16, 16, 3, 3)
    with pytest.raises(ValueError, match="made for"):
        each_kernels.winograd(features, weight, narrow=True)
    with pytest.raises(ValueError, match="made for"):
        each_kernels.winograd_weight(features, random(1, 16, 9, 9), narrow=True)


@pytest.mark.parametrize("channels", [20, 64])
def test_a_block_may_ask_for_products_of_bfloat16(narrow_kernels: Kernels, channels: int) -> None:
    """Forward and back, in single convolutions and in residual blocks, where small values pass a ReLU or do not."""
    first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def results(narrow: bool, whole: bool) -> list[Tensor]:
        features = random(2, channels, 14, 13).requires_grad_()
        with fast_convolutions(narrow=narrow):
            made = residual(first, second, features) if whole else second(torch.relu(first(features)))
            with torch.no_grad():
                alone = convolve(first, features, 0)
        (made * random(*made.shape, seed=1)).sum().backward()
        found = [made.detach(), alone, features.grad, first.weight.grad, second.weight.grad]
        first.zero_grad()
        second.zero_grad()
        assert all(tensor is not None for tensor in found)
        return [tensor for tensor in found if tensor is not None]

    for whole in (True, False):
        for rounded, exact in zip(results(True, whole), results(False, whole), strict=True):
            assert 1e-3 < (rounded - exact).std() / exact.std() < 0.15


def test_both_gradients_are_of_products_of_bfloat16(narrow_kernels: Kernels) -> None:
    conv = nn.Conv2d(20, 24, 3, padding=1, bias=False)
    features, gradient = random(2, 20, 14, 13).requires_grad_(), random(2, 24, 14, 13, seed=1)
    with fast_convolutions(narrow=True):
        conv(features).backward(gradient)
    turned = conv.weight.detach().transpose(0, 1).flip(2, 3)
    of_weight = narrow_kernels.winograd_weight(features.detach(), gradient, narrow=True)
    assert conv.weight.grad is not None
    assert torch.equal(conv.weight.grad, of_weight)
    assert features.grad is not None
    assert torch.equal(features.grad, narrow_kernels.winograd(gradient, turned, narrow=True))


@pytest.mark.parametrize(("count", "channels"), [(64, 48), (80, 64), (32, 16)])
def test_channels_of_no_whole_vectors_of_opposites_are_refused(
    kernels: Kernels, count: int, channels: int
) -> None:
    if kernels.lanes != 16 and (count, channels) != (64, 48):
        pytest.skip("vectors of 8 lanes take these")
    features, weight = random(1, channels, 9, 9), random(count, channels, 3, 3)
    with pytest.raises(ValueError, match="size"):
        kernels.winograd(features, weight, opposed=True)
    with pytest.raises(ValueError, match="size"):
        kernels.winograd_weight(features, random(1, count, 9, 9), opposed=True)


def test_what_keeps_opposites_is_told(asked: list[Convolution]) -> None:
    """Only weights that are named, and of these only those that are wide enough."""
    wide, other, narrow = (
        nn.Conv2d(channels, channels, 3, padding=1, bias=False) for channels in (64, 64, 32)
    )
    for conv in (wide, other, narrow):
        nn.init.normal_(conv.weight, std=0.05)
        conv.weight.data = with_opposites(conv.weight.data)
        features = random(1, conv.in_channels, 12, 11).requires_grad_()
        results = []
        for named in ([wide.weight, narrow.weight], []):
            with fast_convolutions(opposed=named):
                learnt = convolve(conv, features, 0)
                with torch.no_grad():
                    made = convolve(conv, features, 0)
            (learnt * random(*learnt.shape, seed=1)).sum().backward()
            assert conv.weight.grad is not None
            assert features.grad is not None
            results.append((made, learnt, features.grad, with_opposites(conv.weight.grad)))
            features.grad, conv.weight.grad = None, None
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        # forward twice and the gradient of the features, as named and then not
        assert [one.opposed for one in asked] == [conv is wide] * 3 + [False] * 3
        asked.clear()


def test_pictures_smaller_than_a_kernel_are_refused(kernels: Kernels) -> None:
    with pytest.raises(ValueError, match="size"):
        kernels.winograd(random(1, 16, 2, 9), random(16, 16, 3, 3), None, 0)
    with fast_convolutions(), pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        F.conv2d(random(300, 16, 2, 9), random(16, 16, 3, 3))


def test_what_follows_a_convolution_is_done_in_passing(kernels: Kernels) -> None:
    features, weight, bias, more = (
        random(2, 20, 13, 9),
        random(36, 20, 3, 3),
        random(36),
        random(2, 36, 13, 9),
    )
    made = kernels.winograd(features, weight, bias, 1, 0.1, more)
    expected = F.leaky_relu(exactly(features, weight, bias, 1), 0.1) + more
    torch.testing.assert_close(made.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_threads_share_the_work_and_repeat_it_exactly(
    number: int, kernels: Kernels, threads: Callable[[int], None]
) -> None:
    features, weight, gradient = random(3, 16, 41, 37), random(24, 16, 3, 3), random(3, 24, 41, 37)
    alone = kernels.winograd(features, weight), kernels.winograd_weight(features, gradient)
    threads(number)
    runs = [
        (kernels.winograd(features, weight), kernels.winograd_weight(features, gradient)) for _ in range(3)
    ]
    for made, of_weight in runs:
        assert torch.equal(made, alone[0])  # however the tiles are dealt out
        assert torch.equal(of_weight, runs[0][1])
        torch.testing.assert_close(of_weight, alone[1], rtol=1e-5, atol=1e-3)


def test_torchs_own_threads_do_the_work(kernels: Kernels, threads: Callable[[int], None]) -> None:
    address = torchs_team()
    if address is None:
        pytest.skip("torch runs on no OpenMP runtime that is known here")
    library = kernels._library
    calls: list[int] = []
    form = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    theirs = form(address)

    @form
    def watched(work: int, argument: int, number: int, flags: int) -> None:
        calls.append(number)
        theirs(work, argument, number, flags)

    features, weight = random(3, 16, 41, 37), random(24, 16, 3, 3)
    alone = kernels.winograd(features, weight)
    threads(2)
    try:
        library.polyres_use_team(ctypes.cast(watched, ctypes.c_void_p))
        assert torch.equal(kernels.winograd(features, weight), alone)
        assert calls == [2]
        library.polyres_use_team(None)
        assert torch.equal(kernels.winograd(features, weight), alone)  # by threads of their own
        assert calls == [2]
    finally:
        library.polyres_use_team(address)


def test_no_team_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = tmp_path / "maps"
    monkeypatch.setattr(team, "_MAPS", listing)
    assert torchs_team() is None  # a system without such a list
    row = "7f00-7f10 r-xp 00000000 08:01 42    "
    listing.write_text(f"{row}/lib/libm.so.6\n{row}/nowhere/libgomp.so.1\n")
    assert torchs_team() is None  # cannot be opened
    for runtime in (Path(torch.__file__).parent / "lib").glob("libgomp*"):
        (tmp_path / "libiomp5.so").symlink_to(runtime)
        listing.write_text(f"{row}{runtime}\n")
        assert torchs_team() is not None
        listing.write_text(f"{row}{runtime}\n{row}{tmp_path}/libiomp5.so\n")
        assert torchs_team() is None  # which of the two is torch's?


def test_a_number_that_is_none_is_not_hidden(kernels: Kernels) -> None:
    features = random(1, 16, 12, 12)
    features[0, 3, 5, 5] = torch.nan
    made = kernels.winograd(features, random(16, 16, 3, 3))
    assert made[0, :, 4:7, 4:7].isnan().all()
    assert made[0, :, :, 8:].isfinite().all()


@pytest.mark.parametrize("padding", [0, 1, 2, "same", "valid", (1, 1)])
@pytest.mark.parametrize("layout", [LAST, torch.contiguous_format])
def test_gradients_are_torchs(
    padding: int | str | tuple[int, int], layout: torch.memory_format, asked: list[Convolution]
) -> None:
    def gradients(dtype: torch.dtype, fast: bool) -> list[Tensor]:
        features = random(2, 18, 20, 17).to(dtype).contiguous(memory_format=layout).requires_grad_()
        weight, bias = random(21, 18, 3, 3).to(dtype).requires_grad_(), random(21).to(dtype).requires_grad_()
        with fast_convolutions(fast):
            made = F.conv2d(features, weight, bias, padding=padding)
        (made * random(*made.shape).to(dtype)).sum().backward()
        assert features.grad is not None
        assert weight.grad is not None
        assert bias.grad is not None
        return [made.detach(), features.grad, weight.grad, bias.grad]

    found, wanted = gradients(torch.float32, True), gradients(torch.float64, False)
    assert [one.channels for one in asked] == [18, 21]  # forward, and the gradient of the features
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def test_only_gradients_that_are_wanted_are_made(asked: list[Convolution]) -> None:
    features, weight = random(1, 16, 24, 24), random(16, 16, 3, 3).requires_grad_()
    with fast_convolutions():
        F.conv2d(features, weight, padding=1).sum().backward()
    assert [one.channels for one in asked] == [16]
    assert weight.grad is not None
    assert features.grad is None


@pytest.mark.parametrize("slope", [0, 0.1, 1])
@pytest.mark.parametrize("added", [False, True])
def test_activations_and_sums_are_fused_into_convolutions(
    slope: float, added: bool, asked: list[Convolution]
) -> None:
    conv = nn.Conv2d(20, 24, 3, padding=1)
    features, more = random(2, 20, 21, 19), random(2, 24, 21, 19) if added else None
    expected = F.leaky_relu(conv(features), slope) + (0 if more is None else more)
    torch.testing.assert_close(convolve(conv, features, slope, more), expected)
    assert asked == []
    with fast_convolutions():
        with torch.no_grad():
            fused = convolve(conv, features, slope, more)
        learnt = convolve(conv, features, slope, more)
    assert [one.channels for one in asked] == [20, 20]
    for made in (fused, learnt):
        torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    learnt.sum().backward()
    ours, conv.weight.grad = conv.weight.grad, None
    expected.sum().backward()
    assert ours is not None
    torch.testing.assert_close(ours, conv.weight.grad, rtol=1e-5, atol=1e-3)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    images=st.integers(1, 3),
    height=st.integers(1, 70),
    width=st.integers(1, 130),
    channels=st.sampled_from([16, 40, 64]),
    count=st.sampled_from([16, 64, 70]),
    workers=st.integers(1, 5),
    masked=st.booleans(),
    biased=st.booleans(),
)
def test_two_convolutions_at_once_are_those_one_by_one(
    each_kernels: Kernels,
    threads: Callable[[int], None],
    images: int,
    height: int,
    width: int,
    channels: int,
    count: int,
    workers: int,
    masked: bool,
    biased: bool,
) -> None:
    """To the bit, however many threads take part."""
    threads(workers)
    features = random(images, channels, height, width)
    weights = random(count, channels, 3, 3) / 20, random(channels, count, 3, 3) / 20
    biases = (random(count), random(channels)) if biased else (None, None)
    mask = random(images, count, height, width, seed=1) if masked else None
    inner, made = each_kernels.winograd_residual(features, weights, biases, mask=mask)
    expected = each_kernels.winograd(features, weights[0], biases[0], slope=1 if masked else 0, mask=mask)
    assert torch.equal(inner, expected)
    assert torch.equal(made, each_kernels.winograd(expected, weights[1], biases[1], add=features))


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("opposed", [(True, True), (False, True), (True, False)])
def test_two_convolutions_of_opposites_at_once_are_those_one_by_one(
    opposed: tuple[bool, bool], narrow: bool, kernels: Kernels, threads: Callable[[int], None]
) -> None:
    if narrow and not kernels.has_bfloat16:
        pytest.skip("needs a processor that multiplies pairs of bfloat16")
    features = random(1, 64, 90, 85)
    weights = with_opposites(random(128, 64, 3, 3) / 20), with_opposites(random(64, 128, 3, 3) / 20)
    for workers in (1, 3):
        threads(workers)
        inner, made = kernels.winograd_residual(features, weights, opposed=opposed, narrow=narrow)
        first = kernels.winograd(features, weights[0], slope=0, opposed=opposed[0], narrow=narrow)
        second = kernels.winograd(first, weights[1], add=features, opposed=opposed[1], narrow=narrow)
        assert torch.equal(inner, first)
        assert torch.equal(made, second)


@pytest.mark.parametrize("opposed", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_attention_between_two_convolutions_is_that_by_itself(
    opposed: bool, workers: int, each_kernels: Kernels, threads: Callable[[int], None]
) -> None:
    threads(workers)
    features, weights = random(2, 64, 37, 42), [random(64, 64, 3, 3) / 20 for _ in range(2)]
    weights[0].abs_()  # of a mean that is not near to zero rounding hardly shows
    mix = random(64, 64, seed=1) / 4
    attention = Attention(with_opposites(mix) if opposed else mix, 1e-6, opposed)
    inner, made = each_kernels.winograd_residual(features, (weights[0], weights[1]), attention=attention)
    pixels = each_kernels.winograd(features, weights[0], slope=0).permute(0, 2, 3, 1)
    mixed = pixels @ attention.weight.T / (pixels.mean(3, keepdim=True) + 1e-6)
    wanted = (pixels * torch.relu(1 + mixed)).permute(0, 3, 1, 2)
    torch.testing.assert_close(inner, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    assert torch.equal(made, each_kernels.winograd(inner, weights[1], add=features))


@pytest.mark.parametrize("opposed", [False, True])
@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_gradients_of_attention_are_those_of_its_formula(
    opposed: bool, rectified: bool, workers: int, each_kernels: Kernels, threads: Callable[[int], None]
) -> None:
    threads(workers)
    pixels, toward = random(101, 64).relu(), random(101, 64, seed=1)
    mix = random(64, 64, seed=2) / 4
    attention = Attention(with_opposites(mix) if opposed else mix, 1e-6, opposed)
    made, factors = each_kernels.attention(pixels, attention, keep=True)
    of_pixels, of_weight = each_kernels.attention_gradient(toward, pixels, factors, attention, rectified)
    leaves = pixels.requires_grad_(), attention.weight.clone().requires_grad_()
    wanted = leaves[0] * torch.relu(1 + leaves[0] @ leaves[1].T / (leaves[0].mean(1, keepdim=True) + 1e-6))
    torch.testing.assert_close(made, wanted.detach(), rtol=1e-4, atol=1e-5)
    first, second = torch.autograd.grad(wanted, leaves, toward)
    first = first * (pixels > 0) if rectified else first
    second = with_opposites(second) if opposed else second
    for ours, exact in ((of_pixels, first), (of_weight, second)):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("opposed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("attending", [False, True])
def test_residual_blocks_are_torchs(opposed: bool, bias: bool, attending: bool, kernels: Kernels) -> None:
    """Forward and every gradient, in two convolutions forward and two back."""
    # Four seeds in 300 have a value so near to zero that rounding decides about a ReLU's gradient.
    torch.manual_seed(0)
    convs = [nn.Conv2d(64, 64, 3, padding=1, bias=bias) for _ in range(2)]
    attention = PixelAttention(64) if attending else None
    parts = [*convs, *([attention.mix] if attention else [])]
    for conv in parts:
        nn.init.normal_(conv.weight, std=0.05 if conv in convs else 0.2)
        if opposed:
            conv.weight.data = with_opposites(conv.weight.data)
    named = [conv.weight for conv in parts] if opposed else []
    results: list[list[Tensor]] = []
    for fast in (True, False):
        image = random(2, 64, 11, 14).requires_grad_()
        parameters = [p for conv in parts for p in conv.parameters()]
        with fast_convolutions(fast, named):
            made = residual(*convs, image, attention)
        assert ("_Residual" in str(made.grad_fn)) == fast
        gradients = torch.autograd.grad((made * random(*made.shape, seed=1)).sum(), [image, *parameters])
        if opposed:
            gradients = tuple(with_opposites(g) if g.dim() == 4 and len(g) == 64 else g for g in gradients)
        results.append([made.detach(), *gradients])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_residual_blocks_of_other_kinds_are_left_to_their_convolutions(asked: list[Convolution]) -> None:
    called: list[int] = []
    for first, second in (
        (nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(24, 16, 1)),
        (nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)),
        (
            nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
            nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
        ),
    ):
        second.register_forward_hook(lambda *_: called.append(1))
        features = random(1, 16, 12, 13)
        expected = features + second(torch.relu(first(features)))
        with fast_convolutions():
            made = residual(first, second, features)
        assert "_Residual" not in str(made.grad_fn)
        torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    assert len(called) == 6


@pytest.mark.parametrize("name", ["edsr-baseline", "edsr", "rcan"])
def test_encoders_compute_the_same(name: str, asked: list[Convolution]) -> None:
    torch.manual_seed(0)
    options = {"edsr-baseline": {"blocks": 2}, "edsr": {"blocks": 2}, "rcan": {"groups": 2, "blocks": 1}}[
        name
    ]
    encoder = ENCODERS.make(name, channels=16, **options).eval()
    image = random(1, 3, 30, 28).sigmoid()
    with torch.no_grad():
        expected = encoder(image)
        with fast_convolutions():
            torch.testing.assert_close(encoder(image), expected, rtol=1e-5, atol=1e-5)
    assert len(asked) >= 5


@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((1, 64, 32, 32), (64, 16, 3, 3), {"padding": 1, "groups": 4}),
        ((1, 16, 32, 32), (32, 16, 3, 3), {"padding": 1, "stride": 2}),
        ((1, 16, 32, 32), (32, 16, 3, 3), {"padding": 2, "dilation": 2}),
        ((1, 16, 32, 32), (32, 16, 1, 1), {}),
        ((1, 16, 32, 32), (32, 16, 5, 5), {"padding": 2}),
        ((1, 16, 32, 32), (32, 16, 3, 3), {"padding": (1, 0)}),
        ((1, 16, 32, 32), (32, 16, 3, 3), {"padding": 3}),
        ((1, 3, 32, 32), (32, 3, 3, 3), {"padding": 1}),
        ((1, 16, 32, 32), (3, 16, 3, 3), {"padding": 1}),
        ((16, 600, 2), (32, 16, 3, 3), {"padding": 1}),
    ],
)
def test_all_else_is_left_to_torch(
    shape: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, object], asked: list[Convolution]
) -> None:
    features, weight = random(*shape), random(*kernel)
    expected = F.conv2d(features, weight, **options)  # type: ignore[arg-type]
    with fast_convolutions():
        assert torch.equal(F.conv2d(features, weight, **options), expected)  # type: ignore[arg-type]
    assert asked == []


def test_other_precisions_are_left_to_torch(asked: list[Convolution]) -> None:
    features, weight = random(1, 16, 32, 32), random(16, 16, 3, 3)
    with fast_convolutions():
        assert F.conv2d(features.double(), weight.double(), padding=1).dtype == torch.float64
        with torch.autocast("cpu", torch.bfloat16):
            assert F.conv2d(features, weight, padding=1).dtype == torch.bfloat16
        assert F.conv2d(features.to("meta"), weight.to("meta"), padding=1).device.type == "meta"
        assert asked == []
        F.conv2d(features, weight, padding=1)
    assert [one.channels for one in asked] == [16]


def test_other_threads_and_what_follows_are_not_concerned(asked: list[Convolution]) -> None:
    conv = nn.Conv2d(16, 16, 3, padding=1)
    with fast_convolutions():
        other = threading.Thread(target=conv, args=(random(1, 16, 32, 32),))
        other.start()
        other.join()
    conv(random(1, 16, 32, 32))
    with fast_convolutions(wanted=False):
        conv(random(1, 16, 32, 32))
    assert asked == []


def test_without_a_compiler_torch_does_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiling, "COMPILERS", ("no-such-compiler",))
    binding._made.cache_clear()
    try:
        features, weight = random(1, 16, 32, 32), random(16, 16, 3, 3)
        with fast_convolutions():
            assert torch.equal(F.conv2d(features, weight), F.conv2d(features, weight))
    finally:
        monkeypatch.undo()
        binding._made.cache_clear()


# Networks.


def edsr(blocks: int = 2, **parts: object) -> dict[str, object]:
    encoder = {"name": "edsr-baseline", "options": {"channels": 16, "blocks": blocks}}
    return {
        "encoder": encoder,
        "upsampler": {"name": "igconv", "options": {"width": 8, "hidden_layers": 1}},
        **parts,
    }


def test_engines_use_them_and_say_so(asked: list[Convolution]) -> None:
    from polyres.upscale.engine import TorchEngine

    torch.manual_seed(0)
    fused = polyres.fuse(polyres.build(polyres.ModelConfig.model_validate(edsr())), 2)
    windows = (random(1, 40, 33, 3).sigmoid() * 255).byte().numpy()
    engines = [TorchEngine(fused, torch.device("cpu"), torch.float32, native) for native in (True, False)]
    pictures = [engine(windows) for engine in engines]
    assert [one.channels for one in asked] == [16] * 6  # two blocks, the tail, and the upsampler
    torch.testing.assert_close(*pictures, rtol=0, atol=1e-5)
    assert "minimal filtering" in str(engines[0])
    assert "minimal filtering" not in str(engines[1])


@pytest.mark.parametrize("able", [True, False])
def test_engines_in_bfloat16_make_products_of_it_alone(
    able: bool, kernels: Kernels, asked: list[Convolution], monkeypatch: pytest.MonkeyPatch
) -> None:
    from polyres.upscale.engine import TorchEngine

    if able and not kernels.has_bfloat16:
        pytest.skip("needs a processor that multiplies pairs of bfloat16")

    monkeypatch.setattr(native.kernels(), "has_bfloat16", able)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    torch.manual_seed(0)
    model = polyres.build(polyres.ModelConfig.model_validate(edsr()))
    image = random(1, 3, 40, 33).sigmoid()
    fused, cpu = polyres.fuse(model, 2), torch.device("cpu")
    exact, rounded = (TorchEngine(fused, cpu, dtype)._run(image) for dtype in (torch.float32, torch.bfloat16))
    assert [one.narrow for one in asked] == [False] * 6 + [True] * 6 * able
    assert 0 < (exact - rounded).abs().max() < 0.1
    assert ("minimal filtering" in str(TorchEngine(fused, cpu, torch.bfloat16))) == able
    assert polyres.Upscaler(model, device="cpu").dtype == (torch.bfloat16 if able else torch.float32)
    assert polyres.Upscaler(model, device="cpu", native=False).dtype == torch.float32


def test_products_of_bfloat16_are_for_networks_of_such_convolutions_alone(kernels: Kernels) -> None:
    """Where matrix units, native forms or other layers do better they are left out."""
    models = [
        polyres.fuse(polyres.build(polyres.ModelConfig.model_validate(edsr(**parts))), 2)
        for parts in (
            {},
            {"encoder": {"name": "smfanet"}},
            {"encoder": {"name": "krgn", "options": {"recalibration": "none"}}},
        )
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[narrows.__module__], "has_narrow_products", lambda: True)
        patch.setattr(sys.modules[narrows.__module__], "has_fast_bfloat16", lambda device: False)
        assert [narrows(fused.encoder) for fused in models] == [True, False, False]
        forms = [accelerate(fused) for fused in models]
        assert [isinstance(form, AcceleratedModel) and form.narrows for form in forms] == [True, False, False]
        patch.setattr(sys.modules[narrows.__module__], "has_fast_bfloat16", lambda device: True)
        assert not narrows(models[0].encoder)


def test_products_of_bfloat16_have_a_tolerance_of_their_own(
    narrow_kernels: Kernels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polyres.upscale import choice

    monkeypatch.setattr(sys.modules[narrows.__module__], "has_fast_bfloat16", lambda device: False)
    monkeypatch.setattr(choice, "is_installed", lambda name: False)
    model = polyres.build(polyres.ModelConfig.model_validate(edsr()))

    def reason(fast: bool) -> str | None:
        for file in tmp_path.glob("engine-*.json"):  # what was chosen before
            file.unlink()
        made = choice.choose(model, polyres.Scale.of(2), ("float32", "bfloat16"), fast, tmp_path)
        return {trial.precision: trial.reason for trial in made.trials}["bfloat16"]

    for narrow, others in ((0, 1), (1, 0)):
        monkeypatch.setattr(choice, "NARROW_TOLERANCE", narrow)
        monkeypatch.setitem(choice.TOLERANCE, "bfloat16", others)
        assert (reason(True) is None) == bool(narrow)
        assert (reason(False) is None) == bool(others)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 130),
    width=st.integers(1, 130),
    tile=st.integers(1, 40),
    blocks=st.integers(0, 2),
    scale=st.sampled_from(["2", "3", "5/2"]),
)
def test_tiles_equal_the_whole_to_the_bit(
    kernels: Kernels, height: int, width: int, tile: int, blocks: int, scale: str
) -> None:
    torch.manual_seed(height)
    model = polyres.build(polyres.ModelConfig.model_validate(edsr(blocks)))
    pixels = (random(height, width, 3).sigmoid() * 65535).numpy().astype("uint16")
    whole, tiled = (
        polyres.Upscaler(model, device="cpu", tile=size)(polyres.Picture(pixels), scale=scale).pixels
        for size in (0, tile)
    )
    assert whole.dtype == np.uint16
    if scale == "5/2":  # torch's strided convolutions round by the size of what they are given
        assert np.abs(tiled.astype(int) - whole).max() <= 1
    else:
        assert np.array_equal(tiled, whole)


def test_networks_whose_tiles_would_overlap_too_far_keep_torchs_convolutions(kernels: Kernels) -> None:
    near, far = (
        accelerate(polyres.fuse(polyres.build(polyres.ModelConfig.model_validate(edsr(blocks))), 2))
        for blocks in (2, 33)
    )
    assert isinstance(near, AcceleratedModel)
    assert (near.fast, near.context, near.multiple_of) == (6, 7 + 3 * 6, 4)
    assert not isinstance(far, AcceleratedModel)
    assert far.context == 69


def opposed(symmetry: str, **options: object) -> dict[str, object]:
    """A model whose encoder has three convolutions wide enough for opposites."""
    encoder = {"channels": 64, "blocks": 1, "normalisation_equivariant": True}
    upsampler = {"width": 8, "hidden_layers": 1, "base": "bilinear", "equivariant": symmetry}
    return {
        "encoder": {"name": "edsr-baseline", "options": encoder},
        "upsampler": {"name": "igconv", "options": upsampler},
    }


@pytest.mark.parametrize("symmetry", ["flips-and-negatives", "turns", "turns-and-negatives"])
def test_models_that_treat_negatives_alike_run_by_opposites(
    tmp_path: Path, symmetry: str, asked: list[Convolution], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pictures(tmp_path)
    plain_weight, gradients = Kernels.winograd_weight, []

    def note_weight(self: Kernels, *rest: Any, **options: Any) -> Tensor:
        gradients.append(bool(options.get("opposed", len(rest) > 3 and rest[3])))
        return plain_weight(self, *rest, **options)

    monkeypatch.setattr(Kernels, "winograd_weight", note_weight)
    settings = config(
        tmp_path,
        model=opposed(symmetry),
        equivariant=symmetry,
        data={"patch": 16, "batch": 1, "scales": {2: 1}},
        optimiser={"name": "muon"},
        steps=2,
        precision="float32",
    )
    model = run(settings)
    # two steps of three convolutions and the upsampler's: forward, and two gradients
    negatives = "negatives" in symmetry
    opposed_ones = [one.opposed for one in asked]
    assert (sum(opposed_ones), len(opposed_ones)) == (12 * negatives, 16)
    assert (sum(gradients), len(gradients)) == (6 * negatives, 8)
    accelerated = accelerate(polyres.fuse(model, 2))
    asked.clear()
    image = random(1, 3, 20, 24).sigmoid()
    with torch.inference_mode():
        torch.testing.assert_close(accelerated(image), model.eval()(image, 2), rtol=0, atol=1e-5)
    assert [one.opposed for one in asked] == [negatives] * 3 + [False]


@pytest.mark.parametrize("fast", [True, False])
def test_runs_use_them_unless_told_otherwise(tmp_path: Path, fast: bool, asked: list[Convolution]) -> None:
    save_pictures(tmp_path)
    settings = config(
        tmp_path,
        model=edsr(),
        data={"patch": 20, "batch": 2},
        steps=2,
        precision="float32",
        fast_convolutions=fast,
    )
    first = run(settings)
    assert bool(asked) == fast
    again = run(settings.model_copy(update={"output": tmp_path / "again"}))
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in first.state_dict().items())


@pytest.mark.parametrize("precision", ["auto", "bfloat16", "float32"])
@pytest.mark.parametrize("able", ["pairs", "matrices", "neither"])
@pytest.mark.parametrize("dense", [True, False])
def test_runs_take_what_the_processor_has_of_bfloat16(
    tmp_path: Path,
    precision: str,
    able: str,
    dense: bool,
    kernels: Kernels,
    asked: list[Convolution],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Autocast where it takes matrices or is asked for; products where it takes pairs and the encoder is dense."""
    from polyres.training import loop

    for module in (loop, sys.modules[narrows.__module__]):
        monkeypatch.setattr(module, "has_fast_bfloat16", lambda device: able == "matrices")
    monkeypatch.setattr(sys.modules[narrows.__module__], "has_narrow_products", lambda: able == "pairs")
    if able == "pairs" and not kernels.has_bfloat16:
        pytest.skip("needs a processor that multiplies pairs of bfloat16")
    save_pictures(tmp_path)
    mixed = {"encoder": {"name": "smfanet+", "options": {"channels": 16, "blocks": 1}}}
    model = edsr() if dense else edsr(**mixed)
    run(config(tmp_path, model=model, data={"patch": 20, "batch": 1}, steps=1, precision=precision))
    narrow = able == "pairs" and dense and precision != "float32"
    autocast = not narrow and (precision == "bfloat16" or (precision == "auto" and able == "matrices"))
    assert {one.narrow for one in asked} == (set() if autocast else {narrow})
