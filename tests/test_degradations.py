"""Degradations: every step of the table keeps the contract, kernels follow their formulas, runs can name them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from polyres.data.crops import CropSampler
from polyres.data.degradations import DEGRADATIONS, make_steps
from polyres.data.degradations.blurring import Blur
from polyres.data.degradations.compression import Jpeg
from polyres.data.degradations.kernels import bessel_j1, blur, gaussian, sinc
from polyres.data.degradations.noise import GaussianNoise, PoissonNoise
from polyres.data.degradations.resizing import RandomResize
from polyres.data.lowering import Degraded
from polyres.errors import ConfigError, UnknownNameError
from polyres.scale import Scale
from polyres.training.config import DataConfig


def picture(height: int = 40, width: int = 52) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3), dtype=np.float32)


@pytest.mark.parametrize("name", list(DEGRADATIONS))
def test_every_step_keeps_the_contract(name: str) -> None:
    step, image = DEGRADATIONS.make(name, **DEGRADATIONS[name].tiny), picture()
    before = image.copy()
    for seed in range(6):
        made = [step(image, np.random.default_rng(seed), (10, 13)) for _ in range(2)]
        assert np.array_equal(*made)
        assert made[0].dtype == np.float32
        assert made[0].ndim == 3
        assert made[0].shape[2] == 3
        assert np.isfinite(made[0]).all()
        assert -0.5 < made[0].min() <= made[0].max() < 1.5
        assert np.array_equal(image, before)


@pytest.mark.parametrize("name", [n for n in DEGRADATIONS if n not in ("sequence", "to-low")])
def test_chance_comes_from_the_generator(name: str) -> None:
    step = DEGRADATIONS.make(name, **DEGRADATIONS[name].tiny)
    made = [step(picture(), np.random.default_rng(seed), (10, 13)) for seed in range(6)]
    assert any(m.shape != made[0].shape or not np.array_equal(m, made[0]) for m in made[1:])


@pytest.mark.parametrize("name", [n for n in DEGRADATIONS if n not in ("sequence", "one-of")])
def test_a_flat_grey_keeps_its_mean(name: str) -> None:
    step = DEGRADATIONS.make(name)
    grey = np.full((48, 48, 3), 0.5, dtype=np.float32)
    assert np.mean(
        [step(grey, np.random.default_rng(s), (24, 24)).mean() for s in range(4)]
    ) == pytest.approx(0.5, abs=0.02)


def test_the_gaussian_follows_its_formula() -> None:
    kernel = gaussian(5, (1.3, 1.3), 0.7)
    expected = [[math.exp(-(x * x + y * y) / (2 * 1.3**2)) for x in range(-2, 3)] for y in range(-2, 3)]
    np.testing.assert_allclose(kernel, np.array(expected) / np.sum(expected), atol=1e-15)
    long = gaussian(21, (4.0, 1.0), 0.0)
    y, x = np.mgrid[-10:11, -10:11]
    assert (long * x * x).sum() > 10 * (long * y * y).sum()
    np.testing.assert_allclose(gaussian(21, (4.0, 1.0), math.pi / 2), long.T, atol=1e-12)
    assert gaussian(7, (1, 1), 0, beta=4)[3, 2] > gaussian(7, (1, 1), 0)[3, 2]  # flatter in the middle


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_the_plateau_follows_its_formula(beta: float) -> None:
    kernel = gaussian(9, (2.0, 2.0), 0, beta, plateau=True)
    assert kernel[4, 6] / kernel[4, 4] == pytest.approx(0.5)  # at one sigma, whatever the shape
    assert kernel[4, 8] / kernel[4, 4] == pytest.approx(1 / (1 + 4**beta))
    assert kernel.sum() == pytest.approx(1)


def test_bessel_function_has_its_values() -> None:
    # scipy.special.j1 gives these.
    assert bessel_j1(np.array([0.5, 3.0, 20.0])) == pytest.approx(
        [0.24226846, 0.33905896, 0.06683312], abs=1e-8
    )


def test_sinc_passes_what_lies_below_its_cutoff() -> None:
    response = np.abs(np.fft.fft2(sinc(63, math.pi / 2), (256, 256)))
    frequency = np.hypot(*np.meshgrid(*[2 * math.pi * np.abs(np.fft.fftfreq(256))] * 2))
    assert response[frequency < 1.2].min() > 0.85
    assert response[(frequency > 2.0) & (frequency < 3)].max() < 0.15


def test_blurring_is_correlation_with_mirrored_borders() -> None:
    kernel, image = np.random.default_rng(1).random((5, 5)), picture(9, 11)
    wide = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="symmetric").astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (5, 5), axis=(0, 1))
    np.testing.assert_allclose(blur(image, kernel), np.einsum("hwcij,ij->hwc", windows, kernel), atol=1e-5)


def test_noise_has_the_strength_asked_for() -> None:
    grey, random = np.full((200, 200, 3), 0.5, dtype=np.float32), np.random.default_rng(0)
    colour = GaussianNoise((10, 10), grey=0)(grey, random, (1, 1)) - 0.5
    assert colour.std() * 255 == pytest.approx(10, rel=0.03)
    assert abs(np.corrcoef(colour[..., 0].ravel(), colour[..., 1].ravel())[0, 1]) < 0.02
    equal = GaussianNoise((10, 10), grey=1)(grey, random, (1, 1))
    assert (equal == equal[..., :1]).all()
    photons = PoissonNoise((1, 1), grey=0)(grey, random, (1, 1)) - 0.5
    assert photons.std() * 255 == pytest.approx(math.sqrt(255 * 0.5), rel=0.03)
    twice = PoissonNoise((2, 2), grey=0)(grey, random, (1, 1)) - 0.5
    assert twice.std() == pytest.approx(2 * photons.std(), rel=0.03)


def test_poorer_jpegs_are_further_away() -> None:
    image, random = blur(picture(64, 64), gaussian(7, (1.5, 1.5), 0)), np.random.default_rng(0)
    errors = [np.abs(Jpeg((q, q))(image, random, (1, 1)) - image).mean() for q in (10, 50, 95)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.02


def test_resizing_draws_from_its_range() -> None:
    down = RandomResize((0.5, 1.0), chances=(0, 1, 0))
    sizes = [down(picture(40, 40), np.random.default_rng(s), (9, 9)).shape[0] for s in range(30)]
    assert 20 <= min(sizes) < max(sizes) <= 40
    assert len(set(sizes)) > 8
    keep = RandomResize((0.5, 1.5), chances=(0, 0, 1), relative_to="low")
    assert keep(picture(), np.random.default_rng(0), (9, 7)).shape == (9, 7, 3)


def test_a_chain_in_a_run_file_is_a_function_of_seed_step_and_index() -> None:
    steps = [
        {"name": "blur-elliptic", "probability": 0.8, "options": {"sigma": [0.5, 2]}},
        {"name": "to-low"},
        {"name": "one-of", "options": {"steps": [{"name": "noise"}, {"name": "noise-poisson"}]}},
        {"name": "jpeg", "options": {"quality": [60, 90]}},
    ]
    pixels = [(picture(80, 90) * 255).astype(np.uint8)]
    data = DataConfig.model_validate({"train": ["x"], "degradations": steps})
    lower = Degraded(make_steps(step.model_dump() for step in data.degradations))
    sampler, clean = (CropSampler(pixels, [Scale.of(2)], 12, 3, lower=each) for each in (lower, None))
    batch = sampler.batch(5, 1)
    assert np.array_equal(batch.low, sampler.batch(5, 1).low)
    assert np.array_equal(batch.high, clean.batch(5, 1).high)  # the crops do not depend on what makes LR
    assert not np.array_equal(batch.low, clean.batch(5, 1).low)
    assert not np.array_equal(batch.low[0], batch.low[1])
    assert batch.low.shape == (3, 12, 12, 3)
    assert np.abs(batch.low.mean() - clean.batch(5, 1).low.mean()) < 12


def test_a_weak_chain_is_close_to_bicubic() -> None:
    pixels = [(blur(picture(80, 90), gaussian(9, (2, 2), 0)) * 255).astype(np.uint8)]
    weak = Degraded(make_steps([{"name": "noise", "options": {"sigma": [0, 0]}}]))
    one, two = (CropSampler(pixels, [Scale.of(2)], 12, 2, lower=lower).batch(0, 0) for lower in (weak, None))
    assert np.abs(one.low.astype(int) - two.low).max() <= 1  # the double path: rounded once


def test_second_order_of_any_strength_keeps_the_size() -> None:
    for strength in (0.1, 1.0):
        lower = Degraded(make_steps([{"name": "second-order", "options": {"strength": strength}}]))
        sampler = CropSampler([np.zeros((90, 90, 3), dtype=np.uint8)], [Scale.of(3)], 12, 2, lower=lower)
        assert sampler.batch(0, 0).low.shape == (2, 12, 12, 3)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"name": "blur", "options": {"sigma": [3, 1]}}, r"sigma is \[low, high\]"),
        ({"name": "blur", "options": {"sigm": [1, 3]}}, "Did you mean 'sigma'"),
        ({"name": "blur", "options": {"kernel_size": [8, 8]}}, "odd number"),
        ({"name": "resize", "options": {"chances": [1, 0]}}, "up, down and neither"),
        ({"name": "resize", "options": {"factor": [0.2, 0.9]}}, "nothing to draw"),
        ({"name": "resize", "options": {"relative_to": "high"}}, "'image' or 'low'"),
        ({"name": "to-low", "options": {"kernels": ["bicubik"]}}, "Did you mean 'bicubic'"),
        ({"name": "jpeg", "options": {"quality": [0, 50]}}, "from 1 to 100"),
        ({"name": "noise", "options": {"grey": 2}}, "probability"),
        ({"name": "one-of", "options": {"steps": []}}, "one-of needs steps"),
        ({"name": "one-of", "options": {"steps": [{"name": "jpg"}]}}, "Did you mean 'jpeg'"),
        ({"name": "sequence", "options": {"steps": [{"option": 1}]}}, "name, probability and options"),
        ({"name": "second-order", "options": {"strength": 0}}, "above 0"),
        ({"name": "jpeg", "probability": 1.5}, "less than or equal to 1"),
        ({"name": "jepg"}, "Did you mean 'jpeg'"),
    ],
)
def test_wrong_steps_in_a_run_file_are_refused(step: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DataConfig.model_validate({"train": ["x"], "degradations": [step]})


def test_wrong_steps_are_typed_errors() -> None:
    with pytest.raises(UnknownNameError):
        make_steps([{"name": "jepg"}])
    with pytest.raises(ConfigError, match="probability"):
        make_steps([{"name": "jpeg", "probability": -1}])
    with pytest.raises(ConfigError):
        make_steps([{"name": "blur", "options": {"sigma": 3}}])
    assert isinstance(make_steps([{"name": "blur", "probability": 1}])[0], Blur)
    json.dumps(DataConfig.model_json_schema())


def test_every_crop_of_every_batch_has_a_stream_of_its_own() -> None:
    class Recording:
        margin = 0
        drawn: list[float] = []  # noqa: RUF012

        def __call__(
            self, high: np.ndarray, size: tuple[int, int], random: np.random.Generator
        ) -> np.ndarray:
            self.drawn.append(random.random())
            return high[::2, ::2]

    lower = Recording()
    sampler = CropSampler([np.zeros((40, 40, 3), dtype=np.uint8)], [Scale.of(2)], 8, 3, seed=1, lower=lower)
    for step, micro in [(0, 0), (0, 1), (1, 0)]:
        sampler.batch(step, micro)
    # The crops' own stream is none of them: an index of 0 would give it again.
    own = [np.random.default_rng((1, *place)).random() for place in [(0, 0), (0, 1), (1, 0)]]
    assert len({*lower.drawn, *own}) == 12


def test_a_step_happens_as_often_as_asked() -> None:
    step = make_steps([{"name": "noise", "probability": 0.3}])[0]
    image = picture(4, 4)
    happened = [step(image, np.random.default_rng(seed), (1, 1)) is not image for seed in range(300)]
    assert 0.22 < np.mean(happened) < 0.38
