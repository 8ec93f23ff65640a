"""Native kernels compute what torch does, at every size, and their absence changes nothing but the speed."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import polyres
from polyres.deploy import accelerate
from polyres.deploy.accelerate import describe_acceleration
from polyres.encoders.krgn import ENTRIES as KRGN_PRESETS
from polyres.errors import UsageError
from polyres.layers import native
from polyres.layers.native import Branch, Chain, Dense, Kernels, binding, compiling

SIZES = [(1, 1, 1), (1, 2, 5), (3, 7, 1), (2, 9, 8), (1, 13, 29)]


@pytest.fixture(scope="module")
def kernels(any_kernels: Kernels) -> Kernels:
    return any_kernels


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def network(preset: str = "krgn", scale: int = 2, **options: object) -> polyres.FusedModel:
    torch.manual_seed(0)
    small = {"channels": 24, "groups": 12, "blocks": 2, "groups_per_block": 2, "pairs_per_group": 2}
    parts = {
        "encoder": {"name": preset, "options": {**small, "recalibration": "none", **options}},
        "upsampler": {"name": "spconv", "options": {"scales": [scale]}},
        "mean": [0.45, 0.44, 0.4],
        "value_range": 255,
    }
    model = polyres.build(polyres.ModelConfig.model_validate(parts))
    for name, parameter in model.named_parameters():
        if name.endswith("activation.weight"):  # slopes of their own, some of them negative
            nn.init.normal_(parameter)
    return polyres.fuse(model, scale)


# Kernels one at a time.


@pytest.mark.parametrize("channels", [2, 6, 16, 34])
@pytest.mark.parametrize("size", SIZES)
def test_blocking_and_back_is_nothing(channels: int, size: tuple[int, int, int], kernels: Kernels) -> None:
    images, height, width = size
    features = random(images, channels, height, width)
    blocked = kernels.blocked(features)
    assert blocked.shape == (images, kernels.chunks(channels), height, width, kernels.lanes)
    assert torch.equal(kernels.unblocked(blocked, channels), features)
    assert torch.equal(kernels.blocked(features.to(memory_format=torch.channels_last)), blocked)
    assert torch.equal(kernels.blocked(features.mT.contiguous().mT), blocked)
    assert float(blocked.abs().sum()) == pytest.approx(float(features.abs().sum()), rel=1e-4)


def by_torch(pairs: list[tuple[Branch, Branch]], features: Tensor, skip: bool) -> Tensor:
    current = features
    for pair in pairs:
        current = sum(F.prelu(branch.conv(current), branch.slopes) for branch in pair)  # type: ignore[assignment]
    return current + features if skip else current


def branch(channels: int, dilation: int, per_group: int = 2, bias: bool = True) -> Branch:
    groups = channels // per_group
    conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=groups, bias=bias)
    return Branch(conv, random(channels))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("channels", "per_group"), [(2, 2), (3, 1), (34, 2), (16, 1)])
@pytest.mark.parametrize("skip", [True, False])
def test_chains_of_pairs_are_torchs(
    size: tuple[int, int, int], channels: int, per_group: int, skip: bool, kernels: Kernels
) -> None:
    images, height, width = size
    torch.manual_seed(0)
    pairs = [(branch(channels, 1, per_group), branch(channels, d, per_group, d > 2)) for d in (3, 2, 5)]
    features = random(images, channels, height, width)
    blocked = kernels.blocked(features)
    out = torch.full_like(blocked, torch.nan)
    with torch.no_grad():
        Chain(kernels, pairs, skip)(kernels, blocked, out)
        expected = by_torch(pairs, features, skip)
    torch.testing.assert_close(kernels.unblocked(out, channels), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(blocked, kernels.blocked(features))


@pytest.mark.parametrize("height", [1, 40, 171])
@pytest.mark.parametrize("number", [1, 2, 3, 8])
def test_strips_of_threads_meet_without_a_seam(
    height: int, number: int, kernels: Kernels, threads: Callable[[int], None]
) -> None:
    torch.manual_seed(0)
    pairs = [(branch(6, 1), branch(6, 3)) for _ in range(2)]
    features = random(1, 6, height, 5)
    blocked = kernels.blocked(features)
    outputs = []
    for count in (1, number):
        threads(count)
        outputs.append(torch.empty_like(blocked))
        Chain(kernels, pairs, True)(kernels, blocked, outputs[-1])
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(
            kernels.unblocked(outputs[1], 6), by_torch(pairs, features, True), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 64), (20, 5), (64, 48)])
@pytest.mark.parametrize("taps", [1, 3, 5])
def test_dense_convolutions_are_torchs(
    size: tuple[int, int, int], inputs: int, outputs: int, taps: int, kernels: Kernels
) -> None:
    images, height, width = size
    weight, bias = random(outputs, inputs, taps, taps) / (inputs * taps**2) ** 0.5, random(outputs)
    features, before, more = (random(images, n, height, width) for n in (inputs, outputs, outputs))
    dense = Dense(kernels, weight, bias, 0.1)
    out, added = kernels.blocked(before), kernels.blocked(more)
    dense(kernels, kernels.blocked(features), out, add=added, accumulate=True)
    plain = F.conv2d(features, weight, bias, padding=taps // 2)
    expected = F.leaky_relu(plain + before, 0.1) + more
    torch.testing.assert_close(kernels.unblocked(out, outputs), expected, rtol=1e-5, atol=1e-5)
    lanes = out.shape[1] * kernels.lanes
    assert not kernels.unblocked(out, lanes)[:, outputs:].any()
    fresh = torch.full_like(out, torch.nan)
    dense(kernels, kernels.blocked(features), fresh)
    torch.testing.assert_close(
        kernels.unblocked(fresh, outputs), F.leaky_relu(plain, 0.1), rtol=1e-5, atol=1e-5
    )


def ends(
    kernels: Kernels, channels: int, narrow: int, groups: int
) -> tuple[list[Dense], Dense, list, Tensor]:
    """Sides and gather as kernels, and the weights and biases that torch needs for the same."""
    sizes = [1] * groups + [3]
    sides = [
        (random(narrow, channels, n, n) / (channels * n * n) ** 0.5, random(narrow + i)[:narrow])
        for i, n in enumerate(sizes)
    ]
    chunk = kernels.chunks(narrow) * kernels.lanes
    weight = random(channels, len(sizes), narrow, 1, 1) / (len(sizes) * narrow) ** 0.5
    padded = F.pad(weight, (0, 0, 0, 0, 0, chunk - narrow)).flatten(1, 2)
    gather = Dense(kernels, padded, random(channels), 0.2)
    return [Dense(kernels, *side, 0.1) for side in sides], gather, sides, weight.flatten(1, 2)


@pytest.mark.parametrize("size", [*SIZES, (2, 40, 33)])
@pytest.mark.parametrize(("channels", "narrow", "groups"), [(2, 1, 1), (20, 10, 2), (64, 32, 3), (34, 17, 1)])
def test_ends_of_blocks_are_torchs(
    size: tuple[int, int, int], channels: int, narrow: int, groups: int, kernels: Kernels
) -> None:
    images, height, width = size
    sides, gather, raw, weight = ends(kernels, channels, narrow, groups)
    stages = [random(images, channels, height, width) + i for i in range(groups + 1)]
    kept = [
        F.leaky_relu(F.conv2d(stage, *side, padding=side[0].shape[-1] // 2), 0.1)
        for stage, side in zip(stages, raw, strict=True)
    ]
    expected = F.leaky_relu(F.conv2d(torch.cat(kept, 1), weight, random(channels)), 0.2)
    blocked = [kernels.blocked(stage) for stage in stages]
    layers = [side.layer() for side in sides]
    out = torch.full_like(blocked[0], torch.nan)
    moments = kernels.end_of_block(blocked, layers, gather.layer(), out)
    torch.testing.assert_close(kernels.unblocked(out, channels), expected, rtol=1e-5, atol=1e-5)
    for values, measured in zip(moments, torch.var_mean(expected, (2, 3), correction=0)[::-1], strict=True):
        torch.testing.assert_close(values[:, :channels, 0, 0], measured, rtol=1e-4, atol=1e-5)
        assert not values[:, channels:].any()
    kernels.end_of_block(blocked, layers, gather.layer(), blocked[0])
    assert torch.equal(blocked[0], out)


@pytest.mark.parametrize("size", [*SIZES, (1, 40, 33)])
def test_moments_are_exact_far_from_zero(
    size: tuple[int, int, int], kernels: Kernels, threads: Callable[[int], None]
) -> None:
    images, height, width = size
    features = random(images, 20, height, width) + 1000
    blocked = kernels.blocked(features)
    same = torch.eye(20)[..., None, None]
    through = Dense(
        kernels, F.pad(same, (0, 0, 0, 0, 0, blocked.shape[1] * kernels.lanes - 20)), torch.zeros(20)
    )
    side = Dense(kernels, same, torch.zeros(20))
    found = []
    for count in (1, 3):
        threads(count)  # type: ignore[operator]
        out = torch.empty_like(blocked)
        found.append(kernels.end_of_block([blocked], [side.layer()], through.layer(), out))
    mean, variance = (values[:, :20, 0, 0] for values in found[0])
    expected = features.double()
    torch.testing.assert_close(mean.double(), expected.mean(dim=(2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        variance.double(), expected.var(dim=(2, 3), unbiased=False), rtol=1e-4, atol=1e-6
    )
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("accumulate", [True, False])
def test_blocks_are_added_and_gathered(
    size: tuple[int, int, int], accumulate: bool, kernels: Kernels
) -> None:
    images, height, width = size
    to, features, total = (random(images, 20, height, width) + i for i in range(3))
    weight, bias, factors = random(20, 20, 1, 1), random(20), random(images, 20, 1, 1)
    blocked, result = kernels.blocked(to), kernels.blocked(total)
    padded = F.pad(factors, (0, 0, 0, 0, 0, blocked.shape[1] * kernels.lanes - 20))
    layer = Dense(kernels, weight, bias, 0.1)
    kernels.add_block(blocked, kernels.blocked(features), padded, layer.layer(), result, accumulate)
    expected = to + factors * features
    torch.testing.assert_close(kernels.unblocked(blocked, 20), expected)
    gathered = F.leaky_relu(F.conv2d(expected, weight, bias) + (total if accumulate else 0), 0.1)
    torch.testing.assert_close(kernels.unblocked(result, 20), gathered, rtol=1e-5, atol=1e-5)


def test_kernels_refuse_sizes_that_they_are_not_made_for(kernels: Kernels) -> None:
    blocked = kernels.blocked(random(1, 4, 3, 3))
    even, wide = (Dense(kernels, random(4, 4, n, n), torch.zeros(4)).layer() for n in (2, 3))
    with pytest.raises(ValueError, match="not made for"):
        kernels.convolution(blocked, torch.empty_like(blocked), even)
    with pytest.raises(ValueError, match="not made for"):
        kernels.end_of_block([blocked] * 2, [wide, wide], wide, torch.empty_like(blocked))
    with pytest.raises(ValueError, match="not made for"):
        kernels.add_block(blocked, blocked, torch.ones(16), wide, torch.empty_like(blocked), False)


def test_not_a_number_is_not_hidden(kernels: Kernels) -> None:
    blocked = kernels.blocked(torch.full((1, 2, 3, 3), torch.nan))
    out = torch.zeros_like(blocked)
    Chain(kernels, [(branch(2, 1), branch(2, 2))], True)(kernels, blocked, out)
    assert kernels.unblocked(out, 2).isnan().all()


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.Conv2d(8, 8, 3, padding=1, dilation=2, groups=4),
        nn.Conv2d(8, 8, 3, padding=1, groups=4, stride=2),
        nn.Conv2d(8, 8, 3, padding=1, groups=4, padding_mode="reflect"),
        nn.Conv2d(8, 8, 5, padding=2, groups=4),
        nn.Conv2d(8, 16, 3, padding=1, groups=8),
    ],
)
def test_kernels_say_what_they_are_not_made_for(conv: nn.Conv2d) -> None:
    assert not Branch(conv, torch.ones(8)).fits()


# Networks.


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"channels": 64, "groups": 32},
        {"groups": 24, "attention": False, "gather_head": False},
        {"branch_activation": "relu", "side_activation": "prelu", "dilation": 2},
        {"branch_activation": "none", "side_activation": "none", "groups_per_block": 3},
        {"groups_per_block": 1},
    ],
)
def test_accelerated_networks_equal_fused_ones(
    options: dict, size: tuple[int, int, int], kernels: Kernels
) -> None:
    fused = network(**options)
    faster = accelerate(fused)
    assert faster is not fused
    assert faster.encoder is not fused.encoder
    images, height, width = size
    image = random(images, 3, height, width).sigmoid()
    with torch.inference_mode():
        expected = fused(image)
        for given in (image, image.to(memory_format=torch.channels_last), image.mT.contiguous().mT):
            torch.testing.assert_close(faster(given), expected, rtol=0, atol=2e-5)


def test_released_weights_give_the_same_picture(kernels: Kernels, shared: Path) -> None:
    path = shared / "weights" / "cfgn_x4.pt"
    if not path.is_file():
        pytest.skip(f"no checkpoint {path}")
    fused = polyres.fuse(polyres.load(path), 4)
    image = torch.rand(1, 3, 11, 14, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(accelerate(fused)(image), fused(image), rtol=0, atol=1e-4)


@pytest.mark.parametrize("options", [{"pointwise_groups": 4}, {"groups": 6}])
def test_encoders_without_a_native_form_stay_as_they_are(options: dict) -> None:
    fused = network(**options)
    assert accelerate(fused).encoder is fused.encoder
    assert "encoder" not in describe_acceleration(fused, accelerate(fused))


@pytest.mark.parametrize("preset", [entry.name for entry in KRGN_PRESETS])
@pytest.mark.parametrize("channels", [2, 6, 18, 50])
def test_presets_of_any_width_give_the_same_picture(preset: str, channels: int, kernels: Kernels) -> None:
    options = {"channels": channels, "groups": channels // 2, "reduction": 2}
    figure = {"pointwise_groups": 1} if preset == "krgn-figure" else {}
    fused = network(preset, **options, **figure)
    image = random(1, 3, 13, 27).sigmoid()
    faster = accelerate(fused)
    assert (faster.encoder is fused.encoder) == bool(figure)
    with torch.inference_mode():
        torch.testing.assert_close(faster(image), fused(image), rtol=0, atol=2e-5)


def test_threads_may_share_a_network(kernels: Kernels) -> None:
    faster = accelerate(network())
    # Long enough to be interrupted on a single core.
    images = [random(1, 3, 90 + i, 150).sigmoid() for i in range(6)]

    def run(image: Tensor) -> Tensor:
        with torch.inference_mode():
            return faster(image)

    expected = [run(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert all(map(torch.equal, pool.map(run, images), expected))


def test_copies_of_a_network_compute_the_same(kernels: Kernels) -> None:
    faster = accelerate(network())
    image = random(1, 3, 6, 7).sigmoid()
    with torch.inference_mode():
        expected = faster(image)
        copied = copy.deepcopy(faster)
        del faster
        assert torch.equal(copied(image), expected)


def test_networks_elsewhere_than_on_a_cpu_stay_as_they_are() -> None:
    fused = network().to("meta")
    assert accelerate(fused) is fused
    assert describe_acceleration(fused, fused) == "without native kernels: they are for CPUs"


def test_images_elsewhere_than_on_a_cpu_are_refused(kernels: Kernels) -> None:
    faster = accelerate(network())
    with pytest.raises(UsageError, match="image is on meta"):
        faster.encoder(torch.empty(1, 3, 4, 4, device="meta"))


def test_autocast_does_not_reach_native_kernels(kernels: Kernels) -> None:
    faster = accelerate(network())
    image = random(1, 3, 6, 7).sigmoid()
    with torch.inference_mode():
        plain = faster.encoder(image)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(faster.encoder(image), plain)


def upscaled(**options: object) -> tuple[np.ndarray, str]:
    model = polyres.build(
        polyres.ModelConfig.model_validate(
            {
                "encoder": {
                    "name": "krgn-noattention",
                    "options": {"channels": 8, "groups": 4, "blocks": 1, "groups_per_block": 1},
                },
                "upsampler": {"name": "spconv", "options": {"scales": [2]}},
            }
        )
    )
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.1
            )
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    upscaler = polyres.Upscaler(model, device="cpu", **options)  # type: ignore[arg-type]
    result = upscaler(polyres.Picture(pixels), scale=2)
    return result.pixels, upscaler.describe(2)


def test_upscalers_use_native_kernels_and_say_so(kernels: Kernels) -> None:
    (plain, without), (native_pixels, described) = upscaled(native=False), upscaled()
    assert "native kernels in float32" in described
    assert "native" not in without
    assert np.abs(plain.astype(int) - native_pixels).max() <= 1


# Where kernels come from.


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no memory of an earlier attempt."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    binding._made.cache_clear()
    yield tmp_path / "polyres"
    binding._made.cache_clear()


def test_without_a_compiler_torch_does_the_work(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiling, "COMPILERS", ("no-such-compiler",))
    fused = network()
    with caplog.at_level(logging.INFO, logger="polyres"):
        assert accelerate(fused) is fused
        assert accelerate(fused) is fused
    assert caplog.text.count("no C compiler") == 1
    (plain, _), (same, described) = upscaled(native=False), upscaled()
    assert np.array_equal(plain, same)
    assert described.endswith("without native kernels: no C compiler")


def test_a_compiler_that_fails_is_reported_and_does_no_harm(
    fresh_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'cannot find stdlib.h' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(compiling, "COMPILERS", (str(broken),))
    assert native.kernels() is None
    assert native.why_none().endswith("cannot find stdlib.h")
    assert not fresh_cache.exists()


def test_kernels_are_compiled_once_and_a_damaged_file_again(
    kernels: Kernels, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = compiling._compile
    monkeypatch.setattr(compiling, "_compile", lambda *arguments: (calls.append(1), original(*arguments)))
    Kernels(compiling.compiled())
    (kept,) = fresh_cache.iterdir()
    kept.write_bytes(b"not a library")
    Kernels(compiling.compiled())
    assert len(calls) == 2
    Kernels(compiling.compiled())
    assert len(calls) == 2
    assert [path.name for path in fresh_cache.iterdir()] == [kept.name]


def test_a_folder_that_cannot_be_written_does_no_harm(kernels: Kernels, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    Kernels(compiling.compiled(tmp_path / "file" / "cache"))
