"""Which of several places a training crop is cut from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from polyres.data.choosing import MEASURES, Measure, coherence
from polyres.data.crops import CropSampler
from polyres.scale import Scale
from polyres.training.config import DataConfig

Grey = npt.NDArray[np.float32]
ROWS, COLUMNS = np.mgrid[:41, :43].astype(np.float32)


def stripes(degrees: float, side: tuple[int, int] = (41, 43)) -> Grey:
    angle = np.deg2rad(degrees)
    along = COLUMNS * np.cos(angle) + ROWS * np.sin(angle)
    return (100 + 60 * np.sin(along / 2))[: side[0], : side[1]].astype(np.float32)


NOISE = np.random.default_rng(3).normal(128, 20, (41, 43)).astype(np.float32)


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 120])
def test_stripes_are_coherent_whatever_their_direction(degrees: float) -> None:
    assert coherence(stripes(degrees), Scale.of(2)) > 0.98


def test_noise_is_hardly_coherent_and_a_flat_crop_is_not_at_all() -> None:
    assert coherence(NOISE, Scale.of(2)) < 0.3
    assert coherence(np.full((20, 20), 7, np.float32), Scale.of(2)) == 0


def test_stripes_of_one_block_do_not_cancel_those_of_another() -> None:
    """As a whole such a crop has no direction; in blocks it has."""
    crossed = np.concatenate([stripes(0, (40, 40)), stripes(90, (40, 40))], axis=1)
    assert coherence(crossed, Scale.of(2)) > 0.9


def test_strong_blocks_count_most() -> None:
    faint = 128 + (NOISE - 128) / 50
    assert coherence(np.concatenate([stripes(0), faint], axis=1), Scale.of(2)) > 0.95


@pytest.mark.parametrize("side", [(2, 2), (3, 9), (9, 9), (8, 30)])
@pytest.mark.parametrize("measure", MEASURES)
def test_crops_of_any_size_have_a_measure(measure: Measure, side: tuple[int, int]) -> None:
    assert MEASURES[measure](stripes(30, side), Scale.of(1)) > 0


@pytest.mark.parametrize(
    ("measure", "taken"), [("detail", lambda x: x < 96), ("coherence", lambda x: x >= 96)]
)
def test_crops_have_most_of_what_they_are_chosen_by(measure: Measure, taken: Callable[[Any], Any]) -> None:
    """The left half of the picture is strong noise, the right one fainter stripes."""
    left = np.random.default_rng(1).normal(128, 40, (96, 96))
    right = 128 + 20 * np.sin(np.arange(96) / 3)[None].repeat(96, 0)
    grey = np.concatenate([left, right], axis=1).clip(0, 200)
    where = np.broadcast_to(np.arange(192), (96, 192))
    pixels = np.stack([grey, grey, where], axis=2).astype(np.uint8)

    def part(choose_from: int) -> float:
        sampler = CropSampler(
            [pixels], [Scale.of(2)], 8, 4, seed=2, choose_from=choose_from, choose_by=measure
        )
        crops = np.concatenate([sampler.batch(step, 0).high for step in range(30)])
        return float(taken(crops[..., 2].mean((1, 2))).mean())

    assert part(1) < 0.65
    assert part(5) > 0.9


def test_a_measure_that_has_nothing_to_choose_from_is_refused() -> None:
    assert DataConfig(train=[Path("tiles")], choose_from=2, choose_by="coherence").choose_by == "coherence"
    with pytest.raises(ValueError, match="coherence chooses between places; set choose_from to 2"):
        DataConfig(train=[Path("tiles")], choose_by="coherence")
