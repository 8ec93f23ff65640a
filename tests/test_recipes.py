"""Recipes: every one can be read and built, and the papers' say what the papers say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from polyres.cli import app
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


#: A picture of each kind under the path that the archives of the sets have for it.
DOWNLOADS = (
    "DIV2K_train_HR/0001",
    "DIV2K_valid_HR/0801",
    "Flickr2K/Flickr2K_HR/000001",
    "LSDIR/0001000/0000001",
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every ``polyres data prepare`` that a recipe names was run."""
    folder = tmp_path_factory.mktemp("prepared")
    for name in DOWNLOADS:
        path = folder / "downloads" / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.zeros((480, 480, 3), np.uint8)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in sorted({command for path in RECIPES for command in commands(path)}):
            done = CliRunner().invoke(app, shlex.split(command)[1:])
            assert "missing in" in done.output, command  # a picture alone is no whole set, but it was sorted
    return folder


def commands(path: Path) -> list[str]:
    """The ``polyres data prepare`` commands at the head of a recipe."""
    return re.findall(r"^#   (polyres data prepare .*)$", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", [path for path in RECIPES if commands(path)], ids=lambda path: path.stem)
def test_the_folders_of_recipes_are_those_that_prepare_makes(path: Path, prepared: Path) -> None:
    data = read_run(path, with_files=False).data
    for folder in [*data.train, *data.validation]:
        if folder == Path("datasets/ImageNet/flat"):  # of HAT's first stage; its head says what to put there
            assert str(folder) in path.read_text().split("model:")[0]
            continue
        assert any((prepared / folder).glob("*.png")), folder
        cut = [f"/{folder.parent.name} --crop" in command for command in commands(path)]
        assert any(cut) or "_sub_" not in folder.name, folder


def test_all_recipes_on_public_sets_say_how_to_make_their_folders() -> None:
    for path in RECIPES:
        assert bool(commands(path)) == ("datasets/" in path.read_text()), path


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_recipes_say_what_was_published(name: str) -> None:
    config = read_run(ROOT / "recipes" / f"{name}.yaml", with_files=False)
    crops = config.data.batch * config.accumulate
    weight = next((loss.weight for loss in config.losses if loss.name == "fft"), 0)
    found = (crops, config.data.patch, config.steps, config.optimiser.lr)
    assert (*found, len(config.optimiser.milestones), weight, config.ema) == PUBLISHED[name]
