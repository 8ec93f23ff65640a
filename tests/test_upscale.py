"""The Upscaler: tiles that equal the whole, grey and transparency kept, sizes exact, memory bounded."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from polyres.deploy.fuse import fuse
from polyres.encoders import Encoder
from polyres.errors import PictureError, ScaleError, UsageError
from polyres.model import ModelConfig, SRModel, build
from polyres.pictures import Picture, read_picture
from polyres.scale import Scale
from polyres.upsamplers import SPConv
from polyres.upscale import Plan, Upscaler, plan
from polyres.upscale import choice as choice_module
from polyres.upscale import upscaler as upscaler_module
from polyres.upscale.memory import free_memory, is_out_of_memory, peak_bytes

CPU = torch.device("cpu")


def tiny(base: str = "none", seed: int = 0) -> SRModel:
    """A model of context 7 (or none, if it samples the picture) whose pictures are mostly between 0 and 1."""
    torch.manual_seed(seed)
    options = {"width": 8, "hidden_layers": 1, "base": base, "sample_width": 8}
    config = {
        "encoder": {"name": "edsr", "options": {"channels": 8, "blocks": 2}},
        "upsampler": {"name": "igconv", "options": options},
        "mean": [0.4] if base == "none" else [0.0],
    }
    model = build(ModelConfig.model_validate(config)).eval()
    with (
        torch.no_grad()
    ):  # larger values would have a float32 rounding error that hides a difference of tiles
        model.upsampler.kernels.layers[-1].weight.mul_(0.25)
        model.upsampler.kernels.layers[-1].bias.mul_(0.25)
    return model


class Blocks(Encoder):
    """Adds to each pixel the mean of its 4x4 block and a 3x3 convolution: a network with a grid of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels, self.out_channels = 3, 4
        self.multiple_of, self.context = 4, 4
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        features = self.conv(image)
        means = nn.functional.avg_pool2d(features, 4)
        return features + means.repeat_interleave(4, 2).repeat_interleave(4, 3)


