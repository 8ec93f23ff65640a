"""Analyses against answers known beforehand; each command writes a picture and tables that state themselves."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import polyres
from polyres.errors import DataError, UsageError
from polyres.evaluation.analysis import (
    ANALYSES,
    attribution,
    equivariance,
    generated,
    inputs,
    kernels,
    receptive_field,
    similarity,
    spectrum,
)
from polyres.layers.recalibration import recalibrate, recalibrations
from polyres.model import SRModel
from polyres.scale import Scale

RNG = np.random.default_rng(0)


def tiny(encoder: str = "edsr", upsampler: str = "igconv", **options: object) -> polyres.SRModel:
    torch.manual_seed(0)
    entry = polyres.ENCODERS[encoder]
    narrow = {"width": 8, "hidden_layers": 1, "spread": 0.5} if upsampler == "igconv" else {}
    parts = {
        "encoder": {"name": encoder, "options": dict(entry.tiny)},
        "upsampler": {"name": upsampler, "options": {**narrow, **options}},
    }
    return polyres.build(polyres.ModelConfig.model_validate(parts)).eval().requires_grad_(False)


# ---- kernels ---------------------------------------------------------------------------------------------------


def softmax(kernel: np.ndarray) -> np.ndarray:
    return np.exp(kernel) / np.exp(kernel).sum()


def kl(first: np.ndarray, second: np.ndarray) -> float:
    return float(sum(p * math.log(p / q) for p, q in zip(softmax(first), softmax(second), strict=True)))


def test_identical_kernels_diverge_by_nothing() -> None:
    same = np.tile(RNG.normal(size=(1, 9)), (5, 1))
    for how in ("none", "mirror", "jeffreys", "js"):
        assert np.abs(kernels.divergences(same, how)).max() < 1e-14
    assert kernels.effective_rank(same) == pytest.approx(1)
    assert kernels.cosines(same) == pytest.approx(np.ones((5, 5)))


def test_divergence_is_exact_and_asymmetric() -> None:
    given_ = RNG.normal(size=(4, 9))
    matrix = kernels.divergences(given_)
    assert matrix == pytest.approx(np.array([[kl(a, b) for b in given_] for a in given_]), abs=1e-12)
    assert np.abs(matrix - matrix.T).max() > 1e-3
    assert not np.diag(matrix).any()


def test_symmetric_options_by_their_definitions() -> None:
    given_ = RNG.normal(size=(4, 9))
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    mirror, jeffreys, js = (kernels.divergences(given_, how) for how in ("mirror", "jeffreys", "js"))
    for i, j in pairs:
        # The published script fills the upper triangle and mirrors it.
        assert mirror[i, j] == pytest.approx(kl(given_[min(i, j)], given_[max(i, j)]))
        assert jeffreys[i, j] == pytest.approx(kl(given_[i], given_[j]) + kl(given_[j], given_[i]))
        middle = np.log((softmax(given_[i]) + softmax(given_[j])) / 2)
        assert js[i, j] == pytest.approx((kl(given_[i], middle) + kl(given_[j], middle)) / 2)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(5)), st.floats(0.01, 30))
def test_divergences_follow_a_permutation_and_are_never_negative(order: list[int], size: float) -> None:
    given_ = np.random.default_rng(1).normal(size=(5, 9)) * size
    matrix = kernels.divergences(given_)
    assert matrix.min() >= 0
    assert kernels.divergences(given_[order]) == pytest.approx(matrix[np.ix_(order, order)], abs=1e-12)


def test_measures_without_scale_do_not_see_magnitude() -> None:
    given_ = RNG.normal(size=(6, 9))
    for measure in (
        lambda k: kernels.divergences(kernels.standardised(k)),
        kernels.cosines,
        kernels.effective_rank,
    ):
        assert measure(given_ * 7) == pytest.approx(measure(given_), abs=1e-9)
    assert kernels.divergences(given_ * 7).mean() > 5 * kernels.divergences(given_).mean()
    assert kernels.effective_rank(np.eye(6)) == pytest.approx(6)
    assert not kernels.standardised(np.ones((2, 9))).any()


def test_divergence_is_half_the_variance_of_small_differences() -> None:
    given_ = np.random.default_rng(2).normal(size=(400, 9)) * 0.1
    assert kernels.off_diagonal(kernels.divergences(given_)).mean() == pytest.approx(0.01 * 8 / 9, rel=0.05)


def test_basis_and_recalibrated_kernels_are_told_apart() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))
    recalibrate(net)
    for part in recalibrations(net):
        nn.init.normal_(part.weight, std=0.5)
    rows = kernels.find(net).table.rows
    assert [row[:4] for row in rows] == [("0", "basis", 8, 9), ("0", "weight", 8, 9)]
    basis, weight = net[0].parametrizations.weight.original.detach(), net[0].weight.detach()
    assert rows[0][9] == pytest.approx(float(basis.norm()), rel=1e-5)
    assert rows[1][9] == pytest.approx(float(weight.norm()), rel=1e-5)
    assert rows[0][10] == rows[1][10] == pytest.approx(float((weight - basis).norm()), rel=1e-5)
    with pytest.raises(UsageError, match="no convolution"):
        kernels.find(net, "1")
    with pytest.raises(UsageError, match="symmetrised by"):
        kernels.find(net, symmetrise="half")  # type: ignore[arg-type]


def test_slices_are_kernels_of_single_channels() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert kernels.find(net, per="slice").table.rows[0][2:4] == (12, 9)
    assert kernels.find(net, per="out-channel").table.rows[0][2:4] == (4, 27)


# ---- similarity ------------------------------------------------------------------------------------------------


def test_cka_of_identical_turned_and_scaled_features_is_one() -> None:
    features = RNG.normal(size=(50, 6))
    turned, _ = np.linalg.qr(RNG.normal(size=(6, 6)))
    assert similarity.linear_cka(features, features) == pytest.approx(1)
    assert similarity.linear_cka(features, 3 * features @ turned + 5) == pytest.approx(1)
    assert similarity.linear_cka(features, features @ np.diag([1, 1, 1, 9, 9, 9])) < 0.9


def test_cka_of_unrelated_features_is_zero() -> None:
    basis, _ = np.linalg.qr(np.column_stack((np.ones(40), RNG.normal(size=(40, 6)))))
    assert similarity.linear_cka(basis[:, 1:4], basis[:, 4:7]) == pytest.approx(0, abs=1e-12)
    with pytest.raises(DataError, match="same everywhere"):
        similarity.linear_cka(np.ones((4, 2)), basis[:4, :2])
    with pytest.raises(DataError, match="same places"):
        similarity.linear_cka(basis[:4], basis[:5])


def test_similarity_compares_every_model_at_every_scale() -> None:
    model = tiny()
    found = similarity.find({"a": model, "b": model}, [Scale.of(2), Scale.of(3)], inputs.drawn(48))
    assert found.table.columns == ("features", "a ×2", "b ×2", "a ×3", "b ×3")
    matrix = np.array([row[1:] for row in found.table.rows])
    assert matrix[0, 1] == pytest.approx(1)
    assert matrix == pytest.approx(matrix.T)
    assert 0 <= matrix[0, 2] < 0.9999


# ---- generated kernels -----------------------------------------------------------------------------------------


def test_maps_are_the_grey_mean_of_the_kernels_that_the_model_uses() -> None:
    model = tiny()
    rows = model.upsampler.weights(Scale.of(3))[0]
    colours = rows.reshape(3, 3, 3, -1, 3, 3).mean(dim=(-2, -1))  # colour, i, j, channel
    expected = 0.2126 * colours[0] + 0.7152 * colours[1] + 0.0722 * colours[2]
    maps = generated.grey_maps(model.upsampler.kernels, 3, folded=False)
    assert maps == pytest.approx(expected.permute(2, 0, 1).numpy(), abs=1e-6)


def test_coarse_maps_agree_with_fine_ones_where_the_function_is_smooth() -> None:
    y, x = np.mgrid[0:32, 0:32] / 32
    coarse_y, coarse_x = (np.mgrid[0:4, 0:4] * 8 + 3.5) / 32
    assert generated._agreement((coarse_y - coarse_x)[None], (y - x)[None]) == pytest.approx(1, abs=1e-6)
    assert generated._agreement((coarse_x + coarse_y)[None], (y - x)[None]) == pytest.approx(0, abs=1e-6)


def test_only_hypernetworks_have_generated_kernels() -> None:
    found = generated.find(tiny(), grids=(2, 5), channels=3)
    assert len(found.table.rows) == 3 * (4 + 25)
    with pytest.raises(UsageError, match="generates no kernels"):
        generated.find(tiny(upsampler="spconv"))


# ---- equivariance ----------------------------------------------------------------------------------------------


class Nearest(nn.Module):
    """An ideal upscaler by two, plus a slope that no turn leaves alone."""

    context = 0

    def __init__(self, slope: float = 0.0) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, image: Tensor, scale: Scale) -> Tensor:
        enlarged = image.repeat_interleave(2, -1).repeat_interleave(2, -2)
        return enlarged + self.slope * torch.arange(enlarged.shape[-1])


def test_an_equivariant_model_has_no_error_and_another_has_its_own() -> None:
    image, scale = torch.rand(1, 3, 8, 8), Scale.of(2)
    ideal, sloping = cast(SRModel, Nearest()), cast(SRModel, Nearest(0.01))
    assert set(equivariance.turn_errors(ideal, scale, image).values()) == {0.0}
    assert set(equivariance.move_errors(ideal, scale, image).values()) == {0.0}
    turns = equivariance.turn_errors(sloping, scale, image)
    assert turns["flip up-down"] == 0
    expected = 255 * 0.01 * math.sqrt(sum((15 - 2 * x) ** 2 for x in range(16)) / 16)
    assert turns["flip left-right"] == pytest.approx(expected, rel=1e-4)
    moves = equivariance.move_errors(sloping, scale, image)
    assert moves["move 1 down, 0 right"] == 0
    assert moves["move 0 down, 1 right"] == pytest.approx(255 * 0.02, rel=1e-3)
    assert max(equivariance.value_errors(ideal, scale, image).values()) < 1e-4
    values = equivariance.value_errors(sloping, scale, image)
    slope = 255 * 0.01 * math.sqrt(sum(x**2 for x in range(16)) / 16)
    assert values == pytest.approx(
        {"negative": 2 * slope, "lifted by 32 levels": 0, "half the contrast": slope / 2}, rel=1e-4, abs=1e-4
    )


@pytest.mark.parametrize("scale", ["2", "5/2", "4/3,2"])
def test_convolutions_commute_with_moves(scale: str) -> None:
    exact = Scale.of(tuple(scale.split(","))) if "," in scale else Scale.of(scale)  # type: ignore[arg-type]
    errors = equivariance.move_errors(tiny(), exact, torch.rand(1, 3, 30, 30))
    assert max(errors.values()) < 1e-2
    turns = equivariance.turn_errors(tiny(), exact, torch.rand(1, 3, 30, 30))
    assert min(turns.values()) > 0.1
    assert len(turns) == (3 if "," in scale else 7)


# ---- receptive field -------------------------------------------------------------------------------------------


def test_the_field_of_one_convolution_is_its_kernel() -> None:
    conv = nn.Conv2d(3, 2, 3, padding=1)
    field = receptive_field.effective_field(lambda image: conv(image)[..., 4, 4], torch.rand(1, 3, 9, 9))
    expected = np.zeros((9, 9))
    expected[3:6, 3:6] = conv.weight.detach().sum(dim=0).abs().sum(dim=0).numpy()
    assert field == pytest.approx(expected, abs=1e-6)
    assert receptive_field.radius(field, 1.0) == 1


def test_radii_count_rings_around_the_middle() -> None:
    field = np.zeros((9, 9))
    field[4, 4], field[4, 7] = 3, 1
    assert [receptive_field.radius(field, share) for share in (0.5, 0.75, 0.8, 1.0)] == [0, 0, 3, 3]


@pytest.mark.parametrize("scale", ["2", "5/2"])
def test_no_field_is_wider_than_the_declared_context(scale: str) -> None:
    model = tiny()
    field = receptive_field.of_model(model, Scale.of(scale), torch.rand(1, 3, 33, 33))
    assert model.context is not None
    assert 1 < receptive_field.radius(field, 1.0) <= model.context


# ---- attribution -----------------------------------------------------------------------------------------------


def test_attributions_add_up_to_the_change_of_the_result() -> None:
    image, weights = torch.rand(1, 3, 12, 12), torch.rand(1, 3, 12, 12)

    def call(given_: Tensor) -> Tensor:
        return (weights * given_**2).sum()

    found = attribution.attribution(call, image, 8)
    change = call(image) - call(attribution.blurred(image, attribution.SIGMA))
    assert float(found.sum()) == pytest.approx(float(change), rel=1e-4)


def test_only_pixels_that_are_used_get_attributions() -> None:
    found = attribution.attribution(lambda x: x[..., 2:4, 5:7].sum() ** 2, torch.rand(1, 3, 10, 10), 4)
    assert found[..., 2:4, 5:7].abs().sum() > 0
    found[..., 2:4, 5:7] = 0
    assert not found.any()


def test_blur_keeps_constants_and_the_mean() -> None:
    assert attribution.blurred(torch.full((1, 3, 8, 8), 0.3), 2.0) == pytest.approx(0.3)
    point = torch.zeros(1, 1, 33, 33)
    point[..., 16, 16] = 1
    spread = attribution.blurred(point, 2.0)
    assert float(spread.sum()) == pytest.approx(1, abs=1e-5)
    offsets = torch.arange(33.0) - 16
    assert float((spread[0, 0].sum(dim=0) * offsets**2).sum()) == pytest.approx(4, rel=0.05)


def test_gini_of_equal_and_of_single_values() -> None:
    assert attribution.gini(np.ones((4, 5))) == pytest.approx(0)
    single = np.zeros((4, 5))
    single[1, 2] = 7
    assert attribution.gini(single) == pytest.approx(1 - 1 / 20)
    assert attribution.diffusion_index(np.ones(9)) == pytest.approx(100)


# ---- spectrum --------------------------------------------------------------------------------------------------


def test_a_wave_shows_at_its_frequency_alone() -> None:
    x = np.arange(64)
    wave = np.tile(np.cos(2 * np.pi * 9 * x / 64), (64, 1))
    found = spectrum.radial_spectrum(wave)
    assert int(found.argmax()) == 9
    assert found[9] > 100 * found[[3, 5, 14, 20]].max()


def test_white_noise_has_its_variance_at_every_frequency() -> None:
    noise = np.random.default_rng(3).normal(size=(128, 96)) * 5
    found = spectrum.radial_spectrum(noise)
    assert len(found) == 96 // 2 + 1
    assert found[8:].mean() == pytest.approx(25, rel=0.05)


def test_spectra_of_a_model_stand_beside_bicubic_and_the_original() -> None:
    found = spectrum.find({"tiny": tiny()}, Scale.of(2), inputs.drawn(40))
    assert found.table.columns == ("cycles_per_pixel", "original", "error of bicubic", "error of tiny")
    assert found.table.rows[-1][0] == pytest.approx(0.5)


# ---- inputs and commands ---------------------------------------------------------------------------------------


def test_pictures_come_from_the_middle_of_a_file_or_are_drawn(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(inputs.picture(tmp_path / "a.png", 20), pixels[10:30, 20:40])
    assert inputs.picture(tmp_path / "a.png", 50).shape == (40, 50, 3)
    assert np.array_equal(inputs.picture(None, 32), inputs.drawn(32))
    with pytest.raises(UsageError, match="16 pixels"):
        inputs.picture(None, 8)


SMALL = {
    "kernels": ["--layers", "encoder.*"],
    "similarity": ["--scales", "2", "3", "--size", "24"],
    "generated": ["--grids", "2", "4", "--channels", "2"],
    "equivariance": ["--size", "16"],
    "receptive-field": ["--size", "32", "--scale", "2"],
    "attribution": ["--size", "16", "--scale", "2", "--patch", "8", "--steps", "2"],
    "spectrum": ["--size", "32", "--scale", "2"],
}


@pytest.mark.parametrize("name", list(ANALYSES))
def test_every_command_writes_a_picture_and_tables_that_state_themselves(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from polyres.cli import app

    model = tmp_path / "tiny.safetensors"
    polyres.save(tiny(), model)
    words = ["analyze", name, str(model), *SMALL[name], "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    about = ANALYSES[name]
    assert f"formula: {about.formula}" in result.output
    assert f"source: {about.source}" in result.output
    assert Image.open(tmp_path / "out" / f"{name}.png").size[0] > 100
    lines = (tmp_path / "out" / f"{name}.csv").read_text().splitlines()
    assert f"# formula: {about.formula}" in lines
    assert f"# source: {about.source}" in lines
    table = list(csv.reader(line for line in lines if not line.startswith("#")))
    assert len(table) > 1
    assert {len(row) for row in table} == {len(table[0])}


def test_without_matplotlib_the_pip_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from polyres.errors import MissingExtraError
    from polyres.evaluation.analysis import write_finding

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    found = spectrum.find({}, Scale.of(2), inputs.drawn(32))
    with pytest.raises(MissingExtraError, match=r"polyres\[plots\]"):
        write_finding(found, tmp_path, "nothing")
    assert not list(tmp_path.iterdir())
