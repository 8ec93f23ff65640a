"""IGConv and its sampler: recorded numbers, every scale against brute force, folding, caching."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from polyres.errors import ConfigError, ScaleError
from polyres.layers.interpolate import bilinear, sample_at
from polyres.layers.phases import PhaseConv, depth_to_space, embed, phase_conv2d
from polyres.model import ModelConfig, build
from polyres.scale import Scale, axis_taps
from polyres.upsamplers.forms import GroupedConv, SymmetricConv
from polyres.upsamplers.igconv import IGConv
from polyres.upsamplers.igsample import IGSample
from polyres.upsamplers.kernels import KernelField, symmetrise
from polyres.weights.compat.base import Rename
from polyres.weights.compat.heads import ig_renames

RATIONALS = ["3/2", "5/2", "4/3", "5/3", "7/4", "8/5", "7/3", "11/10", "31/10"]


def make(channels: int = 6, plus: bool = False, geometric: bool = False, **options: object) -> IGConv:
    torch.manual_seed(0)
    options = {
        "width": 16,
        "hidden_layers": 1,
        "sample_width": 8,
        "sample_layers": 1,
        "spread": 0.5,
    } | options
    module = IGConv(channels, geometric=geometric, base="sample" if plus else "none", **options)
    for parameter in module.parameters():  # small initial values would hide mistakes
        torch.nn.init.normal_(parameter, std=0.4)
    return module.eval()


def translate(tensors: dict[str, Tensor], rules: list[Rename]) -> dict[str, Tensor]:
    result = {}
    for key, tensor in tensors.items():
        for rule in rules:
            if match := re.fullmatch(rule.pattern, key):
                text = rule.replacement
                name = match.expand(text) if isinstance(text, str) else text(match)
                result[name] = rule.reshape(tensor) if rule.reshape else tensor
    return result


def recorded(shared: Path, name: str) -> tuple[dict, dict[str, Tensor]]:
    path = shared / "parity" / "open" / f"{name}.safetensors"
    return json.loads(path.with_suffix(".json").read_text())["kwargs"], load_file(path)


@pytest.mark.parametrize("name", ["unit_igconv_k3", "unit_igconv_k3_geo", "unit_igconv_k5_geo_max8"])
def test_kernels_equal_the_recorded_ones(name: str, shared: Path) -> None:
    kwargs, tensors = recorded(shared, name)
    module = IGConv(
        kwargs["dim"],
        kernel_size=kwargs["kernel_size"],
        width=kwargs["implicit_dim"],
        hidden_layers=kwargs["latent_layers"],
        geometric=kwargs["geo_ensemble"],
        max_scale=kwargs["max_s"],
    ).eval()
    rules = ig_renames("g")
    state = translate({f"g.{k}": v for k, v in tensors.items() if not k.startswith("io/")}, rules)
    module.load_state_dict({key.removeprefix("upsampler."): value for key, value in state.items()})
    image = torch.zeros(2, 3, *tensors["io/in"].shape[-2:])
    for key, expected in tensors.items():
        if match := re.fullmatch(r"io/out(64)?\.x(\d)", key):
            kind = torch.float64 if match[1] else torch.float32
            network = copy.deepcopy(module).to(kind)
            with torch.no_grad():
                output = network(tensors["io/in"].to(kind), image.to(kind), int(match[2]))
            limit = 1e-9 if match[1] else 2e-5 * max(1.0, float(expected.std()))
            assert (output - expected).abs().max() <= limit, key
        elif match := re.fullmatch(r"io/instw\.x(\d)", key):
            weight, _ = module.weights(Scale.of(int(match[1])))
            assert (weight - expected).abs().max() <= 2e-5


@pytest.mark.parametrize("name", ["unit_igsample", "unit_igsample_nogeo_max8"])
def test_samples_equal_the_recorded_ones(name: str, shared: Path) -> None:
    kwargs, tensors = recorded(shared, name)
    module = IGSample(
        kwargs["dim"], kwargs["kernel_size"], kwargs["implicit_dim"], kwargs["latent_layers"], kwargs["max_s"]
    )
    state = translate(
        {f"skip.{k}": v for k, v in tensors.items() if not k.startswith("io/")}, ig_renames("none")
    )
    module.load_state_dict({key.removeprefix("upsampler.sampler."): value for key, value in state.items()})
    checked = 0
    for key, expected in tensors.items():
        if match := re.fullmatch(r"io/out(64)?\.x(\d)", key):
            kind = torch.float64 if match[1] else torch.float32
            network, scale = copy.deepcopy(module).to(kind), Scale.of(int(match[2]))
            with torch.no_grad():
                kernels = network.kernels(scale)
                weight = embed(symmetrise(kernels) if kwargs["geo_ensemble"] else kernels, scale)
                maps = phase_conv2d(tensors["io/in.feat"].to(kind), weight, None, scale)
                output = network.sample(tensors["io/in.img"].to(kind), maps, scale)
            assert (output - expected).abs().max() <= (1e-9 if match[1] else 2e-5), key
            checked += 1
    assert checked


@pytest.mark.parametrize("text", ["3/2", "5/2", "4/3"])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("form", [PhaseConv.of, GroupedConv])
def test_narrow_pictures_are_finite_in_bfloat16(
    text: str, width: int, form: Callable[..., nn.Module]
) -> None:
    """On matrix units convolutions that made one column read what was not theirs, now and then."""
    scale, features = Scale.of(text), torch.randn(1, 16, 20, width)
    weight, _ = make(16).weights(scale)
    conv = form(weight.detach(), None, scale)
    with torch.no_grad():
        exact = conv(features)
        for _ in range(20):
            used = [torch.full((size,), torch.nan) for size in range(100, 5000, 300)]
            del used  # what is freed is not zero
            with torch.autocast("cpu", torch.bfloat16):
                made = conv(features)
            assert (made - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("text", ["3/2", "5/3", "7/4", "31/10", ("3/2", "2")])
def test_grouped_form_equals_the_dense_one(text: str | tuple[str, str]) -> None:
    scale, features = Scale.of(text), torch.randn(1, 6, 13, 11, dtype=torch.float64)
    with torch.no_grad():
        weight, _ = make().double().weights(scale)
        bias = torch.randn(weight.shape[0], dtype=torch.float64)
        grouped = GroupedConv(weight, bias, scale)
        assert torch.allclose(
            grouped(features), phase_conv2d(features, weight, bias, scale), rtol=0, atol=1e-12
        )
    assert sum(conv.weight.numel() for conv in grouped.convs) < weight.numel()


def test_symmetric_form_equals_the_dense_one_with_a_third_of_the_weights() -> None:
    scale, features = Scale.of(5), torch.randn(2, 6, 9, 7, dtype=torch.float64)
    module = make(plus=True, geometric=True).double()
    with torch.no_grad():
        weight, _ = module.weights(scale)
        bias = torch.randn(weight.shape[0], dtype=torch.float64)
        form = SymmetricConv(weight, bias, scale)
        assert torch.allclose(form(features), phase_conv2d(features, weight, bias, scale), rtol=0, atol=1e-12)
    assert form.conv.weight.numel() * 3 == weight.numel()
    # 15 * 25 rows are enough for it to be chosen; without symmetry it never is.
    assert isinstance(module.at(5).conv, SymmetricConv)
    assert not isinstance(make(plus=True).at(5).conv, SymmetricConv)


def test_sizes_equal_the_published_ones() -> None:
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(IGConv(64)) == 559_107
    assert count(IGSample(64)) == 362_752
    fused = IGConv(64, geometric=True, base="sample").at(2)
    assert count(fused) == 34_560
    assert count(IGConv(64).at(2)) == 6_912


@pytest.mark.parametrize("geometric", [False, True])
@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize(("kind", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_fixed_form_equals_the_dynamic_one(
    geometric: bool, plus: bool, kind: torch.dtype, limit: float
) -> None:
    module = make(plus=plus, geometric=geometric).to(kind)
    features, image = torch.randn(2, 6, 9, 7, dtype=kind), torch.rand(2, 3, 9, 7, dtype=kind)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    for scale in [*range(1, 9), "3/2", "7/4", (2, "5/3")]:
        with torch.enable_grad():  # with gradients nothing is cached
            dynamic = module(features, image, scale).detach()
        fixed = module.at(scale)
        assert not any(isinstance(child, KernelField) for child in fixed.modules())
        assert (fixed(features, image) - dynamic).abs().max() <= limit * max(1.0, float(dynamic.abs().max()))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("text", [*RATIONALS, ("2", "5/2"), ("7/3", "3")])
def test_every_pixel_equals_brute_force(text: str | tuple[str, str]) -> None:
    """Each output pixel by itself: exact position, the cell it lies in, the kernel there, a sum of products."""
    scale, module = Scale.of(text), make(channels=2).double()
    features = torch.randn(1, 2, 7, 5, dtype=torch.float64)
    with torch.no_grad():
        output = module(features, torch.zeros(1, 3, 7, 5, dtype=torch.float64), text)
    padded = F.pad(features, (2, 3, 2, 3))
    rows, columns = scale.output_size(7, 5)
    assert output.shape == (1, 3, rows, columns)
    for i, j in {(i, j) for i in (0, 1, rows // 2, rows - 1) for j in range(columns)}:
        expected = torch.zeros(3, dtype=torch.float64)
        for (n, dy, wy), (m, dx, wx) in ((a, b) for a in cells(i, scale.y) for b in cells(j, scale.x)):
            with torch.no_grad():
                kernel = module.kernels.at_positions([(dy, dx)], scale.mean_factor)[:, 0]
            patch = padded[0, :, n + 1 : n + 4, m + 1 : m + 4]
            expected += wy * wx * (kernel * patch).sum(dim=(1, 2, 3))
        assert torch.allclose(output[0, :, i, j], expected, rtol=0, atol=1e-10), (i, j)


@pytest.mark.parametrize("text", ["5/2", "4/3", "8/7", ("7/4", "3")])
def test_incomplete_periods_read_zeros(text: str | tuple[str, str]) -> None:
    """Sizes that are multiples of the period, and those that are not, take ways of their own."""
    scale = Scale.of(text)
    conv = PhaseConv(2, 3, scale)
    for height, width in [(14, 14), (12, 15), (1, 2), (13, 12), (7, 16)]:
        features = torch.randn(1, 2, height, width)
        complete = F.pad(features, (0, 168 - width, 0, 168 - height))
        rows, columns = scale.output_size(height, width)
        torch.testing.assert_close(conv(features), conv(complete)[..., :rows, :columns])


def cells(index: int, factor: Fraction) -> list[tuple[int, float, float]]:
    """(LR pixel, position in it, weight) of an HR pixel; two of them on a border between pixels."""
    u = (index + Fraction(1, 2)) / factor
    n = math.floor(u)
    if u == n:
        return [(n - 1, 1.0, 0.5), (n, -1.0, 0.5)]
    return [(n, float(2 * (u - n) - 1), 1.0)]


@pytest.mark.parametrize("text", ["2", "3", "3/2", "5/2", "4/3", "7/5", "12/5"])
def test_a_bilinear_kernel_gives_bilinear_interpolation(text: str) -> None:
    scale = Scale.of(text)

    def hat(delta: float) -> Tensor:
        """Weights of the left, own and right pixel for a centre at ``delta``."""
        return torch.tensor(
            [max(0.0, -delta / 2), 1 - abs(delta) / 2, max(0.0, delta / 2)], dtype=torch.float64
        )

    of_y = torch.stack([hat(float(tap.delta)) for tap in axis_taps(scale.y)])
    of_x = torch.stack([hat(float(tap.delta)) for tap in axis_taps(scale.x)])
    kernels = torch.einsum("ya,xb->yxab", of_y, of_x)[None, :, :, None]
    image = torch.rand(1, 1, 15, 20, dtype=torch.float64)
    result = phase_conv2d(image, embed(kernels, scale), None, scale)
    edge = 2 * math.ceil(scale.y)  # outside the picture features are zero, but the picture is continued
    inside = (..., slice(edge, -edge), slice(edge, -edge))
    assert torch.allclose(result[inside], bilinear(image, scale)[inside], rtol=0, atol=1e-12)


@given(st.sampled_from(["2", "3/2", "5/3", "9/4"]), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_bilinear_keeps_exact_positions_at_any_size(text: str, height: int, width: int) -> None:
    scale, image = Scale.of(text), torch.rand(1, 2, height, width, dtype=torch.float64)
    rows, columns = scale.output_size(height, width)
    sampled = sample_at(image, torch.zeros(1, 4, rows, columns, dtype=torch.float64), scale)
    assert torch.allclose(bilinear(image, scale), sampled, rtol=0, atol=1e-12)


@pytest.mark.parametrize("text", ["3", "3/2", "7/3", "5"])
def test_bilinear_does_not_drift_across_wide_pictures(text: str) -> None:
    scale, p, q = Scale.of(text), Scale.of(text).x.numerator, Scale.of(text).x.denominator
    image = torch.rand(1, 1, 6, 6000)
    whole = bilinear(image, scale)
    part = bilinear(image[..., 5400 - 2 * q :], scale)
    # How torch rounds depends on the size on some processors. Positions that drift are off by a thousand times that.
    torch.testing.assert_close(whole[..., 5400 * p // q :], part[..., 2 * p :], rtol=0, atol=2e-7)


def test_bilinear_equals_torchs_on_small_pictures() -> None:
    image = torch.rand(2, 3, 9, 7)
    for factor in (1, 2, 3, 4):
        theirs = F.interpolate(image, scale_factor=factor, mode="bilinear")
        assert (bilinear(image, Scale.of(factor)) - theirs).abs().max() < 1e-6


def test_sampling_positions_survive_half_precision() -> None:
    ramp = torch.arange(1920, dtype=torch.float64).expand(1, 1, 1, -1)
    offset = torch.zeros(1, 2, 2, 3840)
    exact = sample_at(ramp, offset, Scale.of(2))
    half = sample_at(ramp.half(), offset.half(), Scale.of(2))
    # The ramp's values are the positions; float16 rounds them to whole numbers above 1024, no more.
    assert (half[..., :1000] - exact[..., :1000]).abs().max() < 0.3
    assert (half - exact).abs().max() <= 0.75


@pytest.mark.parametrize("text", ["3", "4/3", "5/3", "3/2", "5/2", "7/4"])
def test_symmetric_kernels_make_a_mirror_symmetric_operator(text: str) -> None:
    scale = Scale.of(text)
    taps = len(axis_taps(scale.y))
    kernels = torch.randn(2, taps, taps, 3, 3, 3, dtype=torch.float64)
    kernels = (kernels + kernels.flip(1, 4)) / 2  # delta -> -delta together with the kernel's rows
    p, q = scale.y.numerator, scale.y.denominator
    features = torch.randn(1, 3, 4 * q, 3 * q, dtype=torch.float64)
    weight = embed(kernels, scale)
    mirrored = phase_conv2d(features.flip(-2), weight, None, scale).flip(-2)
    assert torch.allclose(mirrored, phase_conv2d(features, weight, None, scale), rtol=0, atol=1e-12)
    assert mirrored.shape[-2:] == (4 * p, 3 * p)


def test_symmetrised_kernels_have_three_free_values() -> None:
    kernels = symmetrise(torch.randn(5, 3, 3, dtype=torch.float64))
    assert all(len(torch.unique((kernel * 1e12).round())) == 3 for kernel in kernels)
    for turned in (kernels.flip(-1), kernels.flip(-2), kernels.mT):
        assert torch.allclose(turned, kernels, rtol=0, atol=1e-15)


def test_depth_to_space_of_unequal_blocks() -> None:
    maps = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert depth_to_space(maps, (2, 3))[0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_colours_start_with_equal_offsets_and_open_gates() -> None:
    sampler = IGSample(4, width=8)
    rows = sampler.kernels(Scale.of(3)).detach()
    x_offsets, y_offsets, gates = rows[:3], rows[3:6], rows[6:]
    assert torch.equal(x_offsets[0], x_offsets[1])
    assert torch.equal(x_offsets[0], x_offsets[2])
    assert torch.equal(y_offsets[0], y_offsets[2])
    assert not torch.equal(x_offsets[0], y_offsets[0])
    assert not gates.any()


def test_cached_kernels_follow_the_weights() -> None:
    module = make(plus=True)
    features, image = torch.randn(1, 6, 5, 5), torch.rand(1, 3, 5, 5)
    with torch.no_grad():
        first = module(features, image, 2)
        assert torch.equal(module(features, image, 2), first)
        module.kernels.layers[0].weight.mul_(1.5)
        changed = module(features, image, 2)
        assert not torch.equal(changed, first)
        module.load_state_dict(make(plus=True).state_dict())
        assert torch.equal(module(features, image, 2), first)
        doubled = copy.deepcopy(module).double()
        assert doubled(features.double(), image.double(), 2).dtype == torch.float64


def test_chunks_of_positions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make().double()
    with torch.no_grad():
        whole = module.kernels(Scale.of(5))
        monkeypatch.setattr("polyres.upsamplers.kernels._CHUNK_ELEMENTS", 1)
        assert torch.allclose(module.kernels(Scale.of(5)), whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale", ["1/2", 0, -1, "abc", 100, "101/100"])
def test_impossible_scales_are_refused(scale: object) -> None:
    with pytest.raises(ScaleError):
        make()(torch.zeros(1, 6, 4, 4), torch.zeros(1, 3, 4, 4), scale)


@pytest.mark.parametrize("scale", [2, "3/2"])
def test_the_learned_base_is_the_part_that_comes_from_the_picture(scale: int | str) -> None:
    module, features, image = make(plus=True), torch.rand(1, 6, 6, 4), torch.rand(1, 3, 6, 4)
    picture, base = module.with_base(features, image, scale)
    assert torch.equal(picture, module(features, image, scale))
    # Without the picture nothing is sampled, and the generated part is all there is.
    assert torch.allclose(picture - base, module(features, torch.zeros_like(image), scale), atol=1e-5)
    dark, _ = module.with_base(features, torch.zeros_like(image), scale)
    assert not torch.allclose(dark, picture, atol=1e-2)


def test_the_base_of_a_model_is_in_the_range_of_pictures() -> None:
    part = {"width": 8, "hidden_layers": 1, "sample_width": 4, "sample_layers": 1}
    config = ModelConfig.model_validate(
        {
            "encoder": {
                "name": "swinir",
                "options": {"channels": 8, "blocks": [1], "heads": [2], "window": 4},
            },
            "upsampler": {"name": "igconv+", "options": part},
            "mean": [0.4, 0.5, 0.6],
            "value_range": 255,
        }
    )
    model, image = build(config).eval(), torch.rand(1, 3, 5, 7)  # padded to the window, and cropped
    torch.nn.init.zeros_(model.upsampler.sampler.kernels.last.weight)  # nothing is displaced
    with torch.no_grad():
        picture, base = model.with_base(image, 2)
        assert torch.equal(picture, model(image, 2))
    assert base.shape == picture.shape == (1, 3, 10, 14)
    inner = (..., slice(9), slice(13))  # beyond it the padding takes part
    assert torch.allclose(base[inner], bilinear(image, Scale.of(2))[inner], atol=1e-5)


@pytest.mark.parametrize("base", ["none", "bilinear"])
def test_a_base_that_is_not_learned_is_not_judged(base: str) -> None:
    module = IGConv(4, width=8, hidden_layers=1, base=base)
    assert not module.learns_base
    with pytest.raises(ConfigError, match="learns no base"):
        module.with_base(torch.rand(1, 4, 4, 4), torch.rand(1, 3, 4, 4), 2)
