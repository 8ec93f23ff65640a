"""Working in another space or depth changes nothing that the work did not change; dithering keeps the mean."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from PIL import ImageCms

from polyres.errors import PictureError
from polyres.pictures import Handling, Picture
from polyres.pictures.dither import dithered
from polyres.pictures.tones import curves, from_space, to_space

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile(tag: bytes) -> bytes:
    """A profile of nothing but one tone curve for all channels."""
    names = (b"rTRC", b"gTRC", b"bTRC", b"kTRC")
    entries = b"".join(struct.pack(">4sII", name, 132 + 48, len(tag)) for name in names)
    return bytes(128) + struct.pack(">I", len(names)) + entries + tag


def gamma(value: float) -> bytes:
    return profile(b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256)))


def parametric(kind: int, *numbers: float) -> bytes:
    fixed = [round(number * 65536) for number in numbers]
    return profile(b"para" + bytes(4) + struct.pack(f">HH{len(fixed)}i", kind, 0, *fixed))


PROFILES = {
    "none": None,
    "sRGB": SRGB,
    "gamma 2.2": gamma(2.2),
    "gamma 1.8": gamma(1.8),
    "linear": profile(b"curv" + bytes(8)),
    "sampled": profile(
        b"curv" + bytes(4) + struct.pack(">I17H", 17, *((np.arange(17) / 16) ** 2 * 65535).astype(int))
    ),
    "kind 3": parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
}


@pytest.mark.parametrize("space", ["own", "srgb", "linear"])
@pytest.mark.parametrize("name", list(PROFILES))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_not_changed_comes_back_to_the_bit(space: Any, name: str, dtype: Any, channels: int) -> None:
    values = np.arange(256, dtype=np.uint16)
    values = (values if dtype == np.uint8 else values * 257 + values // 2).astype(dtype)
    pixels = np.repeat(values.reshape(16, 16, 1), channels, 2)
    before = Picture(pixels, icc_profile=PROFILES[name])
    handling = Handling(space=space)
    after = handling.after(handling.before(before), before)
    assert after.pixels.dtype == dtype
    np.testing.assert_array_equal(after.pixels, pixels)
    assert after.icc_profile == before.icc_profile


@pytest.mark.parametrize(
    ("name", "light"), [("none", 0.2140), ("gamma 2.2", 0.2176), ("gamma 1.8", 0.2872), ("linear", 0.5)]
)
def test_middle_values_mean_the_light_that_the_profile_says(name: str, light: float) -> None:
    half = np.full((1, 1, 3), 0.5, np.float32)
    assert to_space(half, PROFILES[name], "linear")[0, 0, 1] == pytest.approx(light, abs=5e-4)
    assert from_space(np.full((1, 1, 3), light, np.float32), PROFILES[name], "linear") == pytest.approx(
        0.5, abs=1e-3
    )


def test_profiles_agree_on_srgb() -> None:
    for name in ("sRGB", "kind 3"):
        for found in curves(PROFILES[name], 3):
            np.testing.assert_allclose(found.light, curves(None, 1)[0].light, atol=2e-4)


@pytest.mark.parametrize(
    "numbers", [(0, 2.0), (1, 2.0, 1.2, -0.2), (2, 2.0, 0.9, -0.1, 0.1), (4, 2, 0.9, 0.1, 0.3, 0.1, 0, 0.0)]
)
def test_parametric_kinds_follow_their_formulas(numbers: tuple[float, ...]) -> None:
    kind, power, a, b, c, d, e, f = (*numbers, *(0.0,) * 8)[:8]
    a = a if kind else 1.0
    values = np.linspace(0, 1, 65536)
    if kind in (1, 2):
        expected = np.where(values >= -b / a, np.maximum(a * values + b, 0) ** power + c, c)
    else:
        expected = np.where(values >= d, np.maximum(a * values + b, 0) ** power + e, c * values + f)
    found = curves(parametric(int(kind), *numbers[1:]), 1)[0].light
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"x" * 50, bytes(200), profile(b"mft2" + bytes(40)), gamma(0)])
def test_profiles_without_curves_are_told(content: bytes) -> None:
    with pytest.raises(PictureError, match=r"has no tone curves.*--space own"):
        Handling(space="linear").before(Picture(np.zeros((2, 2, 3), np.uint8), icc_profile=content))


def test_depth_and_metadata_as_asked() -> None:
    before = Picture(
        np.full((2, 2, 3), 100, np.uint8), np.full((2, 2), 255, np.uint8), SRGB, b"exif", b"xmp", b"iptc"
    )
    for bits, dtype, value in ((8, np.uint8, 100), (16, np.uint16, 25700), (32, np.float32, 100 / 255)):
        handling = Handling(depth=bits, strip_metadata=True)
        after = handling.after(handling.before(before), before)
        assert after.pixels.dtype == dtype
        assert after.pixels[0, 0, 0] == pytest.approx(value)
        assert after.is_opaque
        assert (after.icc_profile, after.exif, after.xmp, after.iptc) == (SRGB, None, None, None)
    kept = Handling().after(Handling().before(before), before)
    assert (kept.exif, kept.xmp, kept.iptc) == (b"exif", b"xmp", b"iptc")


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_dithering_keeps_values_of_8_bits_and_the_mean_of_others(dtype: Any) -> None:
    exact = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    deep = (exact.astype(np.float64) * (257 if dtype == np.uint16 else 1 / 255)).astype(dtype)
    np.testing.assert_array_equal(dithered(deep), exact)
    for part in (0.1, 0.5, 0.9):
        level = (100 + part) * (257 if dtype == np.uint16 else 1 / 255)
        flat = dithered(np.full((64, 64, 3), level, dtype))
        assert set(np.unique(flat)) == {100, 101}
        np.testing.assert_allclose(flat.mean((0, 1)), 100 + part, atol=0.02)
        assert (flat[:, :, 0] != flat[:, :, 1]).any()


def test_dithering_depends_on_the_place_alone() -> None:
    values = np.random.default_rng(3).integers(0, 65536, (150, 40, 3), dtype=np.uint16)
    whole = dithered(values)
    np.testing.assert_array_equal(whole, dithered(values))
    parts = [dithered(values[:37]), dithered(values[37:101], top=37), dithered(values[101:], top=101)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_dithering_shows_in_between_values_that_rounding_loses() -> None:
    ramp = np.linspace(100, 101, 400).reshape(1, -1, 1).repeat(64, 0) * 257
    before = Picture(np.full((4, 4, 1), 100, np.uint8))
    enlarged = Picture(ramp.astype(np.uint16))
    after = Handling(dither=True).after(enlarged, before)
    assert after.pixels.dtype == np.uint8
    blocks = after.pixels[:, :, 0].reshape(64, 10, 40).mean((0, 2))
    np.testing.assert_allclose(blocks, np.linspace(100, 101, 400).reshape(10, 40).mean(1), atol=0.06)
