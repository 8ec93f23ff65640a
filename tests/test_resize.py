"""The resize is MATLAB's: bit for bit on published pictures, and by its formula everywhere else."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyres.data import KERNELS, find_pairs, read_rgb, resize
from polyres.errors import PictureError, ScaleError, UnknownNameError
from polyres.scale import Scale


def _reference_kernel(name: str, x: Fraction) -> float:
    """The kernels as their textbooks write them."""
    a = abs(x)
    if name == "bicubic":
        if a <= 1:
            return float(Fraction(3, 2) * a**3 - Fraction(5, 2) * a**2 + 1)
        return float(Fraction(-1, 2) * a**3 + Fraction(5, 2) * a**2 - 4 * a + 2) if a <= 2 else 0.0
    if name == "bilinear":
        return float(max(1 - a, Fraction(0)))
    if name == "lanczos":
        if a >= 3 or a == 0:
            return float(a == 0)
        pi = math.pi * float(a)
        return 3 * math.sin(pi) * math.sin(pi / 3) / pi**2
    return float(-Fraction(1, 2) <= x < Fraction(1, 2))


def _reference_line(
    line: list[float], factor: Fraction, name: str, antialias: bool, edge: str
) -> list[float]:
    """One line of MATLAB's imresize, its 1-based formulas kept, in exact positions."""
    width = {"bicubic": 4, "bilinear": 2, "lanczos": 6}.get(name, 1)
    shrink = factor if antialias and factor < 1 and name != "nearest" else Fraction(1)
    result = []
    for x in range(1, math.ceil(len(line) * factor) + 1):
        u = x / factor + (1 - 1 / factor) / 2
        left = math.floor(u - width / shrink / 2)
        indices = range(left, left + math.ceil(width / shrink) + 2)
        weights = [float(shrink) * _reference_kernel(name, shrink * (u - i)) for i in indices]
        mirror = list(range(len(line))) + list(range(len(line)))[::-1]
        inside = [
            mirror[(i - 1) % len(mirror)] if edge == "mirror" else min(max(i - 1, 0), len(line) - 1)
            for i in indices
        ]
        result.append(sum(w * line[i] for w, i in zip(weights, inside, strict=True)) / sum(weights))
    return result


@settings(max_examples=60, deadline=None)
@given(
    line=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    factor=st.fractions(Fraction(1, 6), 5, max_denominator=7),
    name=st.sampled_from(sorted(KERNELS)),
    antialias=st.booleans(),
    edge=st.sampled_from(["mirror", "repeat"]),
)
def test_both_axes_follow_matlabs_formula(line, factor, name, antialias, edge):
    expected = _reference_line(line, factor, name, antialias, edge)
    options = {"kernel": name, "antialias": antialias, "edge": edge}
    row = resize(np.array([line]), scale=(1, factor), **options)
    column = resize(np.array(line)[:, None, None], scale=(factor, 1), **options)
    np.testing.assert_allclose(row[0], expected, atol=1e-12)
    np.testing.assert_allclose(column[:, 0, 0], expected, atol=1e-12)


def test_long_lines_cross_the_blocks_of_the_implementation():
    line = np.random.default_rng(0).random(150)
    for factor in (Fraction(1, 3), Fraction(2, 5), Fraction(3)):
        expected = _reference_line(list(line), factor, "bicubic", True, "mirror")
        np.testing.assert_allclose(resize(line[None], scale=(1, factor))[0], expected, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("group", "count"),
    [("Set5", None), ("Set14", 3), ("BSD100", 3)]
    + [pytest.param(name, None, marks=pytest.mark.slow) for name in ("Set14", "BSD100")],
)
def test_published_low_resolution_pictures_come_out_bit_for_bit(shared: Path, group, count, scale):
    pairs = find_pairs(shared / "data" / "bench" / group, [Scale.of(scale)])
    assert len(pairs) == {"Set5": 5, "Set14": 14, "BSD100": 100}[group]
    for pair in pairs[:count]:
        made = resize(pair.read_high(), scale=Fraction(1, scale))
        np.testing.assert_array_equal(made, read_rgb(pair.low), err_msg=pair.name)


def test_the_double_path_is_another_picture(shared: Path):
    pair = find_pairs(shared / "data" / "bench" / "Set5", [Scale.of(4)])[0]
    double = resize(pair.read_high(), scale=Fraction(1, 4), quantise="once")
    assert 0.05 < (double != read_rgb(pair.low)).mean() < 0.2


def test_quantise_rules():
    picture = np.random.default_rng(1).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    never = resize(picture, scale=2, quantise="never")
    assert never.dtype == np.float64
    assert never.max() > 255
    assert never.min() < 0  # not clamped
    once = resize(picture, scale=2, quantise="once")
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(once, np.clip(np.floor(never + 0.5), 0, 255))
    rows = resize(picture, scale=(2, 1))
    np.testing.assert_array_equal(resize(picture, scale=2), resize(rows, scale=(1, 2)))


