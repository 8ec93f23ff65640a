"""Pictures in quadrants: put together without a seam, each seeing its own part only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyres.errors import UsageError
from polyres.evaluation.quadrants import in_quadrants
from polyres.scale import Scale


def repeat(low: npt.NDArray, scale: Scale) -> npt.NDArray:
    return low.repeat(int(scale.y), axis=0).repeat(int(scale.x), axis=1).astype(np.float32)


def picture(rows: int, columns: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    factor=st.integers(1, 4),
    shave=st.integers(1, 12),
    most=st.integers(100, 2000),
)
def test_nothing_is_lost_or_moved(rows: int, columns: int, factor: int, shave: int, most: int) -> None:
    low, scale = picture(rows, columns), Scale.of(factor)
    # Cutting again needs parts smaller than the whole.
    most = max(most, (2 * shave + 2) * max(rows, columns))
    assert np.array_equal(in_quadrants(repeat, shave, most)(low, scale), repeat(low, scale))


def test_each_quadrant_sees_ten_pixels_beyond_the_middle() -> None:
    seen: list[tuple[int, ...]] = []

    def watch(low: npt.NDArray, scale: Scale) -> npt.NDArray:
        seen.append(low.shape[:2])
        return repeat(low, scale)

    in_quadrants(watch)(picture(60, 81), Scale.of(2))
    assert seen == [(40, 50)] * 4


def test_large_pictures_are_cut_again() -> None:
    seen: list[tuple[int, ...]] = []

    def watch(low: npt.NDArray, scale: Scale) -> npt.NDArray:
        seen.append(low.shape[:2])
        return repeat(low, scale)

    in_quadrants(watch, shave=2, most_pixels=101)(picture(20, 20), Scale.of(2))
    assert seen == [(12, 12)] * 4
    seen.clear()
    in_quadrants(watch, shave=2, most_pixels=99)(picture(40, 40), Scale.of(2))
    assert len(seen) == 64


def test_rational_scales_are_refused() -> None:
    with pytest.raises(UsageError, match="whole-number"):
        in_quadrants(repeat)(picture(9, 9), Scale.of("5/2"))
