"""Any size at any scale: the shape exact, nothing crashes, tiles equal the whole; alpha and grey stay what they are."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polyres.model import ModelConfig, SRModel, build
from polyres.pictures import Picture
from polyres.upscale import Upscaler

SCALES = ("1", "3/2", "2", "5/2", "8/3", "3", "4", "1/2", "3.14", "17/16", "7", "8", "9")
SIDES = st.integers(1, 65)


def tiny(encoder: str) -> SRModel:
    """A model of finite context, or with attention windows that pictures must be padded to."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"channels": 8, "blocks": 1}
    if encoder == "swinir":
        options = {"channels": 8, "blocks": [1], "heads": [2], "window": 4}
    parts = {
        "encoder": {"name": encoder, "options": options},
        "upsampler": {"name": "igconv", "options": {"width": 8, "hidden_layers": 1, "base": "bilinear"}},
    }
    return build(ModelConfig.model_validate(parts)).eval()


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return Upscaler(tiny("edsr"), dtype=torch.float32)


def picture(
    height: int, width: int, channels: int = 3, dtype: Any = np.uint8, alpha: bool = False
) -> Picture:
    rng = np.random.default_rng(height * 99 + width)
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    values = (rng.random((height, width, channels + 1), dtype=np.float32) * white).astype(dtype)
    return Picture(values[:, :, :channels].copy(), values[:, :, -1].copy() if alpha else None)


@settings(max_examples=120, deadline=None)
@given(
    height=SIDES,
    width=SIDES,
    scale=st.sampled_from(SCALES),
    channels=st.sampled_from([1, 3]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    alpha=st.booleans(),
)
@example(height=1, width=1, scale="1/2", channels=1, dtype=np.uint8, alpha=True)
@example(height=1, width=65, scale="8", channels=3, dtype=np.uint16, alpha=False)
@example(height=65, width=1, scale="8/3", channels=3, dtype=np.float32, alpha=True)
def test_every_size_at_every_scale_comes_out_exact(
    upscaler: Upscaler, height: int, width: int, scale: str, channels: int, dtype: Any, alpha: bool
) -> None:
    before = picture(height, width, channels, dtype, alpha)
    after = upscaler(before, scale=scale)
    factor = Fraction(scale)
    assert (after.height, after.width) == (max(1, round(height * factor)), max(1, round(width * factor)))
    assert after.pixels.dtype == dtype
    assert after.is_grey == (channels == 1)
    assert (after.alpha is not None) == alpha
    assert np.isfinite(after.pixels).all()


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, wide=st.integers(1, 130), tall=st.integers(1, 130))
def test_every_size_asked_for_comes_out_exact(
    upscaler: Upscaler, height: int, width: int, wide: int, tall: int
) -> None:
    after = upscaler(picture(height, width), size=(wide, tall))
    assert (after.width, after.height) == (wide, tall)


@pytest.mark.parametrize("encoder", ["edsr", "swinir"])
def test_one_pixel_is_enough_for_every_kind_of_network(encoder: str) -> None:
    model = tiny(encoder)
    for height, width in ((1, 1), (1, 7), (9, 2)):
        after = Upscaler(model)(picture(height, width), scale=3)
        assert (after.height, after.width) == (3 * height, 3 * width)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    tile=st.integers(1, 60),
    scale=st.sampled_from(["3/2", "2", "5/2", "3", "4", "8/3"]),
    channels=st.sampled_from([1, 3]),
)
def test_tiles_equal_the_whole(
    upscaler: Upscaler, height: int, width: int, tile: int, scale: str, channels: int
) -> None:
    before = picture(height, width, channels, np.float32)
    results = []
    for upscaler.tile in (0, tile):
        assert upscaler.tiling(height, width, scale).exact
        results.append(upscaler(before, scale=scale).pixels)
    upscaler.tile = "auto"
    assert np.abs(results[0] - results[1]).max() <= 2e-6


# ---- alpha and grey --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("scale", ["2", "5/2", "3.14"])
def test_opaque_and_empty_regions_stay_exactly_so(upscaler: Upscaler, scale: str, dtype: Any) -> None:
    before = picture(40, 40, dtype=dtype)
    alpha = np.zeros((40, 40), dtype)
    alpha[:, 20:] = before.white
    after = upscaler(Picture(before.pixels, alpha), scale=scale)
    assert after.alpha is not None
    edge, reach = 20 * Fraction(scale), 4 * Fraction(scale)
    assert (after.alpha[:, : int(edge - reach)] == 0).all()
    assert (after.alpha[:, int(edge + reach) :] == before.white).all()


def test_what_lies_under_transparency_does_not_show(upscaler: Upscaler) -> None:
    colours = np.full((24, 24, 3), 180, np.uint8)
    alpha = np.zeros((24, 24), np.uint8)
    alpha[6:18, 6:18] = 255
    results = []
    for hidden in (0, 255):
        under = np.where(alpha[:, :, None] > 0, colours, hidden).astype(np.uint8)
        after = upscaler(Picture(under, alpha), scale=2)
        assert after.alpha is not None
        results.append(after.pixels[after.alpha > 0])
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_grey_has_one_channel_before_and_after(upscaler: Upscaler, dtype: Any) -> None:
    after = upscaler(picture(20, 30, 1, dtype), scale="5/2")
    assert after.pixels.shape == (50, 75, 1)
