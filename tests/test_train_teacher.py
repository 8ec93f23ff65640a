"""Learning from a trained model beside the pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from training_runs import MODEL, config, content, save_pictures

from polyres.data.sources import open_sources
from polyres.errors import CheckpointError, ConfigError
from polyres.model import ModelConfig, SRModel, build
from polyres.training import read_run, run
from polyres.training.batches import open_batches
from polyres.training.config import RunConfig, TeacherConfig
from polyres.training.processes import Processes
from polyres.training.start import initial_model
from polyres.training.teacher import Teacher, fingerprint
from polyres.weights import load_card, save

WIDER = {**MODEL, "encoder": {"name": "edsr", "options": {"channels": 16, "blocks": 1}}}


def teacher_file(folder: Path, seed: int = 7, model: dict[str, object] = WIDER) -> Path:
    """A model of random weights."""
    torch.manual_seed(seed)
    path = folder / f"teacher-{seed}.safetensors"
    save(build(ModelConfig.model_validate(model)), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_pictures(tmp_path)
    return tmp_path


def distance(model: SRModel, teacher: Teacher, settings: RunConfig, step: int) -> float:
    """The mean absolute difference from the teacher's results on the crops of ``step``."""
    batches = open_batches(open_sources(settings.data.train), settings, Processes())
    batch = batches.batch(step, 0)
    batches.close()
    low = torch.from_numpy(batch.low).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        return float((model(low, batch.scale) - teacher.results(low, batch.scale)).abs().mean())


def test_the_teachers_term_is_its_weight_times_the_mean_absolute_difference(folder: Path) -> None:
    path = teacher_file(folder)
    settings = config(folder, steps=1, teacher={"model": str(path), "weight": 0.5})
    assert settings.teacher is not None
    teacher, before = Teacher(settings.teacher, settings.data.exact_scales), initial_model(settings)
    other = config(folder, steps=1, output=folder / "alone")
    run(settings)
    run(other)
    with (folder / "out" / "steps.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    with (folder / "alone" / "steps.csv").open() as stream:
        (alone,) = csv.DictReader(stream)
    expected = 0.5 * distance(before, teacher, settings, 0)
    assert expected > 0.01
    assert float(row["teacher"]) == pytest.approx(expected, rel=1e-3)
    assert float(row["loss"]) == pytest.approx(float(alone["loss"]) + expected, rel=1e-3)
    assert f"0.5 l1 to {path.name}" in load_card(folder / "out" / "model.safetensors").training


def test_a_model_comes_near_its_teacher(folder: Path) -> None:
    path = teacher_file(folder)
    settings = config(
        folder,
        steps=60,
        ema=0,
        losses=[{"name": "l1", "weight": 1e-3}],
        teacher={"model": str(path)},
        optimiser={"lr": 3e-3, "warmup": 2},
    )
    assert settings.teacher is not None
    teacher = Teacher(settings.teacher, settings.data.exact_scales)
    before = distance(initial_model(settings), teacher, settings, 99)
    after = distance(run(settings), teacher, settings, 99)
    assert after < 0.5 * before


def test_a_run_goes_on_exactly_with_its_teacher_and_not_with_another(folder: Path) -> None:
    path = teacher_file(folder)
    # So that the number of steps changes none of them.
    steady = {"lr": 1e-3, "warmup": 2, "schedule": "constant"}
    common = {"teacher": {"model": str(path)}, "data": {"workers": 0}, "optimiser": steady}
    whole = run(config(folder, output=folder / "whole", **common))
    run(config(folder, output=folder / "parts", steps=2, **common))
    resumed = run(config(folder, output=folder / "parts", **common), resume=True, allow_changes=True)
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in resumed.state_dict().items())
    path.write_bytes(teacher_file(folder, seed=8).read_bytes())
    fingerprint.cache_clear()  # as a new process begins
    with pytest.raises(CheckpointError, match=r"teacher\.file changed from"):
        run(config(folder, output=folder / "parts", **common), resume=True)


def written(folder: Path, **changes: object) -> Path:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(content(folder, **changes), default=str))))
    return path


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"model": "bas"}, r"teacher: no model is called 'bas'.*Did you mean 'base'"),
        ({"model": "none.safetensors"}, r"teacher: none.safetensors cannot be read: No such file"),
        ({"model": "base", "wieght": 2}, r"'teacher.wieght' \(did you mean 'weight'\?\)"),
        ({"model": "base", "weight": 0}, r"teacher.weight: "),
        ({}, r"teacher.model: "),
    ],
)
def test_what_is_wrong_with_a_teacher_is_told(folder: Path, teacher: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_run(written(folder, teacher=teacher))


def test_a_teacher_that_does_not_make_every_scale_is_refused(folder: Path) -> None:
    heads = {**MODEL, "upsampler": {"name": "spconv", "options": {"scales": [2]}}}
    path = teacher_file(folder, model=heads)
    with pytest.raises(ConfigError, match=r"teacher: .*does not make x3; leave these scales out"):
        read_run(written(folder, teacher={"model": str(path)}))
    assert read_run(written(folder, teacher={"model": str(path)}, data={"scales": [2]})).teacher == (
        TeacherConfig(model=str(path))
    )