def test_sixteen_bits_round_in_their_own_range():
    picture = np.array([[0, 65535], [65535, 0]], dtype=np.uint16)
    result = resize(picture, scale=3)
    assert result.dtype == np.uint16
    assert result.max() == 65535


def test_float_pictures_keep_their_type_and_overshoot():
    step = np.repeat(np.array([[0.0, 1.0]], dtype=np.float32), 4, axis=1)
    result = resize(step, scale=2)
    assert result.dtype == np.float32
    assert result.max() > 1
    np.testing.assert_allclose(result, resize(step.astype(np.float64), scale=2), atol=1e-7)


def test_the_axis_that_shrinks_more_goes_first():
    picture = np.random.default_rng(2).integers(0, 256, (24, 24), dtype=np.uint8)
    columns = resize(picture, scale=(1, Fraction(1, 4)))
    np.testing.assert_array_equal(
        resize(picture, scale=("1/2", "1/4")), resize(columns, scale=(Fraction(1, 2), 1))
    )


@pytest.mark.parametrize(
    ("scale", "size"), [(2, (20, 14)), ("1/3", (4, 3)), (1 / 3, (4, 3)), (0.4, (4, 3)), (2.5, (25, 18))]
)
def test_size_is_rounded_up_and_floats_are_simple_fractions(scale, size):
    picture = np.zeros((10, 7, 3), dtype=np.uint8)
    assert resize(picture, scale=scale).shape == (*size, 3)


def test_a_float_third_is_a_third():
    picture = np.random.default_rng(3).integers(0, 256, (30, 30), dtype=np.uint8)
    np.testing.assert_array_equal(resize(picture, scale=1 / 3), resize(picture, scale=Fraction(1, 3)))


def test_size_alone_fixes_the_factors_and_size_with_scale_only_the_count():
    picture = np.random.default_rng(4).random((10, 10))
    np.testing.assert_array_equal(resize(picture, size=(5, 20)), resize(picture, scale=("1/2", 2)))
    np.testing.assert_array_equal(resize(picture, scale=1.5, size=(14, 15)), resize(picture, scale=1.5)[:14])


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize("scale", [Fraction(2, 7), 1, Fraction(8, 3)])
def test_an_even_grey_stays_exactly_that_grey(kernel, scale):
    grey = np.full((9, 11, 3), 117, dtype=np.uint8)
    assert (resize(grey, scale=scale, kernel=kernel) == 117).all()


def test_edges_differ_at_the_border_only():
    picture = np.random.default_rng(5).random((40, 40))
    mirror, repeat = (resize(picture, scale="1/2", edge=edge) for edge in ("mirror", "repeat"))
    assert not np.allclose(mirror[0], repeat[0])
    np.testing.assert_array_equal(mirror[2:-2, 2:-2], repeat[2:-2, 2:-2])


def test_the_input_is_left_alone_and_views_are_taken():
    picture = np.random.default_rng(6).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    before = picture.copy()
    flipped = resize(picture[::-1, ::-1], scale="1/2", edge="mirror")
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(flipped, resize(np.ascontiguousarray(picture[::-1, ::-1]), scale="1/2"))
    assert flipped.flags.c_contiguous


@pytest.mark.parametrize(
    ("picture", "options", "error"),
    [
        (np.zeros((4, 4)), {}, ScaleError),
        (np.zeros((4, 4)), {"scale": 0}, ScaleError),
        (np.zeros((4, 4)), {"scale": "1/10000000"}, ScaleError),
        (np.zeros((4, 4)), {"size": (0, 3)}, ScaleError),
        (np.zeros((4, 4)), {"scale": 2, "kernel": "bicubik"}, UnknownNameError),
        (np.zeros((4, 4)), {"scale": 2, "edge": "wrap"}, UnknownNameError),
        (np.zeros((4, 4)), {"scale": 2, "quantise": "twice"}, UnknownNameError),
        (np.zeros((0, 4)), {"scale": 2}, PictureError),
        (np.zeros(4), {"scale": 2}, PictureError),
        (np.zeros((4, 4), dtype=np.int32), {"scale": 2}, PictureError),
    ],
)
def test_bad_requests_are_refused(picture, options, error):
    with pytest.raises(error):
        resize(picture, **options)


def test_the_tensor_version_is_the_same_operator():
    torch = pytest.importorskip("torch")
    from polyres.data.resize_tensor import resize_tensor

    picture = np.random.default_rng(7).random((33, 20, 3))
    image = torch.from_numpy(picture).permute(2, 0, 1).unsqueeze(0)
    for options in (
        {"scale": "1/3"},
        {"scale": "5/2", "edge": "repeat"},
        {"size": (7, 41), "kernel": "lanczos"},
    ):
        with torch.inference_mode():  # fills the cache; a gradient must still pass afterwards
            result = resize_tensor(image, **options)
        np.testing.assert_allclose(result[0].permute(1, 2, 0), resize(picture, **options), atol=1e-12)
        leaf = image.clone().requires_grad_()
        resize_tensor(leaf, **options).sum().backward()
        assert leaf.grad is not None
    with pytest.raises(PictureError):
        resize_tensor(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), scale=2)
