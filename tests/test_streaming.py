"""Large results: streamed to disk equal to written whole, memory foreseen, tiles verified."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import polyres.cli
from polyres.errors import OutputError
from polyres.model import ModelConfig, SRModel, build
from polyres.pictures import Picture, read_picture, resample, write_picture
from polyres.pictures import streaming as pictures_streaming
from polyres.pictures.resample import resample_bands
from polyres.pictures.streaming import write_bands
from polyres.scale import Scale
from polyres.upscale import Target, Upscaler, streaming
from polyres.upscale import upscaler as upscaler_module
from polyres.upscale.streaming import (
    is_streamed,
    predicted_peak,
    result_bytes,
    tiling_error,
    write_streamed,
)

SUFFIXES = (".tif", ".png")


@pytest.fixture(autouse=True)
def _codecs() -> None:
    for module in ("tifffile", "imagecodecs"):
        pytest.importorskip(module, reason="needs the extra 'depth'")


def model(encoder: str = "edsr", **options: object) -> SRModel:
    torch.manual_seed(0)
    config = {
        "encoder": {"name": encoder, "options": options or {"channels": 4, "blocks": 1}},
        "upsampler": {"name": "igconv", "options": {"width": 8, "hidden_layers": 1, "base": "bilinear"}},
    }
    return build(ModelConfig.model_validate(config)).eval()


def noise(height: int, width: int, channels: int = 3, dtype: Any = np.uint8) -> Picture:
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    values = np.random.default_rng(0).random((height, width, channels), np.float32) * white
    return Picture(values.astype(dtype), None, b"profile" * 9)


def cut(pixels: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    for top in range(0, len(pixels), rows):
        yield pixels[top : top + rows]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [1, 100, 999])
def test_bands_make_the_same_picture(
    tmp_path: Path, suffix: str, dtype: Any, channels: int, rows: int
) -> None:
    whole = noise(300, 270, 3, dtype).pixels[:, :, [0, 1, 2, 0][:channels]]
    colours = whole[:, :, : 1 if channels < 3 else 3]
    picture = Picture(colours, None if channels % 2 else whole[:, :, -1], b"profile" * 9)
    write_bands(tmp_path / f"a{suffix}", cut(whole, rows), 300, 270, picture)
    got, expected = read_picture(tmp_path / f"a{suffix}"), picture
    if suffix == ".png" and dtype == np.float32:
        expected = picture.at_depth(np.uint16)
    assert got.pixels.dtype == expected.pixels.dtype
    assert (got.pixels == expected.pixels).all()
    assert (got.alpha is None) == (expected.alpha is None)
    assert got.alpha is None or (got.alpha == expected.alpha).all()
    assert got.icc_profile == picture.icc_profile


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_metadata_is_that_of_a_file_written_whole(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[271], exif[256], exif[282], exif[283], exif[296] = "camera", 5, 72.0, 96.0, 2
    exif.get_ifd(34665)[40962] = 5  # the width, which changes
    picture = noise(40, 30)
    picture = Picture(picture.pixels, None, picture.icc_profile, exif.tobytes(), b"<x:xmpmeta/>")
    write_picture(picture, tmp_path / f"whole{suffix}")
    write_bands(tmp_path / f"bands{suffix}", cut(picture.pixels, 7), 40, 30, picture)
    whole, bands = (read_picture(tmp_path / f"{name}{suffix}") for name in ("whole", "bands"))
    blocks = []
    for read in (whole, bands):
        block = Image.Exif()
        block.load(read.exif or b"")
        blocks.append((dict(block), dict(block.get_ifd(34665))))
    assert blocks[0] == blocks[1]
    assert blocks[1][1] == {40962: 30}
    assert bands.xmp == whole.xmp


def test_a_large_tiff_is_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = noise(20, 20)
    for big, head in ((2**32, b"II*\0"), (100, b"II+\0")):
        monkeypatch.setattr(pictures_streaming, "BIG", big)
        write_bands(tmp_path / "a.tif", cut(picture.pixels, 20), 20, 20, picture)
        assert (tmp_path / "a.tif").read_bytes()[:4] == head
        assert (read_picture(tmp_path / "a.tif").pixels == picture.pixels).all()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_stream_that_breaks_off_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield noise(300, 20).pixels
        raise MemoryError

    with pytest.raises(MemoryError):
        write_bands(tmp_path / f"a{suffix}", broken(), 600, 20, noise(2, 2))
    with pytest.raises(OutputError):
        write_bands(tmp_path / f"a{suffix}", cut(noise(5, 20).pixels, 2), 600, 20, noise(2, 2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_streamed_result_equals_one_made_whole(tmp_path: Path, suffix: str) -> None:
    picture, done = noise(70, 33), list[float]()
    upscaler = Upscaler(model(), device="cpu", dtype=torch.float32, tile=16)
    work = upscaler.plan(picture, scale="5/2")
    write_streamed(upscaler, picture, work, tmp_path / f"a{suffix}", done.append)
    expected = upscaler(picture, scale="5/2")
    assert (read_picture(tmp_path / f"a{suffix}").pixels == expected.pixels).all()
    assert done == sorted(done)
    assert done[-1] == 1


@pytest.mark.parametrize("shape", [(97, 61), (61, 200), (128, 256)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("sharp", [False, True])
@pytest.mark.parametrize("rows", [1, 13, 500])
def test_bands_are_resampled_as_the_whole_is(
    shape: tuple[int, int], dtype: Any, sharp: bool, rows: int
) -> None:
    before, after = shape
    values = noise(before, 40, 3, dtype).pixels
    made = list(resample_bands(cut(values, rows), before, after, 33, sharp, step=32))
    expected = resample(values, after, 33, sharp)
    assert {len(band) for band in made[:-1]} <= {32}
    difference = np.abs(np.concatenate(made).astype(np.float64) - expected)
    assert difference.max() <= (1 if dtype != np.float32 else 1e-5)
    assert dtype == np.float32 or (difference > 0).mean() < 0.01


@pytest.mark.parametrize(
    "asked",
    [
        {"scale": 3},
        {"width": 101, "height": 77, "mode": "stretch"},
        {"width": 90, "height": 51, "mode": "fill"},
    ],
)
@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_detours_cuts_and_transparency_are_streamed(
    tmp_path: Path, asked: dict[str, Any], has_alpha: bool, dtype: Any
) -> None:
    picture, done = noise(40, 33, dtype=dtype), list[float]()
    if has_alpha:
        opacity = picture.pixels[:, :, 0].copy()
        opacity[:20], opacity[30:] = 0, picture.white
        picture = Picture(picture.pixels, opacity)
    upscaler = Upscaler(model(), device="cpu", dtype=torch.float32, tile=16)
    work, expected = (make(picture, target=Target(**asked)) for make in (upscaler.plan, upscaler))
    write_streamed(upscaler, picture, work, tmp_path / "a.tif", done.append)
    got = read_picture(tmp_path / "a.tif")
    assert np.abs(got.pixels.astype(int) - expected.pixels).max() <= (0 if "scale" in asked else 1)
    assert (got.alpha is None) == (not has_alpha)
    if got.alpha is not None and expected.alpha is not None:
        assert np.abs(got.alpha.astype(int) - expected.alpha).max() <= (0 if "scale" in asked else 1)
    assert done[-1] == 1


@pytest.mark.parametrize(
    "asked", [{"scale": 2}, {"scale": 2.37}, {"width": 700, "height": 2000, "mode": "fill"}]
)
@pytest.mark.parametrize("has_alpha", [False, True])
def test_streams_take_no_more_memory_than_foreseen(
    tmp_path: Path, asked: dict[str, Any], has_alpha: bool
) -> None:
    picture = noise(1500, 300)
    if has_alpha:
        picture = Picture(picture.pixels, np.where(picture.pixels[:, :, 0] > 99, 255, 0).astype(np.uint8))
    upscaler = Upscaler(model(), device="cpu", dtype=torch.float32, memory=1, tile=64)
    work = upscaler.plan(picture, target=Target(**asked))
    foreseen = predicted_peak(upscaler, picture, work, streamed=True)
    tracemalloc.start()
    try:
        write_streamed(upscaler, picture, work, tmp_path / "a.png")
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    source = picture.pixels.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)
    assert source + taken <= foreseen + 2_000_000
    assert foreseen < predicted_peak(upscaler, picture, work, streamed=False)


def test_only_what_can_be_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "STREAM_FROM", 1000)
    upscaler = Upscaler(model(), device="cpu")
    picture = noise(20, 20)
    plain = upscaler.plan(picture, scale=2)
    assert is_streamed(picture, plain, Path("a.tif"))
    assert not is_streamed(picture, plain, Path("a.jpg"))
    assert not is_streamed(noise(4, 4), upscaler.plan(noise(4, 4), scale=2), Path("a.tif"))
    assert is_streamed(picture, upscaler.plan(picture, size=(50, 51)), Path("a.tif"))
    assert not is_streamed(
        picture, upscaler.plan(picture, size=(19, 18)), Path("a.tif")
    )  # by the filter alone


def test_streaming_takes_less_memory_than_the_result() -> None:
    upscaler = Upscaler(model(), device="cpu", dtype=torch.float32, memory=4_000_000)
    picture = noise(2000, 300)
    work = upscaler.plan(picture, scale=4)
    whole, streamed = (predicted_peak(upscaler, picture, work, streamed) for streamed in (False, True))
    assert whole > 2 * 2000 * 300 * 16 * 3
    assert streamed < 2000 * 300 * 16 * 3


@pytest.mark.parametrize(
    ("size", "asked"),
    [
        ((90, 120), {"scale": 2}),
        ((90, 120), {"scale": 2.37}),  # over a larger scale
        ((3000, 20), {"width": 45, "height": 45, "mode": "fill"}),  # a cut from a hundred times as much
        ((20, 3000), {"width": 10, "height": 10, "mode": "fill"}),
        ((200, 200), {"scale": "1/4"}),
        ((200, 200), {"scale": 1}),
    ],
)
@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_more_memory_is_taken_than_foreseen(
    size: tuple[int, int], asked: dict[str, Any], has_alpha: bool, dtype: Any
) -> None:
    picture = noise(*size, dtype=dtype)
    if has_alpha:
        half = np.arange(size[0] * size[1]).reshape(size) % 2 * picture.white
        picture = Picture(picture.pixels, half.astype(dtype))
    upscaler = Upscaler(model(), device="cpu", dtype=torch.float32, memory=1)
    work = upscaler.plan(picture, target=Target(**asked))
    foreseen = predicted_peak(upscaler, picture, work, streamed=False)
    upscaler(picture, target=Target(**asked))  # what is made once, apart
    tracemalloc.start()
    try:
        upscaler(picture, target=Target(**asked)).pixels.tobytes()
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    source = picture.pixels.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)
    assert source + taken <= foreseen + 20_000
    assert foreseen <= result_bytes(picture, work) + 200 * picture.width * picture.height + 2_000_000


def test_bands_are_low_where_the_result_is_wide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "BAND", 64 * 90 * 4 * 3)
    upscaler, picture = Upscaler(model(), device="cpu", dtype=torch.float32), noise(200, 90)
    work, heights = upscaler.plan(picture, scale=2), list[int]()
    monkeypatch.setattr(
        streaming, "write_bands", lambda path, bands, *rest: heights.extend(len(band) for band in bands)
    )
    write_streamed(upscaler, picture, work, tmp_path / "a.tif")
    assert sum(heights) == 400
    assert max(heights) == 128
    assert upscaler.tile == "auto"
    # Windows one at a time: what is foreseen is what one takes.
    alone = Upscaler(model(), device="cpu", dtype=torch.float32, tile=64, batch=1)
    together = Upscaler(model(), device="cpu", dtype=torch.float32, tile=64, batch=2)
    foreseen, one, two = (predicted_peak(each, picture, work, True) for each in (upscaler, alone, together))
    assert foreseen == one < two


def test_tiles_are_verified_on_the_picture() -> None:
    picture = noise(90, 120)
    exact, loose = (
        Upscaler(model(), device="cpu", dtype=torch.float32, overlap=overlap) for overlap in (None, 0)
    )
    assert tiling_error(exact, picture, Scale.of(2)) < 1e-6
    assert tiling_error(loose, picture, Scale.of(2)) > 1e-4
    assert tiling_error(exact, noise(2, 2), Scale.of(2)) < 1e-6


def attentive(**options: Any) -> Upscaler:
    """A network that averages over the whole picture."""
    network = model("rcan", channels=8, groups=1, blocks=1, reduction=4)
    return Upscaler(network, device="cpu", dtype=torch.float32, **options)


def test_there_is_a_seam_to_verify_however_wide_the_overlap() -> None:
    assert tiling_error(attentive(tile=32, overlap=190), noise(800, 390), Scale.of(2)) > 0


def test_a_network_that_looks_at_everything_is_shown_everything_while_memory_lasts(monkeypatch) -> None:
    monkeypatch.setattr(upscaler_module, "working_memory", lambda device: 2**20)
    for free, is_whole in ((2**40, True), (2**22, False)):
        monkeypatch.setattr(upscaler_module, "free_memory", lambda device, free=free: free)
        assert (attentive().tiling(1000, 2000, 2).count == 1) == is_whole
        assert Upscaler(model(), device="cpu").tiling(1000, 2000, 2).count > 1  # exact in any case
    assert attentive(memory=2**22).tiling(1000, 2000, 2).count > 1


def test_what_inexact_tiles_change_is_told_without_being_asked(
    tmp_path: Path, polyres_command: Any, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    polyres.save(model(), tmp_path / "exact.safetensors")
    polyres.save(attentive().model, tmp_path / "inexact.safetensors")
    write_picture(noise(50, 300), tmp_path / "a.png")
    words = ("upscale", "a.png", "--engine", "torch", "--device", "cpu", "--precision", "float32", "-n")
    told = polyres_command(*words, "inexact.safetensors", "-t", "32").err
    assert "tiles differ from the whole by at most" in told
    assert "looks further than a tile" in told
    assert polyres_command(*words, "inexact.safetensors", "-t", "0").err == ""
    assert polyres_command(*words, "exact.safetensors", "-t", "32").err == ""


def test_the_command_streams_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(streaming, "STREAM_FROM", 1000)
    polyres.save(model(), tmp_path / "tiny.safetensors")
    write_picture(noise(60, 50), tmp_path / "a.png")
    words = ("a.png", "-o", "a.tif", "-n", "tiny.safetensors", "-v", "--verify-tiling", "--engine", "torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["polyres", "upscale", *words])
    with pytest.raises(SystemExit) as exit_:
        polyres.cli.main()
    assert not exit_.value.code
    captured = capsys.readouterr()
    assert "MB of memory, the result streamed to disk" in captured.err
    assert "tiles differ from the whole by at most" in captured.err
    assert "50x60 to 100x120" in captured.out
    assert read_picture(tmp_path / "a.tif").pixels.shape == (120, 100, 3)
