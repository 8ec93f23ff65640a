"""Frames, pages and bands: all of them, in their order, as they were."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polyres.errors import OutputError, PictureError
from polyres.pictures import Limits, Picture, read_stack, write_stack
from polyres.pictures.frames import Timing
from polyres.pictures.stacks import Stack

RNG = np.random.default_rng(4)


def frames(
    count: int = 3, channels: int = 3, alpha: bool = False, dtype: Any = np.uint8
) -> tuple[Picture, ...]:
    """Frames of few colours, which GIF holds too."""
    white = 255 if dtype == np.uint8 else 65535
    return tuple(
        Picture(
            (RNG.integers(0, 4, (8, 10, channels)) * (white // 3)).astype(dtype),
            (RNG.integers(0, 2, (8, 10)) * white).astype(dtype) if alpha else None,
        )
        for _ in range(count)
    )


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".gif"])
def test_frames_come_back_with_their_timing(suffix: str, alpha: bool, tmp_path: Path) -> None:
    path = tmp_path / f"picture{suffix}"
    before = Stack(frames(alpha=alpha), "frames", Timing((50.0, 120.0, 200.0), 3))
    write_stack(before, path, quality=100)
    after = read_stack(path, kind="frames")
    assert after.timing == before.timing
    assert len(after.pictures) == 3
    for one, other in zip(after.pictures, before.pictures, strict=True):
        shown = slice(None) if other.alpha is None else other.alpha > 0
        np.testing.assert_array_equal(one.pixels[shown], other.pixels[shown])
        if other.alpha is not None:
            np.testing.assert_array_equal(one.alpha, other.alpha)


def test_frames_of_avif_come_near(tmp_path: Path) -> None:
    path = tmp_path / "picture.avif"
    flat = tuple(Picture(np.full((16, 16, 3), value, np.uint8)) for value in (10, 120, 240))
    write_stack(Stack(flat, "frames", Timing((50.0, 120.0, 200.0), 0)), path)
    after = read_stack(path, kind="frames")
    assert [round(float(each.pixels.mean()), -1) for each in after.pictures] == [10, 120, 240]
    assert after.timing is not None
    assert after.timing.milliseconds == (50.0, 120.0, 200.0)


@pytest.mark.parametrize("loop", [0, 1, 5])
def test_a_gif_is_shown_as_often_as_it_was(loop: int, tmp_path: Path) -> None:
    path = tmp_path / "picture.gif"
    write_stack(Stack(frames(2), "frames", Timing((50.0, 50.0), loop)), path)
    found = read_stack(path, kind="frames").timing
    assert found is not None
    assert found.loop == loop


def test_frames_that_differ_in_kind_become_alike() -> None:
    stream = io.BytesIO()
    grey = Image.new("RGB", (8, 8), (9, 9, 9))
    grey.save(stream, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8), (255, 0, 0))])
    assert len({picture.pixels.shape for picture in read_from(stream, "frames").pictures}) == 1


def read_from(stream: io.BytesIO, kind: Any, suffix: str = "gif", limits: Limits | None = None) -> Stack:
    path = Path(__import__("tempfile").mkdtemp()) / f"picture.{suffix}"
    path.write_bytes(stream.getvalue())
    return read_stack(path, limits, kind)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_pages_of_a_tiff_may_differ_in_size(dtype: Any, channels: int, tmp_path: Path) -> None:
    pytest.importorskip("tifffile", reason="needs the depth extra")
    before = (*frames(2, channels, dtype=dtype), Picture(np.zeros((3, 5, 1), dtype)))
    write_stack(Stack(before, "frames"), tmp_path / "picture.tif")
    after = read_stack(tmp_path / "picture.tif", kind="frames")
    assert after.timing is None
    for one, other in zip(after.pictures, before, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
    with pytest.raises(OutputError, match="needs frames of one size"):
        write_stack(after, tmp_path / "picture.webp")


def test_all_frames_together_keep_to_the_limit() -> None:
    stream = io.BytesIO()
    images = [Image.new("L", (10, 10), index) for index in range(30)]
    images[0].save(stream, "GIF", save_all=True, append_images=images[1:])
    with pytest.raises(PictureError, match="10x10 x 30 frames"):
        read_from(stream, "frames", limits=Limits(max_pixels=2900))
    assert len(read_from(stream, "picture", limits=Limits(max_pixels=2900)).pictures) == 1


def test_formats_of_one_picture_refuse_frames(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="3 frames need one of png, webp, gif, avif, tiff"):
        write_stack(Stack(frames(), "frames"), tmp_path / "picture.jpg")


# ---- bands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_bands_of_any_kind_come_back(kind: str, channels: int, planar: str, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the depth extra")
    values = (RNG.random((8, 10, channels)) * 200 - (100 if kind[0] in "if" else 0)).astype(kind)
    stored = values if planar == "contig" else np.moveaxis(values, -1, 0)
    many = {"planarconfig": planar, "extrasamples": ["unspecified"] * (channels - 1)} if channels > 1 else {}
    source, path = tmp_path / "source.tif", tmp_path / "picture.tif"
    tifffile.imwrite(source, np.squeeze(stored), photometric="minisblack", metadata=None, **many)
    stack = read_stack(source, kind="bands")
    assert [picture.pixels.shape for picture in stack.pictures] == [(8, 10, 1)] * channels
    write_stack(stack, path)
    written = tifffile.imread(path).reshape(values.shape)
    assert written.dtype == values.dtype
    np.testing.assert_allclose(
        written.astype(float), values.astype(float), rtol=0, atol=2e-5 if kind[0] == "f" else 0
    )


def test_bands_of_a_picture_become_one_again(tmp_path: Path) -> None:
    before = frames(1, 3, alpha=True)[0]
    write_stack(Stack((before,)), tmp_path / "source.png")
    stack = read_stack(tmp_path / "source.png", kind="bands")
    assert len(stack.pictures) == 4
    turned = stack.mapped(lambda band: Picture(255 - band.pixels))
    write_stack(turned, tmp_path / "picture.webp", quality=100)
    after = read_stack(tmp_path / "picture.webp").pictures[0]
    np.testing.assert_array_equal(after.alpha, 255 - before.alpha)
    shown = before.alpha < 255
    np.testing.assert_array_equal(after.pixels[shown], 255 - before.pixels[shown])


def test_bands_that_no_other_format_holds(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the depth extra")
    tifffile.imwrite(tmp_path / "source.tif", np.full((4, 4), -3.5, np.float32), metadata=None)
    stack = read_stack(tmp_path / "source.tif", kind="bands")
    with pytest.raises(OutputError, match="only tiff holds"):
        write_stack(stack, tmp_path / "picture.png")
    tifffile.imwrite(tmp_path / "bad.tif", np.full((4, 4), np.nan, np.float32), metadata=None)
    with pytest.raises(PictureError, match=r"bad\.tif: a band of it holds numbers that are not finite"):
        read_stack(tmp_path / "bad.tif", kind="bands")
