"""``polyres upscale``: colours, depth, metadata, frames and bands as asked for; what is left out is told."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzzing
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from polyres.pictures import Picture, read_picture, read_stack, write_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
IPTC = b"\x1c\x02\x78\0\3abc"

Upscale = Callable[..., tuple[int, str, str]]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def photograph(path: Path) -> Path:
    """A photograph that lies on its side, with everything that cameras and editors put into one."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Maker", 6
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight] = 10, 8
    stream = io.BytesIO()
    Image.fromarray(noise(8, 10, 3)).save(stream, "JPEG", exif=exif, icc_profile=SRGB, xmp=XMP)
    path.write_bytes(stream.getvalue())
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "jp2", "avif"])
def test_metadata_arrives_unless_stripped(suffix: str, tmp_path: Path, upscale: Upscale) -> None:
    photograph(tmp_path / "photo.jpg")
    for words, kept in (((), True), (("--strip-metadata",), False)):
        path = tmp_path / f"result.{suffix}"
        status, _, err = upscale(tmp_path / "photo.jpg", "-o", path, *words)
        assert (status, err) == (0, "")
        after = read_picture(path)
        assert (after.width, after.height) == (16, 20)
        assert after.icc_profile == SRGB
        assert (after.xmp is not None) == kept
        assert (after.exif is not None) == kept
        if after.exif:
            exif = Image.Exif()
            exif.load(after.exif)
            details = exif.get_ifd(ExifTags.IFD.Exif)
            assert (details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight]) == (16, 20)


def test_what_a_format_has_no_room_for_is_told(tmp_path: Path, upscale: Upscale) -> None:
    photograph(tmp_path / "photo.jpg")
    status, _, err = upscale(tmp_path / "photo.jpg", "-f", "bmp")
    assert status == 0
    assert "photo_x2.bmp: left out, for its format has no room: the colour profile, EXIF, XMP" in err


@pytest.mark.parametrize("space", ["own", "srgb", "linear"])
@pytest.mark.parametrize("depth", [8, 16, 32])
def test_space_and_depth(space: str, depth: int, tmp_path: Path, upscale: Upscale) -> None:
    pytest.importorskip("imagecodecs", reason="16-bit colour needs the depth extra")
    photograph(tmp_path / "photo.jpg")
    path = tmp_path / "result.tif"
    status, _, err = upscale(tmp_path / "photo.jpg", "-o", path, "--space", space, "--depth", depth)
    assert (status, err) == (0, "")
    after = read_picture(path)
    assert after.pixels.dtype == {8: np.uint8, 16: np.uint16, 32: np.float32}[depth]
    assert after.icc_profile == SRGB
    plain = tmp_path / "plain.png"
    upscale(tmp_path / "photo.jpg", "-o", plain)
    error = np.abs(after.pixels / after.white - read_picture(plain).pixels / 255)
    if space == "linear":  # between light and dark lies more light than the mean of their values says
        assert 0.01 < error.mean() < 0.06
    else:
        assert error.mean() < 0.005


def test_dithering_is_the_same_every_time(tmp_path: Path, upscale: Upscale) -> None:
    write_picture(Picture(noise(8, 10, 3)), tmp_path / "photo.png")
    for name in ("one.png", "two.png"):
        assert upscale(tmp_path / "photo.png", "-o", tmp_path / name, "--dither")[0] == 0
    one, two = (read_picture(tmp_path / name).pixels for name in ("one.png", "two.png"))
    np.testing.assert_array_equal(one, two)
    upscale(tmp_path / "photo.png", "-o", tmp_path / "plain.png")
    difference = one.astype(int) - read_picture(tmp_path / "plain.png").pixels
    assert set(np.unique(difference)) == {-1, 0, 1}


@pytest.mark.parametrize("suffix", ["png", "webp", "gif"])
def test_all_frames(suffix: str, tmp_path: Path, upscale: Upscale) -> None:
    images = [Image.new("RGB", (8, 6), colour) for colour in ("red", "green", "blue")]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[40, 50, 60], loop=0)
    path = tmp_path / f"b.{suffix}"
    status, _, err = upscale(tmp_path / "a.gif", "-o", path, "--all-frames")
    assert status == 0
    assert "first of its" not in err
    stack = read_stack(path, kind="frames")
    assert [(picture.width, picture.height) for picture in stack.pictures] == [(16, 12)] * 3
    assert stack.timing is not None
    assert stack.timing.milliseconds == (40, 50, 60)
    assert "first of its 3 frames was read (--all-frames takes all)" in upscale(tmp_path / "a.gif")[2]
    assert (tmp_path / "a_x2.png").exists()


def test_bands(tmp_path: Path, upscale: Upscale) -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the depth extra")
    values = np.random.default_rng(0).integers(-900, 900, (8, 10, 5)).astype(np.int16)
    extra = ["unspecified"] * 4
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig", extrasamples=extra
    )
    assert "--bands takes others" in upscale(tmp_path / "a.tif")[2]
    assert upscale(tmp_path / "a.tif", "--bands")[0] == 0
    after = tifffile.imread(tmp_path / "a_x2.tif")
    assert (after.shape, after.dtype) == ((16, 20, 5), np.int16)
    assert np.abs(after[::2, ::2].astype(int) - values).mean() < 400


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--space", "linaer"), "Did you mean 'linear'"),
        (("--depth", "12"), "--depth is one of 8, 16, 32"),
        (("--all-frames", "--bands"), "not both"),
    ],
)
def test_requests_that_make_no_sense(
    words: tuple[str, ...], reason: str, tmp_path: Path, upscale: Upscale
) -> None:
    write_picture(Picture(noise(4, 4, 3)), tmp_path / "photo.png")
    status, _, err = upscale(tmp_path / "photo.png", *words)
    assert status == 2
    assert reason in err


@pytest.mark.parametrize("name", ["png", "jpeg", "tiff"])
def test_damaged_files_give_the_right_exit_status(name: str, tmp_path: Path, upscale: Upscale) -> None:
    pytest.importorskip("imagecodecs", reason="needs the depth extra to make the files")
    folder = tmp_path / "in"
    folder.mkdir()
    made: list[Any] = [content for _, content in fuzzing.files(12, lambda each: each == name)]
    for index, content in enumerate(made):
        (folder / f"{index}.{name}").write_bytes(content)
    (folder / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "none.png").write_bytes(b"")
    status = upscale(folder, "-o", tmp_path / "out")[0]
    results = len(list((tmp_path / "out").iterdir()))
    assert status == (2 if results else 1)
    write_picture(Picture(noise(4, 4, 3)), folder / "whole.png")
    assert upscale(folder, "-o", tmp_path / "out")[0] == 2
    assert (tmp_path / "out" / "whole.png").exists() or (tmp_path / "out" / "whole_x2.png").exists()
