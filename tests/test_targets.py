"""Target sizes: what each way of asking comes to, exact to the pixel, and what is refused before the work."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polyres.errors import PictureError, ScaleError, TooLargeError, UsageError
from polyres.model import ModelConfig, SRModel, build
from polyres.pictures import Picture, read_picture, write_picture
from polyres.pictures.resample import resample
from polyres.scale import Scale
from polyres.upscale import Plan, Target, Upscaler, plan
from polyres.upscale.planning import remarks
from polyres.upscale.targets import Fitted
from polyres.weights import ModelCard, save

SIDES = st.integers(1, 3000)


def tiny() -> SRModel:
    torch.manual_seed(0)
    encoder = {"name": "edsr", "options": {"channels": 8, "blocks": 1}}
    upsampler = {"name": "igconv", "options": {"width": 8, "hidden_layers": 1, "base": "bilinear"}}
    return build(ModelConfig.model_validate({"encoder": encoder, "upsampler": upsampler})).eval()


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return Upscaler(tiny(), device="cpu", dtype=torch.float32)


def noise(height: int, width: int, seed: int = 0) -> Picture:
    return Picture(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def half_up(length: Fraction) -> int:
    return max(1, int(length + Fraction(1, 2)))


# ---- what a target means ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"scale": "5/2"}, Fitted(75, 50)),
        ({"scale": 2.37}, Fitted(71, 47)),
        ({"scale": (2, 3)}, Fitted(90, 40)),
        ({"width": 45}, Fitted(45, 30)),
        ({"width": 40}, Fitted(40, 27)),
        ({"height": 31}, Fitted(47, 31)),  # 46.5: halves up
        ({"width": 1}, Fitted(1, 1)),
        ({"width": 90, "height": 90}, Fitted(90, 60)),
        ({"width": 200, "height": 50}, Fitted(75, 50)),
        ({"width": 90, "height": 90, "mode": "fill"}, Fitted(90, 90, (135, 90))),
        ({"width": 60, "height": 40, "mode": "fill"}, Fitted(60, 40, (60, 40))),
        ({"width": 90, "height": 90, "mode": "stretch"}, Fitted(90, 90)),
        ({"short_side": 50}, Fitted(75, 50)),
        ({"long_side": 50}, Fitted(50, 33)),
        ({"scale": 4, "max_pixels": 5400}, Fitted(90, 60)),
        ({"scale": 4, "max_pixels": 5399}, Fitted(89, 59)),
        ({"scale": 4, "max_pixels": 9600}, Fitted(120, 80)),
        ({"width": 90, "height": 900, "max_pixels": 600}, Fitted(30, 20)),
        ({"scale": 4, "max_pixels": 1}, Fitted(1, 1)),
    ],
)
def test_what_a_picture_of_30x20_becomes(asked: dict[str, Any], expected: Fitted) -> None:
    assert Target(**asked).of(30, 20) == expected


@given(SIDES, SIDES, SIDES, SIDES)
def test_fitted_results_touch_the_sides_and_keep_the_aspect(w: int, h: int, width: int, height: int) -> None:
    fitted = Target(width=width, height=height).of(w, h)
    factor = min(Fraction(width, w), Fraction(height, h))
    assert (fitted.width, fitted.height) == (half_up(w * factor), half_up(h * factor))
    assert fitted.width <= width
    assert fitted.height <= height
    assert fitted.width == width or fitted.height == height
    assert fitted.whole is None


@given(SIDES, SIDES, SIDES, SIDES)
def test_filled_results_are_cut_from_no_more_than_covers_them(
    w: int, h: int, width: int, height: int
) -> None:
    fitted = Target(width=width, height=height, mode="fill").of(w, h)
    assert (fitted.width, fitted.height) == (width, height)
    assert fitted.whole is not None
    across, down = fitted.whole
    assert across >= width
    assert down >= height
    assert across == width or down == height
    assert across == half_up(w * max(Fraction(width, w), Fraction(height, h)))


@given(SIDES, SIDES, SIDES)
def test_one_side_is_exact_and_the_other_follows(w: int, h: int, side: int) -> None:
    assert Target(width=side).of(w, h) == Fitted(side, half_up(Fraction(h * side, w)))
    assert Target(height=side).of(w, h) == Fitted(half_up(Fraction(w * side, h)), side)
    short, long = Target(short_side=side).of(w, h), Target(long_side=side).of(w, h)
    assert min(short.width, short.height) == side == max(long.width, long.height)
    for fitted in (short, long):  # rounding may make a thin picture square, but never turns it
        assert fitted.width <= fitted.height or w > h
        assert fitted.width >= fitted.height or w < h


@given(SIDES, SIDES, st.integers(1, 20_000_000), st.sampled_from([{"scale": 3}, {"width": 2000}]))
def test_limited_results_are_as_large_as_the_limit_allows(w: int, h: int, most: int, asked: Any) -> None:
    free, limited = Target(**asked).of(w, h), Target(**asked, max_pixels=most).of(w, h)
    if free.width * free.height <= most:
        assert limited == free
        return
    assert limited.width * limited.height <= most
    long, short = max(limited.width, limited.height), min(limited.width, limited.height)
    aspect = Fraction(max(w, h), min(w, h))
    assert short == half_up(long / aspect)
    assert (long + 1) * half_up((long + 1) / aspect) > most


@pytest.mark.parametrize(
    ("asked", "label"),
    [
        ({"scale": "7/3"}, "x7-3"),
        ({"scale": (2, 3)}, "x2-3"),
        ({"width": 1920, "height": 1080}, "1920x1080"),
        ({"width": 3840}, "w3840"),
        ({"height": 2160}, "h2160"),
        ({"short_side": 1080}, "short1080"),
        ({"long_side": 4096}, "long4096"),
    ],
)
def test_labels_fit_into_file_names(asked: dict[str, Any], label: str) -> None:
    assert Target(**asked).label == label


@pytest.mark.parametrize(
    ("asked", "error", "reason"),
    [
        ({}, UsageError, "give one of"),
        ({"scale": 2, "width": 5}, UsageError, "give one of"),
        ({"short_side": 5, "long_side": 9}, UsageError, "give one of"),
        ({"width": 5, "mode": "cover"}, UsageError, "a mode is one of fit, fill, stretch"),
        ({"width": 0}, ScaleError, "width is a whole number"),
        ({"height": -4}, ScaleError, "height is a whole number"),
        ({"height": 2.5}, ScaleError, "height is a whole number"),
        ({"width": True}, ScaleError, "width is a whole number"),
        ({"short_side": 10**13}, ScaleError, "short side is a whole number"),
        ({"scale": 2, "max_pixels": 0}, ScaleError, "max pixels is a whole number"),
        ({"scale": 17}, ScaleError, "at most 16"),
        ({"width": 50_000, "height": 50_000, "mode": "fill"}, ScaleError, "more than 2000 megapixels"),
        ({"short_side": 50_000}, ScaleError, "more than 2000 megapixels"),
        ({"width": 90, "height": 90, "mode": "stretch", "max_pixels": 8099}, UsageError, "at most 8099"),
    ],
)
def test_targets_that_no_picture_can_meet(asked: dict[str, Any], error: type, reason: str) -> None:
    with pytest.raises(error, match=reason):
        Target(**asked)


# ---- plans and results -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"width": 60}, Plan(60, 40, Scale.of(2), None)),
        ({"width": 52}, Plan(52, 35, Scale.of(2), (52, 35))),
        ({"width": 50}, Plan(50, 33, Scale.of("5/3"), None)),
        ({"width": 70}, Plan(70, 47, Scale.of("7/3"), None)),  # 46.67 rows
        ({"width": 29}, Plan(29, 19, None, (29, 19))),
        ({"width": 60, "height": 60, "mode": "fill"}, Plan(60, 60, Scale.of(3), None, (90, 60))),
        ({"width": 20, "height": 20, "mode": "fill"}, Plan(20, 20, None, None, (30, 20))),
        ({"width": 61, "height": 60, "mode": "fill"}, Plan(61, 60, Scale.of(3), None, (90, 60))),
        ({"scale": 4, "max_pixels": 2400}, Plan(60, 40, Scale.of(2), None)),
    ],
)
def test_plans_for_targets(asked: dict[str, Any], expected: Plan) -> None:
    assert plan(20, 30, target=Target(**asked)) == expected


TARGETS = st.one_of(
    st.builds(Target, width=st.integers(1, 70)),
    st.builds(Target, height=st.integers(1, 70)),
    st.builds(
        Target,
        width=st.integers(1, 70),
        height=st.integers(1, 70),
        mode=st.sampled_from(["fit", "fill", "stretch"]),
    ),
    st.builds(Target, short_side=st.integers(1, 40)),
    st.builds(Target, long_side=st.integers(1, 70), max_pixels=st.integers(1, 3000)),
    st.builds(Target, scale=st.fractions("1/4", 4, max_denominator=12), max_pixels=st.integers(1, 3000)),
)


@settings(deadline=None, max_examples=20)
@given(st.integers(4, 24), st.integers(4, 24), TARGETS)
def test_results_have_the_size_of_the_target_to_the_pixel(height: int, width: int, target: Target) -> None:
    alpha = np.full((height, width), 255, np.uint8)
    picture = dataclasses.replace(noise(height, width), alpha=alpha)
    result = Upscaler(tiny(), device="cpu", dtype=torch.float32)(picture, target=target)
    fitted = target.of(width, height)
    assert (result.width, result.height) == (fitted.width, fitted.height)
    assert result.alpha is not None
    assert result.alpha.shape == (fitted.height, fitted.width)


def test_filling_keeps_the_centre(upscaler: Upscaler) -> None:
    picture = noise(20, 30)
    result = upscaler(picture, target=Target(width=61, height=60, mode="fill"))
    np.testing.assert_array_equal(result.pixels, upscaler(picture, scale=3).pixels[:, 14:75])
    tall = Picture(picture.pixels.transpose(1, 0, 2))
    turned = upscaler(tall, target=Target(width=10, height=6, mode="fill"))
    np.testing.assert_array_equal(turned.pixels, resample(tall.pixels, 15, 10)[4:10])


def test_a_size_that_a_short_scale_rounds_to_is_not_resampled(upscaler: Upscaler) -> None:
    picture = noise(21, 31)
    result = upscaler(
        picture, target=Target(width=46, height=32, mode="stretch")
    )  # 3/2: 46.5 x 31.5, to even
    np.testing.assert_array_equal(result.pixels, upscaler(picture, scale="3/2").pixels)


def test_a_plan_says_what_is_done() -> None:
    work = plan(20, 30, target=Target(width=59, height=60, mode="fill"))
    assert str(work) == "x3 by the network, then cut to 59x60 about its centre"
    assert str(plan(20, 30, target=Target(width=15))) == "only resampled to 15x10"
    assert str(plan(20, 30, scale=2.9)) == "x3 by the network, then resampled to 87x58"


def test_results_too_large_are_wrong_requests_of_one_picture() -> None:
    with pytest.raises(TooLargeError, match="600000x400000 = 240000 megapixels") as caught:
        plan(20, 30, target=Target(width=600_000))
    assert isinstance(caught.value, PictureError)
    assert isinstance(caught.value, UsageError)


def test_what_a_person_should_know_is_told() -> None:
    trained = [Scale.of(s) for s in ("2", "4", "3/2")]

    def told(**asked: Any) -> list[str]:
        return remarks(plan(20, 30, **asked), 20, 30, trained)

    assert told(scale=2) == told(scale="8/3") == told(scale=1) == []
    assert told(scale=0.5) == ["nothing is enlarged, so no network is used"]
    assert told(scale=6) == ["x6 is beyond the scales that this model was trained at (x1.5 to x4)"]
    assert told(scale="4/3") == ["x4/3 is beyond the scales that this model was trained at (x1.5 to x4)"]
    assert told(scale=12)[1] == "the network makes x8 at most, and a fixed filter the rest"
    assert remarks(plan(20, 30, scale=6), 20, 30) == []


# ---- the command -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save(tiny(), path, ModelCard(scales=("2", "3", "4")))
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    write_picture(noise(8, 10), path)
    return path


@pytest.mark.parametrize(
    ("words", "name", "size"),
    [
        (("-w", 23), "photo_w23.png", (23, 18)),
        (("--height", 20), "photo_h20.png", (25, 20)),
        (("--size", "30x30"), "photo_30x30.png", (30, 24)),
        (("--width", 30, "--height", 30), "photo_30x30.png", (30, 24)),
        (("--size", "30X30", "--mode", "fill"), "photo_30x30.png", (30, 30)),
        (("--size", "30×30", "--mode", "stretch"), "photo_30x30.png", (30, 30)),
        (("--short-side", 12), "photo_short12.png", (15, 12)),
        (("--long-side", 12), "photo_long12.png", (12, 10)),
        (("--max-pixels", "0.00018M"), "photo_x2.png", (15, 12)),
        (("-s", 3, "--max-pixels", "1k"), "photo_x3.png", (30, 24)),
    ],
)
def test_the_options_and_the_names_that_follow(
    photo: Path, upscale, words: tuple[object, ...], name: str, size: tuple[int, int]
) -> None:
    status, out, err = upscale(photo, *words)
    assert (status, "Traceback" in err) == (0, False)
    assert f"{name}  10x8 to {size[0]}x{size[1]}" in out
    with Image.open(photo.with_name(name)) as result:
        assert result.size == size


def test_sizes_are_those_of_the_upright_picture(tmp_path: Path, upscale) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: shown turned by a quarter
    Image.new("RGB", (20, 10), "red").save(tmp_path / "photo.jpg", exif=exif)
    assert upscale(tmp_path / "photo.jpg", "--width", 30)[0] == 0
    result = read_picture(tmp_path / "photo_w30.jpg")
    assert (result.width, result.height) == (30, 60)


def test_a_folder_is_named_after_the_size(photo: Path, upscale) -> None:
    assert upscale(photo.parent, "--size", "20x20")[0] == 0
    folder = photo.parent.with_name(f"{photo.parent.name}_20x20")
    assert [path.name for path in folder.iterdir()] == ["photo_20x20.png"]


def test_the_plan_is_printed_and_remarks_are_made_once(photo: Path, upscale) -> None:
    write_picture(noise(8, 10), photo.with_name("other.png"))
    _, _, err = upscale(photo.parent, "--size", "60x60", "--mode", "fill", "-v", "-o", photo.parent / "out")
    assert err.count("x7.5 by the network, then cut to 60x60 about its centre") == 2
    assert err.count("beyond the scales that this model was trained at (x2 to x4)") == 1
    status, _, err = upscale(photo, "-s", "1/2")
    assert (status, err.count("\n")) == (0, 1)
    assert "nothing is enlarged" in err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--scale=0",), "a scale is"),
        (("--scale=-2",), "a scale is"),
        (("--scale=nan",), "a scale is"),
        (("--scale=1/0",), "a scale is"),
        (("--scale=2", "--size=20x20"), "--scale and --size contradict each other"),
        (("--scale=2", "--width=20"), "--scale and --width or --height contradict each other"),
        (("--width=20", "--size=20x20"), "contradict each other"),
        (("--short-side=20", "--long-side=20"), "contradict each other"),
        (("--height=20", "--short-side=20"), "contradict each other"),
        (("--width=0",), "--width is a whole number of pixels, at least 1; got '0'"),
        (("--width=-5",), "--width is a whole number"),
        (("--width=nan",), "--width is a whole number"),
        (("--width=",), "--width is a whole number"),
        (("--height=20.5",), "--height is a whole number"),
        (("--short-side=abc",), "--short-side is a whole number"),
        (("--long-side=inf",), "--long-side is a whole number"),
        (("--size=1920",), "--size is WIDTHxHEIGHT"),
        (("--size=0x5",), "--size is WIDTHxHEIGHT"),
        (("--size=-5x5",), "--size is WIDTHxHEIGHT"),
        (("--size=5x",), "--size is WIDTHxHEIGHT"),
        (("--size=5x5x5",), "--size is WIDTHxHEIGHT"),
        (("--size=20x20", "--mode=cover"), "--mode is one of fit, fill, stretch"),
        (("--width=20", "--mode=fill"), "--mode says what to do where both sides are given"),
        (("--max-pixels=0",), "--max-pixels is a number of pixels"),
        (("--max-pixels=lots",), "--max-pixels is a number of pixels"),
        (("--size=20x20", "--mode=fill", "--max-pixels=100"), "20x20 has 400 pixels, but at most 100"),
        (("--size=50000x50000", "--mode=stretch"), "more than 2000 megapixels"),
        (("--width=99999999999999999999",), "at most 1000000000000"),
        (("--width=900000",), "900000x720000 = 648000 megapixels; at most 2000"),
        (("--size=900000x900000",), "900000x720000 = 648000 megapixels"),
    ],
)
def test_requests_that_make_no_sense_are_one_line_and_status_2(
    photo: Path, upscale, words: tuple[str, ...], reason: str
) -> None:
    status, out, err = upscale(photo, *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert reason in err
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]


def test_one_result_too_large_does_not_stop_the_others(photo: Path, upscale) -> None:
    write_picture(Picture(np.zeros((6000, 2, 3), np.uint8)), photo.with_name("thin.png"))
    status, out, err = upscale(photo.parent, "--width", 900, "-o", photo.parent / "out")
    assert status == 2
    assert "900x2700000 = 2430 megapixels" in err
    assert "photo_w900.png  10x8 to 900x720" in out
