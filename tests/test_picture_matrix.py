"""Every mode into every format and back: nothing is lost but what the format cannot hold, and that is told."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

from polyres.errors import MissingExtraError, OutputError, PictureError
from polyres.model import ModelConfig, build
from polyres.pictures import FORMATS, Limits, Picture, decode_picture, left_out, read_picture, write_picture
from polyres.pictures.boxes import jxl_size
from polyres.upscale import Upscaler

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RNG = np.random.default_rng(8)
STRIPES = (np.arange(12) % 3 > 0).astype(np.uint8)[None, :, None]
DEEP = {"png", "tiff", "jp2"}


def grey(dtype: Any = np.uint8) -> np.ndarray:
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    return (RNG.random((9, 12), dtype=np.float32) * white).astype(dtype)


def colour(dtype: Any = np.uint8, channels: int = 3) -> np.ndarray:
    return np.stack([grey(dtype) for _ in range(channels)], 2)


def few(colours: int = 7) -> Image.Image:
    image = Image.fromarray(RNG.integers(0, colours, (9, 12), dtype=np.uint8), "L")
    paletted = Image.frombytes("P", image.size, image.tobytes())
    paletted.putpalette(RNG.integers(0, 256, 3 * colours, dtype=np.uint8).tobytes())
    return paletted


def saved(image: Image.Image, codec: str = "PNG", **options: Any) -> Picture:
    stream = io.BytesIO()
    image.save(stream, codec, **options)
    return decode_picture(stream, "source")


def striped() -> np.ndarray:
    return np.tile(colour()[:1, :1], (9, 12, 1)) * STRIPES


def premultiplied() -> Picture:
    tifffile, stream = pytest.importorskip("tifffile", reason="needs the depth extra"), io.BytesIO()
    values = colour(channels=4)
    values[:, :, :3] = np.minimum(values[:, :, :3], values[:, :, 3:])
    tifffile.imwrite(stream, values, photometric="rgb", extrasamples=["assocalpha"], metadata=None)
    return decode_picture(stream, "source")


#: How each mode comes into being: as a file that is read.
MODES: dict[str, Any] = {
    "1 bit": lambda: saved(Image.fromarray(grey() > 99)),
    "grey": lambda: saved(Image.fromarray(grey())),
    "grey, alpha": lambda: saved(Image.fromarray(colour(channels=2))),
    "palette": lambda: saved(few()),
    "palette, transparent": lambda: saved(few(), transparency=3),
    "palette, alphas": lambda: saved(few(), transparency=bytes([0, 60, 120, 180, 255, 255, 255])),
    "RGB": lambda: saved(Image.fromarray(colour())),
    "RGB, transparent colour": lambda: saved(Image.fromarray(striped()), transparency=(0, 0, 0)),
    "RGBA": lambda: saved(Image.fromarray(colour(channels=4))),
    "RGBA, premultiplied": lambda: premultiplied(),
    "CMYK": lambda: saved(Image.fromarray(colour(channels=4), "CMYK"), "TIFF"),
    "YCbCr": lambda: saved(Image.fromarray(colour()), "JPEG", quality=100),
    "grey 16": lambda: saved(Image.fromarray(grey(np.uint16))),
    "grey 16, alpha": lambda: Picture(grey(np.uint16)[:, :, None], grey(np.uint16)),
    "RGB 16": lambda: Picture(colour(np.uint16)),
    "RGBA 16": lambda: Picture(colour(np.uint16), grey(np.uint16)),
    "grey float": lambda: saved(Image.fromarray(grey(np.float32)), "TIFF"),
    "RGB float": lambda: Picture(colour(np.float32)),
    "RGBA float": lambda: Picture(colour(np.float32), grey(np.float32)),
}  # fmt: skip


def expected(before: Picture, name: str) -> Picture:
    """What a format without loss gives back."""
    target = FORMATS[name]
    depth = before.pixels.dtype if before.pixels.dtype in target.depths else target.depths[-1]
    return before.at_depth(depth)


def as_rgb(picture: Picture) -> np.ndarray:
    return np.broadcast_to(picture.pixels, (picture.height, picture.width, 3))


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    parts = {
        "encoder": {"name": "edsr", "options": {"channels": 4, "blocks": 1}},
        "upsampler": {"name": "igconv", "options": {"width": 8, "hidden_layers": 1}},
    }
    return Upscaler(build(ModelConfig.model_validate(parts)).eval())


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("mode", list(MODES))
def test_scale_1_is_the_identity(mode: str, name: str, tmp_path: Path, upscaler: Upscaler) -> None:
    if name in DEEP:
        pytest.importorskip("imagecodecs", reason="16-bit colour needs the depth extra")
    before = MODES[mode]()
    path = tmp_path / f"picture{FORMATS[name].suffixes[0]}"
    enlarged = upscaler(before, scale=1)
    if not FORMATS[name].alpha and not before.is_opaque:
        with pytest.raises(OutputError, match="holds no transparency"):
            write_picture(enlarged, path)
        return
    write_picture(enlarged, path, quality=100)
    after, wanted = read_picture(path), expected(before, name)
    if before.pixels.dtype != np.uint8 and name not in DEEP:
        assert any("bits beyond 8" in phrase for phrase in left_out(before, FORMATS[name]))
    assert after.pixels.dtype == wanted.pixels.dtype
    if name == "gif":
        assert after.pixels.shape[:2] == wanted.pixels.shape[:2]
        if mode in ("1 bit", "grey", "palette", "palette, transparent", "RGB"):
            shown = slice(None) if wanted.alpha is None else wanted.alpha > 0
            np.testing.assert_array_equal(as_rgb(after)[shown], as_rgb(wanted)[shown])
    elif name in ("jpeg", "avif"):
        # Noise is the worst that a transform can be asked for.
        assert np.abs(as_rgb(after).astype(int) - as_rgb(wanted)).mean() < 12
        if not wanted.is_opaque:
            np.testing.assert_array_equal(after.alpha, wanted.alpha)
    else:
        np.testing.assert_array_equal(as_rgb(after), as_rgb(wanted))
        if not wanted.is_opaque:
            np.testing.assert_array_equal(after.alpha, wanted.alpha)
    if name not in ("webp", "avif", "gif"):  # which hold no grey
        assert after.is_grey == wanted.is_grey


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("codec", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientations_are_upright_after_a_round_trip(codec: str, turn: int, tmp_path: Path) -> None:
    stored = Image.fromarray(np.arange(9 * 12 * 3, dtype=np.uint8).reshape(9, 12, 3))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = turn, "Maker"
    stream = io.BytesIO()
    stored.save(stream, codec, exif=exif, **({"lossless": True} if codec == "WEBP" else {}))
    seen = np.asarray(ImageOps.exif_transpose(Image.open(stream)))
    path = tmp_path / f"picture.{codec.lower()}"
    write_picture(decode_picture(stream, "source"), path, quality=100)
    with Image.open(path) as image:
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        shown = np.asarray(ImageOps.exif_transpose(image))
    assert shown.shape == seen.shape
    assert np.abs(shown.astype(int) - seen).max() <= (3 if codec == "JPEG" else 0)


@pytest.mark.parametrize(("name", "channels"), [(name, c) for name in FORMATS for c in (1, 3)])
def test_profiles_come_back_byte_for_byte(name: str, channels: int, tmp_path: Path) -> None:
    profile = SRGB[:-1] + b"\x7f"
    path = tmp_path / f"picture{FORMATS[name].suffixes[0]}"
    write_picture(Picture(colour()[:, :, :channels].copy(), icc_profile=profile), path)
    assert read_picture(path).icc_profile == (profile if "icc" in FORMATS[name].holds else None)


# ---- JPEG 2000, JPEG XL and HEIC -------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_jp2_of_odd_depths_is_spread_to_16(bits: int) -> None:
    imagecodecs = pytest.importorskip("imagecodecs", reason="needs the depth extra")
    values = (colour(np.uint16) >> (16 - bits)).astype(np.uint16)
    values[0, 0], values[0, 1] = 0, 2**bits - 1
    data = imagecodecs.jpeg2k_encode(values, level=0, codecformat="jp2", reversible=True, bitspersample=bits)
    after = decode_picture(io.BytesIO(data), "test").pixels
    assert after[0, 0].tolist() == [0, 0, 0]
    assert after[0, 1].tolist() == [65535] * 3
    np.testing.assert_array_equal(after >> (16 - bits), values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_jpeg_xl_is_read_at_full_depth(dtype: Any, channels: int) -> None:
    pytest.importorskip("pillow_jxl", reason="needs the jxl extra")
    imagecodecs = pytest.importorskip("imagecodecs", reason="needs the jxl extra")
    values = np.squeeze(colour(dtype, channels))
    after = decode_picture(io.BytesIO(imagecodecs.jpegxl_encode(values, lossless=True)), "test")
    assert after.format == "jxl"
    whole = values if channels == 1 else values[:, :, : channels - (channels % 2 == 0)]
    np.testing.assert_array_equal(np.squeeze(after.pixels), np.squeeze(whole))
    assert (after.alpha is None) == (channels % 2 == 1)


@pytest.mark.parametrize(
    ("height", "width"), [(8, 8), (256, 64), (24, 32), (9, 12), (1, 600), (7000, 3), (48, 72)]
)
def test_the_size_of_jpeg_xl_is_known_before_decoding(height: int, width: int) -> None:
    imagecodecs = pytest.importorskip("imagecodecs", reason="needs the depth extra to make the file")
    values = np.zeros((height, width), np.uint8)
    assert jxl_size(imagecodecs.jpegxl_encode(values, effort=1)) == (width, height)
    assert jxl_size(imagecodecs.jpegxl_encode(values, effort=1, usecontainer=True)) == (width, height)


def test_jpeg_xl_that_is_too_large_or_cut_is_refused() -> None:
    pytest.importorskip("pillow_jxl", reason="needs the jxl extra")
    imagecodecs = pytest.importorskip("imagecodecs", reason="needs the jxl extra")
    data = imagecodecs.jpegxl_encode(colour(), lossless=True)
    with pytest.raises(PictureError, match="at most 5e-05 are read"):
        decode_picture(io.BytesIO(data), "test", Limits(max_pixels=50))
    for length in (5, len(data) // 2):
        with pytest.raises(PictureError, match="test: "):
            decode_picture(io.BytesIO(data[:length]), "test")


def test_a_jpeg_packed_into_jpeg_xl_keeps_its_metadata() -> None:
    pytest.importorskip("pillow_jxl", reason="needs the jxl extra")
    imagecodecs = pytest.importorskip("imagecodecs", reason="needs the jxl extra")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, "Maker"
    stream = io.BytesIO()
    Image.fromarray(colour()).save(stream, "JPEG", exif=exif, icc_profile=SRGB)
    after = decode_picture(io.BytesIO(imagecodecs.jpegxl_encode_jpeg(stream.getvalue())), "test")
    assert (after.height, after.width) == (12, 9)
    assert after.icc_profile == SRGB
    assert b"Maker" in (after.exif or b"")


@pytest.mark.parametrize("bits", [8, 10])
def test_heic_is_read_at_full_depth_and_upright(bits: int) -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs the heif extra")
    smooth = np.linspace(0, 2**bits - 1, 16 * 24).reshape(16, 24, 1).repeat(3, 2)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, "Maker"
    if bits == 8:
        file = heif.from_bytes("RGB", (24, 16), smooth.astype(np.uint8).tobytes())
    else:
        file = heif.from_bytes("RGB;16", (24, 16), (smooth.astype(np.uint16) << 6).tobytes())
    stream = io.BytesIO()
    file.save(stream, quality=95, exif=exif.tobytes())
    after = decode_picture(stream, "test")
    assert after.format == "heic"
    assert after.pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert b"Maker" in (after.exif or b"")
    white = 255 if bits == 8 else 65535
    turned = np.rot90(smooth, -1) if after.height == 24 else smooth
    assert np.abs(after.pixels / white - turned / (2**bits - 1)).max() < 0.03
    with pytest.raises(PictureError, match="at most"):
        decode_picture(stream, "test", Limits(max_pixels=50))


@pytest.mark.parametrize(
    ("head", "module", "extra"),
    [
        (b"\xff\x0a" + bytes(20), "pillow_jxl", "jxl"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "pillow_heif", "heif"),
    ],
)
def test_missing_codecs_name_their_extra(
    head: bytes, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'polyres\[{extra}\]'"):
        decode_picture(io.BytesIO(head), "test")
