"""Scales are exact, and the phases of an axis are where section 6.1 of the specification puts them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyres.errors import ScaleError
from polyres.scale import MAX_SCALE, Scale, axis_taps

rationals = st.builds(Fraction, st.integers(1, 64), st.integers(1, 64)).filter(lambda f: f <= MAX_SCALE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2, "2"), ("2.5", "2.5"), (2.5, "2.5"), ("7/3", "7/3"), ((3, "3/2"), "3,1.5"), (Fraction(10, 4), "2.5")],
)
def test_reads_every_way_of_writing_a_scale(value: object, expected: str) -> None:
    assert str(Scale.of(value)) == expected


@pytest.mark.parametrize(
    "value", [0, -1, "abc", "1,5", 100, "1/0", float("nan"), float("inf"), "", None, True, (1, 2, 3)]
)
def test_refuses_what_is_no_scale(value: object) -> None:
    with pytest.raises(ScaleError):
        Scale.of(value)


@given(rationals, rationals)
def test_text_reads_back(y: Fraction, x: Fraction) -> None:
    assert Scale.of(str(Scale.of(y))) == Scale.of(y)
    assert Scale.from_text(str(Scale.of((y, x)))) == Scale.of((y, x))


@given(rationals, st.integers(1, 5000))
def test_output_size_is_the_exact_rounding(factor: Fraction, size: int) -> None:
    height, width = Scale.of((factor, 1)).output_size(size, size)
    assert (height, width) == (max(1, round(size * factor)), size)


TABLE = {
    "3/2": ([0, 1, 1], ["-1/3", "-1", "1/3"]),
    "5/2": ([0, 0, 1, 1, 1], ["-3/5", "1/5", "-1", "-1/5", "3/5"]),
    "4/3": ([0, 1, 1, 2], ["-1/4", "-3/4", "3/4", "1/4"]),
    "5/3": ([0, 0, 1, 2, 2], ["-2/5", "4/5", "0", "-4/5", "2/5"]),
    "7/3": ([0, 0, 1, 1, 1, 2, 2], ["-4/7", "2/7", "-6/7", "0", "6/7", "-2/7", "4/7"]),
}


@pytest.mark.parametrize("text", TABLE)
def test_taps_equal_the_published_table(text: str) -> None:
    # The table names the right-hand cell of a tie only; its left-hand partner is the tap at delta = 1.
    taps = [tap for tap in axis_taps(Fraction(text)) if tap.delta < 1]
    offsets, deltas = TABLE[text]
    assert [tap.offset for tap in taps] == offsets
    assert [tap.delta for tap in taps] == [Fraction(delta) for delta in deltas]


@given(rationals.filter(lambda f: f >= 1))
def test_taps_lie_where_the_pixel_centres_do(factor: Fraction) -> None:
    p, q = factor.numerator, factor.denominator
    taps = axis_taps(factor)
    for tap in taps:
        assert tap.offset + (tap.delta + 1) / 2 == Fraction(2 * tap.phase + 1, 2) * q / p
        assert 0 <= tap.offset < q
    assert all(sum(tap.weight for tap in taps if tap.phase == phase) == 1 for phase in range(p))
    assert len(taps) == p + (q % 2 == 0)


@given(rationals.filter(lambda f: f >= 1))
def test_taps_are_mirror_symmetric(factor: Fraction) -> None:
    p, q = factor.numerator, factor.denominator
    taps = {(tap.phase, tap.offset, tap.delta, tap.weight) for tap in axis_taps(factor)}
    assert taps == {(p - 1 - phase, q - 1 - offset, -delta, weight) for phase, offset, delta, weight in taps}
