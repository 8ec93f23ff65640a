"""Sets of scales to train at: ranges of fractions, their weights, and the patches that fit them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from polyres.scale import Scale
from polyres.training.config import DataConfig
from polyres.training.scale_sets import ScaleRange


def data(**given: Any) -> DataConfig:
    return DataConfig.model_validate({"train": ["pictures"], **given})


def test_a_range_is_all_reduced_fractions_in_it() -> None:
    config = data(scales={"range": [1, 4], "max_p": 8, "max_q": 3})
    expected = "1 4/3 3/2 5/3 2 7/3 5/2 8/3 3 7/2 4"
    assert config.exact_scales == [Scale.of(text) for text in expected.split()]
    assert set(config.scales.values()) == {1}


def test_single_scales_have_weights_of_their_own() -> None:
    scales = {"range": ["4/3", 2], "weights": {2: 3, "3/2": 0, 1.6666: 1}}
    with pytest.raises(ValidationError, match=r"weights name 1\.6666; the set is 4/3, 1\.5, 5/3, 2"):
        data(scales=scales)
    del scales["weights"][1.6666]
    assert data(scales=scales).scales == {"4/3": 1, "5/3": 1, "2": 3}


def test_a_run_keeps_the_set_that_a_range_means() -> None:
    config = data(scales={"range": [2, 3], "max_q": 2})
    assert DataConfig.model_validate_json(config.model_dump_json()) == config


@given(st.fractions(1, 6, max_denominator=6), st.fractions(0, 6), st.integers(1, 12), st.integers(1, 5))
def test_members_are_those_within_the_limits(low: Fraction, more: Fraction, p: int, q: int) -> None:
    high = min(low + more, Fraction(16))
    wanted = {Fraction(a, b) for a in range(1, p + 1) for b in range(1, q + 1) if low * b <= a <= high * b}
    if not wanted:
        with pytest.raises(ValidationError, match="there is no scale"):
            ScaleRange(range=(low, high), max_p=p, max_q=q)
        return
    found = ScaleRange(range=(low, high), max_p=p, max_q=q).frequencies()
    assert [Scale.of(text).y for text in found] == sorted(wanted)


@pytest.mark.parametrize(
    ("scales", "reason"),
    [
        ({"range": [4, 1]}, "there is no scale p/q from 4 to 1"),
        ({"range": [1]}, "a range is its two ends"),
        ({"range": 3}, "a range is its two ends"),
        ({"range": [1, "nan"]}, "a scale is a number"),
        ({"range": [1, 99]}, "at most 16"),
        ({"range": [1, 4], "max_p": 0}, "max_p: Input should be greater"),
        ({"range": [1, 4], "max_r": 3}, "max_r: Extra inputs"),
        ({"range": [2, 2], "weights": {2: 0}}, "not all of them 0"),
        ({"range": [1, 2], "weights": {2: -1}}, "at least 0"),
        ({"range": [1, 2], "weights": [2]}, "weights are a mapping"),
        ({"range": ["1/2", 1]}, "at least 1"),
        (3, "scales are a list"),
        ("2.5", "scales are a list"),
    ],
)
def test_sets_that_make_no_sense(scales: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        data(scales=scales)


def test_every_scale_that_does_not_fit_the_patch_is_named() -> None:
    with pytest.raises(ValidationError, match=r"20 is none for scale 4/3, 5/3; any multiple of 6 is"):
        data(scales=[2, "4/3", "5/2", "5/3"], patch=20)
    assert data(scales=[2, "4/3", "5/2", "5/3"], patch=24).patch == 24
