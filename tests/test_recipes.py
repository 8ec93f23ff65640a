"""Recipes: every one can be read and built, and the papers' say what the papers say."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyres.training.reading import read_run

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted([*(ROOT / "recipes").glob("*.yaml"), *(ROOT / "examples").glob("*.yaml")])

#: Of each published recipe: crops a step, patch, steps, learning rate, milestones, weight of the FFT term, average.
PUBLISHED = {
    "edsr-igconv": (16, 48, 300_000, 1e-4, 1, 0, 0.999),
    "edsr-igconv-plus": (16, 48, 300_000, 1e-4, 1, 0.05, 0.999),
    "rcan-igconv-plus": (16, 48, 1_000_000, 1e-4, 4, 0.05, 0),
    "rdn-igconv-plus": (32, 48, 1_000_000, 1e-4, 4, 0.05, 0),
    "smfanet-igconv": (64, 64, 1_000_000, 1e-3, 0, 0.05, 0.999),
    "smfanet-igconv-plus": (64, 64, 1_000_000, 1e-3, 0, 0.05, 0.999),
    "srformer-igconv": (32, 64, 500_000, 2e-4, 4, 0, 0),
    "srformer-igconv-plus": (32, 64, 500_000, 2e-4, 4, 0.05, 0),
    "hit-srf-igconv": (64, 64, 500_000, 5e-4, 4, 0, 0),
    "hit-srf-igconv-plus": (64, 64, 500_000, 5e-4, 4, 0.05, 0),
    "mambair-igconv": (32, 64, 500_000, 2e-4, 4, 0, 0),
    "mambair-igconv-plus": (32, 64, 500_000, 2e-4, 4, 0.05, 0),
    "mambair-igconv-plus-s8": (128, 64, 500_000, 2e-4, 4, 0.05, 0),
    "mambair-light-igconv": (32, 64, 500_000, 2e-4, 4, 0, 0),
    "mambair-light-igconv-plus": (32, 64, 500_000, 2e-4, 4, 0.05, 0),
    "plksr-igconv-plus": (64, 96, 600_000, 2e-4, 5, 0.02, 0.999),
    "hat-stage1": (32, 64, 800_000, 2e-4, 5, 0.05, 0.999),
    "hat-stage2": (32, 64, 250_000, 1e-5, 4, 0.05, 0.999),
    "atd-stage1": (32, 64, 300_000, 2e-4, 1, 0.05, 0.999),
    "atd-stage2": (32, 96, 250_000, 2e-4, 4, 0.02, 0.999),
    "krgn-x2": (64, 64, 1_305_000, 5e-4, 6, 0, 0),
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_can_be_read_and_built(path: Path) -> None:
    config = read_run(path, with_files=False)  # builds the model on the meta device
    assert config.output == Path("runs") / path.stem
    assert f"polyres train {path.parent.name}/{path.name}" in path.read_text()


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_recipes_say_what_was_published(name: str) -> None:
    config = read_run(ROOT / "recipes" / f"{name}.yaml", with_files=False)
    crops = config.data.batch * config.accumulate
    weight = next((loss.weight for loss in config.losses if loss.name == "fft"), 0)
    found = (crops, config.data.patch, config.steps, config.optimiser.lr)
    assert (*found, len(config.optimiser.milestones), weight, config.ema) == PUBLISHED[name]
