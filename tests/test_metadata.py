"""What comes with the pixels arrives with them: profile, EXIF, XMP and IPTC, in every format that has room for it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from polyres.pictures import FORMATS, Picture, decode_picture, left_out, read_picture, write_picture
from polyres.pictures.boxes import boxes, jp2_metadata
from polyres.pictures.packets import (
    iptc_of_photoshop,
    iptc_of_png_text,
    photoshop_block,
    png_text,
    sized_xmp,
    tidy_xmp,
)

#: What Pillow has to say about tags that it does not expect.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
IPTC = b"\x1c\x02\x00\x00\x02\x00\x04\x1c\x02\x78\x00\x0ba caption: \xc3"
XMP = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
 tiff:Orientation="6" exif:PixelXDimension="13">
 <exif:PixelYDimension>11</exif:PixelYDimension><dc:title>caf\xc3\xa9</dc:title>
 <xmp:Thumbnails><rdf:Alt><rdf:li>old</rdf:li></rdf:Alt></xmp:Thumbnails>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def exif_block(turn: int = 1) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Maker", turn
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight] = 13, 11
    details[ExifTags.Base.ISOSpeedRatings] = 400
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    return exif.tobytes()


def picture(dtype: Any = np.uint8, channels: int = 3, alpha: bool = False) -> Picture:
    rng = np.random.default_rng(1)
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    values = (rng.random((22, 26, 4), dtype=np.float32) * white).astype(dtype)
    return Picture(
        values[:, :, :channels].copy(), values[:, :, 3] if alpha else None, SRGB, exif_block(), XMP, IPTC
    )


KINDS = [
    *((name, np.uint8) for name in FORMATS),
    *((name, np.uint16) for name in ("png", "tiff", "jp2")),
    ("tiff", np.float32),
]


@pytest.mark.parametrize(("name", "dtype"), KINDS)
def test_all_that_a_format_has_room_for_comes_back(tmp_path: Path, name: str, dtype: Any) -> None:
    if dtype != np.uint8:
        pytest.importorskip("imagecodecs", reason="16-bit colour needs the depth extra")
    path, holds = tmp_path / f"picture{FORMATS[name].suffixes[0]}", FORMATS[name].holds
    write_picture(picture(dtype), path)
    after = read_picture(path)
    assert after.icc_profile == (SRGB if "icc" in holds else None)
    assert after.iptc == (IPTC if "iptc" in holds else None)
    assert after.xmp == (sized_xmp(tidy_xmp(XMP), 26, 22) if "xmp" in holds else None)
    assert (after.exif is not None) == ("exif" in holds)
    if after.exif:
        exif = Image.Exif()
        exif.load(after.exif)
        details = exif.get_ifd(ExifTags.IFD.Exif)
        assert exif[ExifTags.Base.Make] == "Maker"
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
        assert details[ExifTags.Base.ISOSpeedRatings] == 400
        assert (details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight]) == (26, 22)
    told = left_out(picture(dtype), FORMATS[name])
    assert ("the colour profile" in told, "EXIF" in told, "XMP" in told, "IPTC" in told) == (
        "icc" not in holds, "exif" not in holds, "xmp" not in holds, "iptc" not in holds,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "tiff", "avif", "jp2"])
def test_stripping_leaves_the_pixels_and_the_profile(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"picture{FORMATS[name].suffixes[0]}"
    write_picture(picture().without_metadata(), path)
    after = read_picture(path)
    assert (after.exif, after.xmp, after.iptc) == (None, None, None)
    assert after.icc_profile == SRGB
    content = path.read_bytes()
    assert b"Maker" not in content
    assert b"caption" not in content


def test_xmp_is_put_right_and_otherwise_untouched() -> None:
    tidy = sized_xmp(tidy_xmp(XMP), 26, 22)
    expected = XMP.replace(b'tiff:Orientation="6"', b'tiff:Orientation="1"')
    expected = expected.replace(b'PixelXDimension="13"', b'PixelXDimension="26"')
    expected = expected.replace(b"<exif:PixelYDimension>11<", b"<exif:PixelYDimension>22<")
    start, end = expected.index(b"<xmp:Thumbnails>"), expected.index(b"</xmp:Thumbnails>")
    assert tidy == expected[:start] + expected[end + len(b"</xmp:Thumbnails>") :]


def test_an_exif_thumbnail_of_the_old_picture_is_dropped() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    block = bytearray(exif.tobytes())
    # A second directory behind the first, as cameras write it: one thumbnail of 9 bytes.
    head = len(b"Exif\0\0")
    link = head + 8 + 2 + 12
    block[link : link + 4] = (len(block) - head).to_bytes(4, "little")
    place = len(block) - head + 2 + 24 + 4
    block += (2).to_bytes(2, "little")
    for tag, value in ((513, place), (514, 9)):
        block += tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little")
    block += b"\0\0\0\0" + b"THUMBNAIL"
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", exif=bytes(block))
    assert b"THUMBNAIL" in stream.getvalue()
    after = decode_picture(stream, "test")
    assert after.exif is not None
    assert b"Maker" in after.exif
    assert b"THUMBNAIL" not in after.exif


@pytest.mark.parametrize("photoshop", [True, False])
def test_iptc_of_a_tiff_is_found_where_it_may_be(photoshop: bool) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tag, value = (34377, photoshop_block(IPTC)) if photoshop else (33723, IPTC)
    tags.tagtype[tag] = 7
    tags[tag] = value
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "TIFF", tiffinfo=tags)
    assert decode_picture(stream, "test").iptc == IPTC


def test_iptc_as_32_bit_numbers_is_bytes_all_the_same() -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the depth extra")
    padded = IPTC + b"\0" * (-len(IPTC) % 4)
    numbers = tuple(np.frombuffer(padded, "<u4").tolist())
    stream = io.BytesIO()
    extra = [(33723, 4, len(numbers), numbers, True)]
    tifffile.imwrite(stream, picture().pixels, photometric="rgb", extratags=extra, metadata=None)
    assert decode_picture(stream, "test").iptc == padded


def test_photoshop_resources_and_texts() -> None:
    other = b"8BIM\x03\xed\x03abc\0\0\0\x05hello\0"
    assert iptc_of_photoshop(other + photoshop_block(IPTC)) == IPTC
    assert iptc_of_photoshop(other) is None
    assert iptc_of_photoshop(b"8BIM\x04\x04\xff") is None
    assert iptc_of_png_text(dict([png_text(IPTC)])) == IPTC
    assert iptc_of_png_text({"Raw profile type iptc": "iptc 3 zz"}) is None


def test_tiff_tags_are_added_beside_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "picture.tif"
    write_picture(picture(), path)
    with Image.open(path) as image:
        assert image.tag_v2[259] == 8  # deflate
        assert image.tag_v2[271] == "Maker"
        assert bytes(image.tag_v2[700]).startswith(b"<?xpacket")
        np.testing.assert_array_equal(np.asarray(image), picture().pixels)


def test_a_big_tiff_takes_tags_too() -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the depth extra")
    from polyres.pictures.tifftags import add_tags

    stream, values = io.BytesIO(), picture().pixels
    tifffile.imwrite(stream, values, photometric="rgb", bigtiff=True, metadata=None)
    add_tags(stream, exif_block(6), tidy_xmp(XMP), IPTC)
    after = decode_picture(stream, "test")
    np.testing.assert_array_equal(after.pixels, values)
    assert after.iptc == IPTC
    assert after.xmp == tidy_xmp(XMP)
    exif = Image.Exif()
    exif.load(after.exif or b"")
    assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] == 400


def test_a_jpeg_leaves_out_what_exceeds_its_segments(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 70_000
    large = Picture(picture().pixels, exif=exif.tobytes(), xmp=XMP + b" " * 66_000, iptc=IPTC)
    assert left_out(large, FORMATS["jpeg"]) == ("EXIF", "XMP")
    assert left_out(large, FORMATS["png"]) == ()
    write_picture(large, tmp_path / "picture.jpg")
    after = read_picture(tmp_path / "picture.jpg")
    assert (after.exif, after.xmp, after.iptc) == (None, None, IPTC)


def test_other_readers_find_jp2_metadata(tmp_path: Path) -> None:
    path = tmp_path / "picture.jp2"
    write_picture(picture(), path)
    kinds = [box.kind for box in boxes(path.read_bytes())]
    assert kinds[:3] == [b"jP  ", b"ftyp", b"jp2h"]
    assert kinds.count(b"uuid") == 3
    assert kinds[-1] == b"jp2c"
    assert jp2_metadata(path.read_bytes())["icc"] == SRGB


def test_what_several_frames_leave_out_is_told() -> None:
    whole = Picture(np.zeros((2, 2, 3), np.uint8), icc_profile=b"profile", exif=b"exif", xmp=b"xmp")
    assert left_out(whole, FORMATS["webp"]) == ()
    assert left_out(whole, FORMATS["webp"], several=True) == ("EXIF", "XMP")
