"""Pictures survive a trip to disk: depth, colours, transparency, profile, orientation; bad files end in one line."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from PIL import ExifTags, Image, ImageCms, ImageOps

from polyres.errors import MissingExtraError, OutputError, PictureError, PolyresError, UsageError
from polyres.files import replacing
from polyres.pictures import (
    FORMATS,
    Limits,
    Picture,
    bleed,
    decode_picture,
    format_named,
    format_of,
    from_tensor,
    read_picture,
    reading,
    resample,
    to_tensor,
    write_picture,
)
from polyres.pictures.picture import to_depth

#: What Pillow has to say about damaged metadata.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(
    channels: int, alpha: bool = False, dtype: Any = np.uint8, height: int = 11, width: int = 13
) -> Picture:
    rng = np.random.default_rng(channels + 10 * alpha)
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    values = (rng.random((height, width, channels + alpha), dtype=np.float32) * white).astype(dtype)
    return Picture(values[:, :, :channels].copy(), values[:, :, -1].copy() if alpha else None)


def same(first: Picture, second: Picture) -> None:
    assert first.pixels.dtype == second.pixels.dtype
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert (first.alpha is None) == (second.alpha is None)
    if first.alpha is not None and second.alpha is not None:
        np.testing.assert_array_equal(first.alpha, second.alpha)


def encoded(image: Image.Image, codec: str, **options: Any) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, codec, **options)
    return stream


def read(image: Image.Image, codec: str, **options: Any) -> Picture:
    return decode_picture(encoded(image, codec, **options), "test")


# ---- there and back --------------------------------------------------------------------------------------------

CHANNELS = [(1, False), (1, True), (3, False), (3, True)]
LOSSLESS = [
    *(("png", *kind, dtype) for kind in CHANNELS for dtype in (np.uint8, np.uint16)),
    *(("tiff", *kind, dtype) for kind in CHANNELS for dtype in (np.uint8, np.uint16, np.float32)),
    *(("webp", *kind, np.uint8) for kind in CHANNELS[2:]),
    *(("bmp", channels, False, np.uint8) for channels in (1, 3)),
]


@pytest.mark.parametrize(("name", "channels", "alpha", "dtype"), LOSSLESS)
def test_lossless_formats_keep_every_bit(
    tmp_path: Path, name: str, channels: int, alpha: bool, dtype: Any
) -> None:
    if dtype != np.uint8:
        pytest.importorskip("imagecodecs", reason="16-bit colour needs the depth extra")
    before, path = picture(channels, alpha, dtype), tmp_path / f"picture{FORMATS[name].suffixes[0]}"
    write_picture(before, path, quality=100)
    after = read_picture(path)
    same(after, before)
    assert after.format == name


@pytest.mark.parametrize(("name", "worst"), [("jpeg", 12), ("webp", 40), ("avif", 25)])
def test_lossy_formats_come_near(tmp_path: Path, name: str, worst: int) -> None:
    smooth = resample(picture(3, height=5, width=6).pixels, 60, 80)
    path = tmp_path / f"picture.{name}"
    write_picture(Picture(smooth), path)
    error = np.abs(read_picture(path).pixels.astype(int) - smooth)
    assert error.max() <= worst
    assert error.mean() < 2


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "tiff", "avif"])
def test_profiles_come_back_byte_for_byte(tmp_path: Path, name: str) -> None:
    before = picture(3)
    path = tmp_path / f"picture.{name}"
    write_picture(Picture(before.pixels, icc_profile=SRGB), path)
    assert read_picture(path).icc_profile == SRGB


@pytest.mark.parametrize("name", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_profiles_come_back_at_16_bits(tmp_path: Path, name: str, channels: int) -> None:
    pytest.importorskip("imagecodecs", reason="16-bit colour needs the depth extra")
    before, path = picture(channels, dtype=np.uint16), tmp_path / f"picture.{name}"
    write_picture(Picture(before.pixels, icc_profile=SRGB), path)
    after = read_picture(path)
    same(after, before)
    assert after.icc_profile == SRGB


def exif_block(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Maker", turn
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight] = 13, 11
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    return exif


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("codec", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_orientation_is_applied_once(codec: str, turn: int) -> None:
    stored = Image.fromarray(resample(picture(3, height=4, width=3).pixels, 22, 26))
    stream = encoded(stored, codec, exif=exif_block(turn), **({"lossless": True} if codec == "WEBP" else {}))
    after = decode_picture(stream, "test")
    expected = ImageOps.exif_transpose(Image.open(stream))
    np.testing.assert_array_equal(after.pixels, np.asarray(expected))
    kept = Image.Exif()
    kept.load(after.exif or b"")
    assert kept[ExifTags.Base.Make] == "Maker"
    assert ExifTags.Base.Orientation not in kept


@pytest.mark.parametrize("turn", [1, 6])
def test_orientation_is_applied_at_16_bits(tmp_path: Path, turn: int) -> None:
    pytest.importorskip("imagecodecs", reason="16-bit colour needs the depth extra")
    before = picture(3, True, np.uint16)
    exif = exif_block(turn).tobytes()
    path = tmp_path / "picture.png"
    write_picture(Picture(before.pixels, before.alpha, exif=exif), path)
    after = read_picture(path)
    np.testing.assert_array_equal(after.pixels, before.pixels if turn == 1 else np.rot90(before.pixels, -1))
    np.testing.assert_array_equal(after.alpha, before.alpha if turn == 1 else np.rot90(before.alpha, -1))


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "tiff", "avif"])
def test_exif_is_kept_and_its_sizes_put_right(tmp_path: Path, name: str) -> None:
    upright = read(Image.new("RGB", (13, 11)), "JPEG", exif=exif_block(1))
    path = tmp_path / f"picture.{name}"
    write_picture(Picture(picture(3, height=22, width=26).pixels, exif=upright.exif), path)
    with Image.open(path) as image:
        exif = image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
        assert exif[ExifTags.Base.Make] == "Maker"
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
        assert (details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight]) == (26, 22)


def test_storage_tags_of_a_tiff_are_not_metadata(tmp_path: Path) -> None:
    plain = read(Image.new("RGB", (13, 11)), "TIFF")
    described = read(Image.new("RGB", (13, 11)), "TIFF", tiffinfo={270: "a view"})
    assert plain.exif is None
    exif = Image.Exif()
    exif.load(described.exif or b"")
    assert dict(exif) == {270: "a view"}


# ---- kinds of pictures -----------------------------------------------------------------------------------------


def test_palettes_become_the_colours_they_name() -> None:
    colours = Image.fromarray(picture(3).pixels).quantize(16)
    np.testing.assert_array_equal(read(colours, "PNG").pixels, np.asarray(colours.convert("RGB")))
    greys = Image.fromarray(picture(1).pixels[:, :, 0]).quantize(16)
    assert read(greys, "PNG").is_grey


def test_transparent_palette_entries_become_alpha() -> None:
    image = Image.new("P", (4, 3), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((2, 1), 0)
    result = read(image, "PNG", transparency=0)
    assert result.alpha is not None
    assert result.alpha[1, 2] == 0
    assert (result.alpha == 255).sum() == 11
    assert tuple(result.pixels[0, 0]) == (200, 100, 50)


@pytest.mark.parametrize(("mode", "key"), [("L", 7), ("RGB", (1, 2, 3)), ("I;16", 300)])
def test_a_transparent_colour_becomes_alpha(mode: str, key: Any) -> None:
    image = Image.new(mode, (4, 3), key)
    image.putpixel((0, 0), 9 if mode != "RGB" else (9, 9, 9))
    result = read(image, "PNG", transparency=key)
    assert result.alpha is not None
    assert result.alpha[0, 0] == result.white
    assert (result.alpha == 0).sum() == 11


def test_one_bit_is_black_and_white() -> None:
    image = Image.fromarray(np.eye(5, dtype=bool))
    np.testing.assert_array_equal(read(image, "PNG").pixels[:, :, 0], np.eye(5, dtype=np.uint8) * 255)


def test_cmyk_becomes_rgb_and_says_so() -> None:
    result = read(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF", icc_profile=b"no profile at all")
    assert tuple(result.pixels[4, 4]) == (255, 0, 0)
    assert result.icc_profile is None
    assert result.notes == ("CMYK became RGB",)


def test_the_first_frame_is_read_and_the_others_are_told() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    result = read(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert tuple(result.pixels[0, 0]) == (255, 0, 0)
    assert "first of its 3 frames" in result.notes[0]


@pytest.mark.parametrize(("bits", "notes"), [(8, ()), (10, ("more than 8 bits a colour were read as 8",))])
def test_deep_avif_is_told(bits: int, notes: tuple[str, ...]) -> None:
    imagecodecs = pytest.importorskip("imagecodecs", reason="needs the depth extra to make the file")
    values = picture(3, dtype=np.uint16).pixels >> (16 - bits)
    content = imagecodecs.avif_encode(values.astype(np.uint8 if bits == 8 else np.uint16), bitspersample=bits)
    assert decode_picture(io.BytesIO(content), "test").notes == notes


def test_premultiplied_tiff_is_divided_out() -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the depth extra")
    pytest.importorskip("imagecodecs", reason="needs the depth extra")
    stream = io.BytesIO()
    values = np.full((4, 5, 4), 20000, np.uint16)
    values[:, :, 3] = 40000
    tifffile.imwrite(stream, values, photometric="rgb", extrasamples=["assocalpha"], metadata=None)
    result = decode_picture(stream, "test")
    assert np.abs(result.pixels.astype(int) - 32768).max() <= 1
    assert (result.alpha == 40000).all()


def test_a_tiff_that_pillow_does_not_know(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the depth extra")
    pytest.importorskip("imagecodecs", reason="needs the depth extra")
    values = picture(3, dtype=np.uint16).pixels
    path = tmp_path / "planes.tif"
    tifffile.imwrite(
        path, np.moveaxis(values, -1, 0), photometric="rgb", planarconfig="separate", bigtiff=True
    )
    np.testing.assert_array_equal(read_picture(path).pixels, values)


@pytest.mark.parametrize(
    ("values", "reason"), [([0, 255.0], "floats from 0 to 255"), ([0, np.nan], "floats from")]
)
def test_floats_of_unknown_range_are_refused(values: list[float], reason: str) -> None:
    image = Image.fromarray(np.array([values, values], np.float32))
    with pytest.raises(PictureError, match=f"test: its pixels are {reason}"):
        read(image, "TIFF")


@pytest.mark.parametrize("mode", ["I", "LAB"])
def test_modes_that_are_neither_grey_nor_rgb_are_refused(mode: str) -> None:
    with pytest.raises(PictureError, match="test: its pixels are of mode"):
        read(Image.new(mode, (4, 4)), "TIFF")


def test_16_bit_colour_without_the_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("imagecodecs", reason="needs the depth extra to make the file")
    path = tmp_path / "deep.png"
    write_picture(picture(3, dtype=np.uint16), path)
    monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'polyres\[depth\]'"):
        read_picture(path)
    with pytest.raises(MissingExtraError, match=r"pip install 'polyres\[depth\]'"):
        write_picture(picture(3, dtype=np.uint16), path)
    write_picture(picture(1, dtype=np.uint16), path)  # grey of 16 bits needs no extra
    same(read_picture(path), picture(1, dtype=np.uint16))


# ---- bad files -------------------------------------------------------------------------------------------------


def one_line(error: pytest.ExceptionInfo[PolyresError], *parts: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert all(part in text for part in parts), text


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"hello, I am a text\n" * 9, "not a picture"), (b"II*\0" + b"\1" * 30, "damaged")],
)
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "text.png"
    path.write_bytes(content)
    with pytest.raises(PictureError) as error:
        read_picture(path)
    one_line(error, str(path), reason)


def test_a_broken_structure_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0garbage")
    with pytest.raises(PictureError) as error:
        read_picture(tmp_path / "a.tif")
    one_line(error, "its structure is broken (")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(PictureError) as error:
        read_picture(tmp_path / "none.png")
    one_line(error, "none.png: no such file")
    with pytest.raises(PictureError) as error:
        read_picture(tmp_path)
    one_line(error, "cannot be read")
    with pytest.raises(PictureError, match="cannot be read"):
        read_picture("a\0b.png")


@pytest.mark.parametrize("codec", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF", "GIF"])
def test_files_cut_short_are_refused(codec: str) -> None:
    image = Image.fromarray(picture(3, height=64, width=64).pixels)
    content = encoded(image, codec).getvalue()
    with pytest.raises(PictureError) as error:
        decode_picture(io.BytesIO(content[: len(content) * 3 // 5]), "cut")
    one_line(error, "cut: ")


def test_16_bit_files_cut_short_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs", reason="needs the depth extra")
    for name in ("deep.png", "deep.tif"):
        write_picture(picture(3, dtype=np.uint16, height=64, width=64), tmp_path / name)
        content = (tmp_path / name).read_bytes()
        with pytest.raises(PictureError, match="cut: damaged"):
            decode_picture(io.BytesIO(content[: len(content) * 3 // 5]), "cut")


def png_header(width: int, height: int) -> io.BytesIO:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))


def test_large_pictures_are_refused_by_their_header() -> None:
    with pytest.raises(PictureError) as error:
        decode_picture(png_header(60000, 50000), "bomb.png")
    one_line(error, "bomb.png: it is 60000x50000 = 3000 megapixels; at most 256")


def test_headers_that_claim_more_than_the_file_has_room_for_are_refused() -> None:
    with pytest.raises(PictureError, match=r"trap\.png: its header claims 15000x15000 pixels, for which its"):
        decode_picture(png_header(15000, 15000), "trap.png")


@pytest.mark.parametrize(
    ("codec", "mode"), [("PNG", "1"), ("PNG", "RGB"), ("GIF", "L"), ("JPEG", "L"), ("JPEG", "RGB")]
)
def test_the_emptiest_picture_is_no_trap(codec: str, mode: str) -> None:
    options = {"quality": 1, "subsampling": 2, "optimize": True} if codec == "JPEG" else {}
    stream = encoded(Image.new(mode, (3000, 3000)), codec, **options)
    assert decode_picture(stream, "flat").width == 3000


@pytest.mark.parametrize("codec", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF", "GIF"])
def test_the_limit_is_ours_and_not_pillows(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = encoded(Image.fromarray(picture(3).pixels), codec)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode_picture(stream, "test").width == 13
    assert Image.MAX_IMAGE_PIXELS == 10


def test_pillows_limit_comes_back_after_overlapping_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    limit = reading._PillowLimit()
    first, second = limit.lifted(), limit.lifted()
    for step in (first.__enter__, second.__enter__, lambda: first.__exit__(None, None, None)):
        step()
        assert Image.MAX_IMAGE_PIXELS is None
    second.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (0, 0)])
def test_pictures_without_pixels_are_refused(width: int, height: int) -> None:
    with pytest.raises(PictureError, match="test: "):
        decode_picture(png_header(width, height), "test")


def test_a_least_side_may_be_asked_for() -> None:
    with pytest.raises(PictureError, match="test: it is 1x9 pixels; at least 2x2 are needed"):
        decode_picture(encoded(Image.new("RGB", (1, 9)), "PNG"), "test", Limits(min_side=2))
    assert decode_picture(encoded(Image.new("RGB", (1, 9)), "PNG"), "test").width == 1


@pytest.mark.parametrize("codec", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF", "GIF"])
def test_mutated_files_are_read_or_refused(codec: str) -> None:
    content = encoded(Image.fromarray(picture(3, height=24, width=24).pixels), codec).getvalue()
    rng, refused = np.random.default_rng(5), 0
    for _ in range(40):
        mutated = bytearray(content)
        for position in rng.integers(0, len(content), rng.integers(1, 8)):
            mutated[position] = rng.integers(256)
        try:
            decode_picture(io.BytesIO(bytes(mutated)), "mutated", Limits(max_pixels=1_000_000))
        except PictureError:
            refused += 1
    assert refused or codec in ("BMP", "JPEG")  # formats without checksums take most bytes as they come


def test_damaged_exif_is_no_reason_to_refuse() -> None:
    result = read(Image.new("RGB", (4, 4)), "PNG", exif=b"MM\0*\0\0\0\x08\xff\xff" + b"\xee" * 40)
    assert result.pixels.shape == (4, 4, 3)


# ---- writing ---------------------------------------------------------------------------------------------------


def test_depth_that_a_format_does_not_hold_rounds_to_nearest(tmp_path: Path) -> None:
    deep = Picture(np.array([0, 128, 129, 65535], np.uint16).reshape(2, 2, 1))
    write_picture(deep, tmp_path / "picture.bmp")
    assert read_picture(tmp_path / "picture.bmp").pixels.ravel().tolist() == [0, 0, 1, 255]
    real = Picture(np.array([0, 0.5, 0.25, 1], np.float32).reshape(2, 2, 1))
    write_picture(real, tmp_path / "picture.png")
    assert read_picture(tmp_path / "picture.png").pixels.ravel().tolist() == [0, 32768, 16384, 65535]


@given(arrays(np.uint8, (3, 4)))
def test_more_depth_and_back_is_the_same(values: np.ndarray) -> None:
    for dtype in ("uint16", "float32"):
        np.testing.assert_array_equal(to_depth(to_depth(values, np.dtype(dtype)), np.dtype("uint8")), values)


def test_transparency_is_never_dropped_in_silence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="jpeg holds no transparency"):
        write_picture(picture(3, alpha=True), tmp_path / "picture.jpg")
    assert not list(tmp_path.iterdir())
    opaque = Picture(picture(3).pixels, np.full((11, 13), 255, np.uint8))
    write_picture(opaque, tmp_path / "picture.jpg")
    assert read_picture(tmp_path / "picture.jpg").alpha is None


def test_sides_that_a_format_does_not_hold(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="webp holds up to 16383 pixels on a side"):
        write_picture(Picture(np.zeros((1, 16384, 1), np.uint8)), tmp_path / "long.webp")


def test_suffixes_that_name_no_format(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="names no format"):
        write_picture(picture(3), tmp_path / "picture.xyz")


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(OutputError) as error:
            write_picture(picture(3), folder / "picture.png")
        one_line(error, "picture.png: cannot be written")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(path) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["picture.png"]


def test_what_encoders_refuse_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise ValueError("too round")

    monkeypatch.setattr(Image.Image, "save", refuse)
    with pytest.raises(OutputError, match="cannot be written as jpeg: too round"):
        write_picture(picture(3), tmp_path / "picture.jpg")
    assert not list(tmp_path.iterdir())


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    path, usual = tmp_path / "picture.png", tmp_path / "usual"
    usual.touch()
    write_picture(picture(3), path)
    assert path.stat().st_mode == usual.stat().st_mode


# ---- formats, tensors, transparency, resampling ----------------------------------------------------------------


@pytest.mark.parametrize("text", ["jpeg", "JPG", ".jpg", "jpe"])
def test_formats_go_by_any_of_their_names(text: str) -> None:
    assert format_named(text) is FORMATS["jpeg"] is format_of(Path("A.JPEG"))


def test_unknown_formats_are_told() -> None:
    with pytest.raises(UsageError, match=r"no picture format is called 'web'.*Did you mean 'webp'"):
        format_named("web")
    assert format_of(Path("none")) is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_tensors_and_back(dtype: Any, channels: int) -> None:
    before = picture(channels, dtype=dtype)
    image = to_tensor(before)
    assert image.shape == (1, channels, 11, 13)
    assert image.min() >= 0
    assert image.max() <= 1
    same(from_tensor(image, dtype), before)


def test_tensors_are_clamped_and_rounded() -> None:
    import torch

    values = from_tensor(torch.tensor([-1, 0.4 / 255, 0.6 / 255, 2]).reshape(1, 2, 2)).pixels
    assert values.ravel().tolist() == [0, 0, 1, 255]
    with pytest.raises(PictureError, match="one image of shape"):
        from_tensor(torch.zeros(2, 3, 4, 4))


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (np.zeros((4, 4), np.uint8), None),
        (np.zeros((4, 4, 2), np.uint8), None),
        (np.zeros((0, 4, 3), np.uint8), None),
        (np.zeros((4, 4, 3), np.int32), None),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16)),
    ],
)
def test_arrays_that_are_no_pictures(pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    with pytest.raises(PictureError, match="must be"):
        Picture(pixels, alpha)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colour_bleeds_under_transparent_pixels_only(dtype: Any) -> None:
    before = picture(3, alpha=True, dtype=dtype, height=19, width=23)
    alpha = before.alpha.copy()
    alpha[:, 7:] = 0
    pixels = before.pixels.copy()
    pixels[:, :7] = pixels[0, 0]
    filled = bleed(Picture(pixels, alpha))
    assert filled.dtype == dtype
    np.testing.assert_array_equal(filled[alpha > 0], pixels[alpha > 0])
    np.testing.assert_allclose(
        filled[alpha == 0], np.broadcast_to(pixels[0, 0], filled[alpha == 0].shape), rtol=1e-4
    )


def test_nothing_bleeds_where_nothing_is_hidden_or_all_is() -> None:
    pixels = picture(3).pixels
    assert bleed(Picture(pixels)) is pixels
    for value in (0, 255):
        assert bleed(Picture(pixels, np.full((11, 13), value, np.uint8))) is pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_resampling_keeps_the_kind_and_constant_areas(dtype: Any, shape: tuple[int, ...]) -> None:
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    for sharp in (True, False):
        result = resample(np.full((17, 23, *shape), white, dtype), 40, 9, sharp)
        assert result.shape == (40, 9, *shape)
        assert result.dtype == dtype
        assert (result == white).all()


def test_resampling_shrinks_without_aliasing() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (32, 32))
    assert np.abs(resample(stripes, 8, 8)[:, 1:-1].astype(int) - 127).max() <= 2