class Levelled(Encoder):
    """Subtracts the mean of the whole picture: a network that looks everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.context = 3, 3, None

    def forward(self, image: Tensor) -> Tensor:
        return image - image.mean((2, 3), keepdim=True)


def joined(encoder: Encoder) -> SRModel:
    torch.manual_seed(1)
    return SRModel(encoder, SPConv(encoder.out_channels, scales=(2, 3, "3/2")), mean=(0.5, 0.5, 0.5)).eval()


def noise(height: int, width: int, channels: int = 3, dtype: Any = np.float32, seed: int = 0) -> Picture:
    values = np.random.default_rng(seed).random((height, width, channels), dtype=np.float32)
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    return Picture((values * white).astype(dtype))


def whole(model: SRModel, pixels: np.ndarray, scale: Any) -> np.ndarray:
    """What the model makes of the whole picture at once: (H', W', 3), not clamped."""
    with torch.inference_mode():
        image = torch.from_numpy(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy())
        return model(image.permute(2, 0, 1)[None], scale)[0].permute(1, 2, 0).numpy()


def in_bands(upscaler: Upscaler, pixels: np.ndarray, scale: Any) -> np.ndarray:
    return np.concatenate(list(upscaler.bands(pixels, scale)))


# ---- tiles -----------------------------------------------------------------------------------------------------

EXACT = {"igconv": tiny(), "blocks": joined(Blocks())}


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(sorted(EXACT)), st.integers(1, 65), st.integers(1, 65), st.integers(1, 40),
    st.sampled_from([2, 3, "3/2"]), st.integers(1, 4),
)  # fmt: skip
def test_tiles_equal_the_whole(name: str, height: int, width: int, tile: int, scale: Any, batch: int) -> None:
    pixels = noise(height, width, seed=height * 100 + width).pixels
    result = in_bands(
        Upscaler(EXACT[name], device="cpu", dtype=torch.float32, tile=tile, batch=batch), pixels, scale
    )
    expected = whole(EXACT[name], pixels, scale).clip(0, 1)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(EXACT))
def test_less_overlap_than_the_context_is_not_equal(name: str) -> None:
    pixels = noise(40, 48).pixels
    upscaler = Upscaler(EXACT[name], device="cpu", dtype=torch.float32, tile=16, overlap=0)
    assert np.abs(in_bands(upscaler, pixels, 2) - whole(EXACT[name], pixels, 2).clip(0, 1)).max() > 1e-4
    assert not upscaler.tiling(40, 48, 2).exact


@pytest.mark.parametrize("scale", [2, 4, 3, "3/2", "5/2", (2, "5/2")])
def test_tiles_equal_the_whole_with_a_bilinear_base(scale: Any) -> None:
    model, pixels = tiny("bilinear"), noise(50, 61).pixels
    result = in_bands(Upscaler(model, device="cpu", dtype=torch.float32, tile=13), pixels, scale)
    np.testing.assert_allclose(result, whole(model, pixels, scale).clip(0, 1), rtol=0, atol=1e-6)


def test_a_network_that_looks_everywhere_is_told_to_be_inexact() -> None:
    model, pixels = joined(Levelled()), noise(80, 300).pixels
    pixels[:, 200:] *= 0.2
    tiled, one = (Upscaler(model, device="cpu", dtype=torch.float32, tile=tile) for tile in (32, 0))
    assert "nearly exact" in str(tiled.tiling(80, 300, 2))
    assert "one piece" in str(one.tiling(80, 300, 2))
    expected = whole(model, pixels, 2).clip(0, 1)
    np.testing.assert_allclose(in_bands(one, pixels, 2), expected, rtol=0, atol=1e-6)
    assert np.abs(in_bands(tiled, pixels, 2) - expected).max() > 1e-3


def test_all_tiles_of_a_row_may_run_together(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    run = upscaler_module.Engine.__call__
    monkeypatch.setattr(
        upscaler_module.Engine,
        "__call__",
        lambda self, windows: (seen.append(windows.shape), run(self, windows))[1],
    )
    in_bands(Upscaler(tiny(), device="cpu", dtype=torch.float32, tile=16, batch=3), noise(20, 64).pixels, 2)
    assert {shape[0] for shape in seen} == {3, 1}
    assert len({shape[1:] for shape in seen}) == 1


# ---- memory ----------------------------------------------------------------------------------------------------


def test_peak_is_what_convolutions_hold_at_once() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)).eval()
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        peak = peak_bytes(lambda: net(image))
    assert peak / 1.25 == 2 * 16 * 32 * 32 * 4  # two maps of 16 channels, the allowance for scratch apart


def test_measuring_memory_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from polyres.upscale.memory import peak_bytes\n"
        "peak_bytes(lambda: torch.ones(4) + 1)\n"
        "assert 'torch._dynamo' not in sys.modules, 'seconds are lost'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_windows_fit_the_memory_that_is_allowed() -> None:
    upscaler = Upscaler(tiny(), device="cpu", dtype=torch.float32, memory=2_000_000)
    tiling, engine = upscaler.tiling(500, 700, 2), upscaler._engine(Scale.of(2))
    window = tiling.rows.window(tiling.tile[0]) * tiling.columns.window(tiling.tile[1])
    assert tiling.count > 1
    assert window * engine.bytes_per_pixel() <= 2_000_000


def test_free_memory_is_some_of_it() -> None:
    assert 10_000_000 < free_memory(CPU) < 2**50


class Starved:
    """Stands in for an engine that runs out of memory above a number of pixels."""

    def __init__(self, engine: Any, pixels: int, error: Exception) -> None:
        self.engine, self.pixels, self.error = engine, pixels, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def __call__(self, windows: np.ndarray) -> Tensor:
        if windows.shape[0] * windows.shape[1] * windows.shape[2] > self.pixels:
            raise self.error
        return self.engine(windows)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_tiles_are_halved_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    model, pixels = tiny(), noise(200, 180).pixels
    upscaler = Upscaler(model, device="cpu", dtype=torch.float32, tile=0, batch=1)
    starved = Starved(upscaler._engine(Scale.of(2)), 100 * 100, error)
    monkeypatch.setattr(upscaler, "_engine", lambda scale: starved)
    np.testing.assert_allclose(
        in_bands(upscaler, pixels, 2), whole(model, pixels, 2).clip(0, 1), rtol=0, atol=1e-6
    )


def test_finished_tiles_are_kept_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pixels = tiny(), noise(200, 48).pixels
    upscaler = Upscaler(model, device="cpu", dtype=torch.float32, tile=48, batch=1)
    starved = Starved(upscaler._engine(Scale.of(2)), 10**9, MemoryError())
    monkeypatch.setattr(upscaler, "_engine", lambda scale: starved)
    bands = upscaler.bands(pixels, 2)
    first = next(bands)
    starved.pixels = 50 * 48
    rest = list(bands)
    assert len(first) == 96
    assert len(rest[0]) < 96
    expected = whole(model, pixels, 2).clip(0, 1)
    np.testing.assert_allclose(np.concatenate([first, *rest]), expected, rtol=0, atol=1e-6)


def test_no_memory_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler = Upscaler(tiny(), device="cpu", dtype=torch.float32)
    starved = Starved(upscaler._engine(Scale.of(2)), 0, MemoryError())
    monkeypatch.setattr(upscaler, "_engine", lambda scale: starved)
    with pytest.raises(PictureError, match="memory ran out even with tiles of 32x32"):
        upscaler(noise(64, 64), scale=2)


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler = Upscaler(tiny(), device="cpu", dtype=torch.float32)
    starved = Starved(upscaler._engine(Scale.of(2)), 0, RuntimeError("shape mismatch"))
    monkeypatch.setattr(upscaler, "_engine", lambda scale: starved)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        upscaler(noise(64, 64), scale=2)
    assert not is_out_of_memory(ValueError("not enough memory"))


# ---- pictures --------------------------------------------------------------------------------------------------


def test_one_pixel_is_enlarged() -> None:
    assert Upscaler(tiny("bilinear"), device="cpu")(noise(1, 1, dtype=np.uint8), scale=3).pixels.shape == (
        3,
        3,
        3,
    )


def test_grey_stays_grey() -> None:
    model, picture = tiny("bilinear"), noise(20, 30, channels=1)
    result = Upscaler(model, device="cpu", dtype=torch.float32)(picture, scale=2)
    expected = whole(model, picture.pixels, 2).mean(2, keepdims=True).clip(0, 1)
    assert result.is_grey
    np.testing.assert_allclose(result.pixels, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_depth_is_kept_and_rounded_to_nearest(dtype: Any) -> None:
    model, picture = tiny("bilinear"), noise(20, 30, dtype=dtype)
    result = Upscaler(model, device="cpu", dtype=torch.float32, tile=8)(picture, scale=2).pixels
    unit = (picture.pixels / np.float32(picture.white)).astype(np.float32)
    expected = whole(model, unit, 2).clip(0, 1) * picture.white
    assert result.dtype == dtype
    assert np.abs(result - expected).max() <= 0.5 + 1e-6 * picture.white


def test_what_is_opaque_or_empty_stays_exactly_so() -> None:
    alpha = np.zeros((40, 40), np.uint8)
    alpha[:, 20:] = 255
    picture = dataclasses.replace(noise(40, 40, dtype=np.uint8), alpha=alpha)
    result = Upscaler(tiny("bilinear"), device="cpu")(picture, scale=3)
    assert (result.alpha[:, :51] == 0).all()
    assert (result.alpha[:, 69:] == 255).all()
    assert 0 < result.alpha[5, 60] < 255
    full = Upscaler(tiny("bilinear"), device="cpu")(
        dataclasses.replace(picture, alpha=np.full_like(alpha, 255)), scale=3
    )
    assert full.is_opaque


def test_no_dark_fringe_comes_out_from_under_transparent_pixels() -> None:
    pixels, alpha = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    pixels[10:30, 10:30], alpha[10:30, 10:30] = 200, 255
    upscaler = Upscaler(bilinear_only(), device="cpu", dtype=torch.float32)
    result = upscaler(Picture(pixels, alpha), scale=2)
    visible = result.alpha > 0
    assert visible.sum() > 40 * 40
    assert np.abs(result.pixels[visible].astype(int) - 200).max() <= 1


def bilinear_only() -> SRModel:
    """A model whose network adds nothing to the bilinear enlargement."""
    model = tiny("bilinear")
    for parameter in model.encoder.parameters():
        nn.init.zeros_(parameter)
    return model


def test_profile_exif_and_format_come_along() -> None:
    picture = dataclasses.replace(
        noise(9, 9, dtype=np.uint8), icc_profile=b"profile", exif=b"exif", format="tiff"
    )
    result = Upscaler(tiny(), device="cpu")(picture, scale=2)
    assert (result.icc_profile, result.exif, result.format) == (b"profile", b"exif", "tiff")


def test_progress_ends_at_one() -> None:
    parts: list[float] = []
    Upscaler(tiny(), device="cpu", tile=8)(noise(40, 20), scale=2, on_progress=parts.append)
    assert parts == sorted(parts)
    assert len(parts) == 5
    assert parts[-1] == 1


def test_a_real_photograph_keeps_its_looks(shared: Path) -> None:
    original = read_picture(shared / "data/bench/Set5/HR/baby.webp")
    small = Picture(original.pixels[:256, :256][::2, ::2].copy())
    result = Upscaler(bilinear_only(), device="cpu", tile=48)(small, scale=2)
    assert np.abs(result.pixels.astype(int) - original.pixels[:256, :256]).mean() < 6


# ---- sizes -----------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 400), st.integers(1, 400), st.fractions(min_value="1/16", max_value=16, max_denominator=20)
)
def test_a_plan_gives_the_exact_size(height: int, width: int, scale: Any) -> None:
    work = plan(height, width, scale=scale)
    assert (work.height, work.width) == Scale.of(scale).output_size(height, width)
    made = (height, width) if work.model_scale is None else work.model_scale.output_size(height, width)
    assert (work.resample_to is None) == (made == (work.height, work.width))
    if work.model_scale is not None and scale <= 8:  # a filter invents nothing that the network could make
        assert made[0] >= work.height
        assert made[1] >= work.width


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"scale": 3}, Plan(90, 60, Scale.of(3), None)),
        ({"scale": "5/2"}, Plan(75, 50, Scale.of("5/2"), None)),
        ({"scale": "2.37"}, Plan(71, 47, Scale.of("5/2"), (71, 47))),
        ({"scale": "31/10"}, Plan(93, 62, Scale.of("7/2"), (93, 62))),
        ({"scale": "11/10"}, Plan(33, 22, Scale.of("3/2"), (33, 22))),  # 4/3 would come to 26.7 rows
        ({"scale": (2, 3)}, Plan(90, 40, Scale.of(3), (90, 40))),
        ({"size": (45, 30)}, Plan(45, 30, Scale.of("3/2"), None)),
        ({"scale": 1}, Plan(30, 20, None, None)),
        ({"scale": 0.5}, Plan(15, 10, None, (15, 10))),
        ({"scale": 12}, Plan(360, 240, Scale.of(8), (360, 240))),
        ({"size": (60, 40)}, Plan(60, 40, Scale.of(2), None)),
        ({"size": (100, 40)}, Plan(100, 40, Scale.of("7/2"), (100, 40))),
    ],
)
def test_plans(asked: dict[str, Any], expected: Plan) -> None:
    assert plan(20, 30, **asked) == expected


@pytest.mark.parametrize(("asked", "made"), [("1.5", 2), ("2", 2), ("2.5", 4), ("6", 6), ("0.9", None)])
def test_plans_keep_to_the_scales_that_the_network_has(asked: str, made: int | None) -> None:
    work = plan(20, 30, scale=asked, supports=lambda scale: scale in (Scale.of(2), Scale.of(4)))
    assert work.model_scale == (Scale.of(made) if made else None)


@pytest.mark.parametrize("size", [(37, 53), (10, 7), (20, 20), (41, 60)])
def test_any_size_is_met_exactly(size: tuple[int, int]) -> None:
    picture = dataclasses.replace(noise(20, 20, dtype=np.uint8), alpha=np.full((20, 20), 255, np.uint8))
    result = Upscaler(tiny("bilinear"), device="cpu")(picture, size=size)
    assert (result.width, result.height) == size
    assert result.is_opaque


def test_scale_one_changes_nothing() -> None:
    picture = noise(20, 20, dtype=np.uint8)
    assert Upscaler(tiny(), device="cpu")(picture, scale=1) is picture


@pytest.mark.parametrize("asked", [{}, {"scale": 2, "size": (4, 4)}])
def test_a_scale_or_a_size_is_needed(asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="either a scale"):
        Upscaler(tiny(), device="cpu")(noise(4, 4), **asked)


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (2.5, 3), (1, 2, 3)])
def test_sizes_that_do_not_exist(size: Any) -> None:
    with pytest.raises(ScaleError, match="at least 1x1"):
        plan(4, 4, size=size)


def test_results_that_are_too_large_are_refused_before_the_work() -> None:
    with pytest.raises(PictureError, match=r"48000x64000 = 3072 megapixels; at most 2000"):
        plan(16000, 12000, scale=4)
    with pytest.raises(PictureError, match=r"at most 0\.001"):
        Upscaler(tiny(), device="cpu", max_pixels=1000)(noise(20, 20), scale=2)


# ---- the network -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [-1, "large", 2.5, True])
def test_tiles_that_make_no_sense(tile: Any) -> None:
    with pytest.raises(UsageError, match="tile is a number of pixels"):
        Upscaler(tiny(), device="cpu", tile=tile)


def test_bfloat16_is_chosen_where_the_cpu_has_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert Upscaler(tiny(), device="cpu").dtype == torch.bfloat16
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert Upscaler(tiny(), device="cpu").dtype == torch.float32


def test_bfloat16_is_near_float32() -> None:
    picture = noise(30, 30)
    exact, near = (
        Upscaler(tiny("bilinear"), device="cpu", dtype=dtype)(picture, scale=2).pixels
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert 0 < np.abs(exact - near).max() < 1e-2


def test_other_precisions_are_refused() -> None:
    with pytest.raises(UsageError, match="float32, bfloat16 or float16"):
        Upscaler(tiny(), device="cpu", dtype=torch.float64)(noise(4, 4), scale=2)


def test_weights_that_are_not_finite_are_told() -> None:
    model = tiny()
    with torch.no_grad():
        model.encoder.head.weight.fill_(float("nan"))
    with pytest.raises(PictureError, match="not finite in float32"):
        Upscaler(model, device="cpu", dtype=torch.float32)(noise(8, 8), scale=2)


def test_a_model_is_fused_once_a_scale_and_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = tiny().train(), []
    before = {key: value.clone() for key, value in model.state_dict().items()}
    monkeypatch.setattr(choice_module, "fuse", lambda *args: (calls.append(args[1]), fuse(*args))[1])
    upscaler = Upscaler(model, device="cpu")
    for scale in (2, 3, 2, "2"):
        upscaler(noise(5, 5), scale=scale)
    assert calls == [Scale.of(2), Scale.of(3)]
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
