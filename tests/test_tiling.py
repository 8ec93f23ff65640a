"""Cutting a picture: cores cover it once, windows reach far enough, and the grids of network and scale stay whole."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyres.scale import Scale
from polyres.upscale.tiling import Axis, axes, fit, halve

SCALES = [
    Fraction(2),
    Fraction(3),
    Fraction(3, 2),
    Fraction(5, 2),
    Fraction(4, 3),
    Fraction(7, 4),
    Fraction(31, 10),
]

aligned_axes = st.builds(
    lambda size, overlap, align: Axis(size, overlap * align, align),
    st.integers(1, 300), st.integers(0, 9), st.integers(1, 8),
)  # fmt: skip


@given(aligned_axes, st.integers(1, 320))
def test_cores_cover_the_axis_once(axis: Axis, tile: int) -> None:
    spans = axis.spans(tile)
    assert [span.start for span in spans] == [0, *(span.stop for span in spans[:-1])]
    assert spans[-1].stop == axis.size


@given(aligned_axes, st.integers(1, 320))
def test_windows_reach_beyond_their_cores_or_to_the_edge(axis: Axis, tile: int) -> None:
    for span in axis.spans(tile):
        assert 0 <= span.low <= span.start < span.stop <= span.high <= axis.size
        assert span.low == 0 or span.start - span.low >= axis.overlap
        assert span.high == axis.size or span.high - span.stop >= axis.overlap


@given(aligned_axes, st.integers(1, 320))
def test_cuts_lie_on_the_grid_and_windows_are_of_one_size(axis: Axis, tile: int) -> None:
    spans = axis.spans(tile)
    for span in spans:
        assert span.start % axis.align == span.low % axis.align == 0
        assert span.high % axis.align == 0 or span.high == axis.size
        assert span.high - span.low <= axis.window(tile)
    inner = {span.high - span.low for span in spans if span.high != axis.size}
    assert len(inner) <= 1
    assert all(0 <= span.high - span.low - max(inner, default=0) < axis.align for span in spans[-1:] if inner)


@given(
    st.integers(1, 200),
    st.integers(1, 80),
    st.integers(0, 12),
    st.sampled_from(SCALES),
    st.sampled_from([1, 4, 8]),
)
def test_enlarged_cores_make_up_the_result(
    size: int, tile: int, overlap: int, factor: Fraction, multiple: int
) -> None:
    rows, _ = axes(size, 1, Scale(factor, factor), overlap, multiple)
    expected, filled = max(1, round(size * factor)), 0
    for span in rows.spans(tile):
        target, crop = span.target(factor), span.crop(factor)
        assert target.start == filled
        assert target.start - crop.start == span.low * factor  # a whole number of output pixels
        assert crop.stop <= max(1, round((span.high - span.low) * factor))
        filled = target.stop
    assert filled == expected


def test_half_pixels_round_the_same_way_in_every_tile() -> None:
    # 3 x 3/2 = 4.5 rounds to 4; a cut at pixel 2 would give 3 + round(1.5) = 5.
    rows, _ = axes(3, 3, Scale.of("3/2"), 0)
    assert rows.align == 4
    assert [span.target(Fraction(3, 2)) for span in axes(7, 1, Scale.of("3/2"), 0)[0].spans(1)] == [
        slice(0, 6),
        slice(6, 10),
    ]


def test_spans_may_begin_where_an_earlier_cut_ended() -> None:
    axis = Axis(100, 8, 4)
    assert [(span.start, span.stop) for span in axis.spans(16, begin=40)][:2] == [(40, 56), (56, 72)]


@given(aligned_axes, aligned_axes, st.integers(1, 90_000))
def test_fitted_tiles_stay_within_the_limit(rows: Axis, columns: Axis, limit: int) -> None:
    height, width = fit(rows, columns, limit)
    smallest = fit(rows, columns, 0)
    assert (height, width) == smallest or rows.window(height) * columns.window(width) <= limit


def test_fitted_tiles_need_no_more_work_than_any_other() -> None:
    rows, columns, limit = Axis(300, 20, 1), Axis(420, 20, 1), 30_000

    def work(tall: int, wide: int) -> int:
        return sum(
            (row.high - row.low) * (column.high - column.low)
            for row, column in itertools.product(rows.spans(tall), columns.spans(wide))
        )

    best = min(
        work(tall, wide)
        for tall, wide in itertools.product(range(32, 301, 4), range(32, 421, 4))
        if rows.window(tall) * columns.window(wide) <= limit
    )
    assert work(*fit(rows, columns, limit)) <= best * 1.02  # the grid of candidates above is coarse


def test_an_axis_that_one_window_holds_is_not_cut() -> None:
    assert [(len(axis.spans(30)), axis.count(30)) for axis in (Axis(90, 30, 1), Axis(91, 30, 1))] == [
        (1, 1),
        (4, 4),
    ]


def test_a_picture_that_fits_is_not_cut() -> None:
    assert fit(Axis(300, 20, 1), Axis(420, 20, 1), 300 * 420) == (300, 420)


@pytest.mark.parametrize("align", [1, 8])
def test_halving_ends(align: int) -> None:
    rows, columns = Axis(500, 16, align), Axis(900, 16, align)
    tile: tuple[int, int] | None = (500, 900)
    areas = []
    while tile is not None:
        areas.append(tile[0] * tile[1])
        tile = halve(tile, rows, columns)
    assert all(later < earlier for earlier, later in itertools.pairwise(areas))
    assert areas[-1] == 32 * 32
