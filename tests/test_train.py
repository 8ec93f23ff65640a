"""Training: crops are exact, resuming is exact, and a little of it beats bicubic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polyres.data.crops import Batch, CropSampler
from polyres.data.prefetch import Prefetched
from polyres.data.resize import resize
from polyres.errors import CheckpointError, ConfigError, DataError, OutputError, TrainingError
from polyres.metrics import PROTOCOLS
from polyres.model import build
from polyres.scale import Scale
from polyres.training.checkpoint import load_checkpoint, save_checkpoint
from polyres.training.config import RunConfig
from polyres.training.loop import train
from polyres.training.reading import read_run
from polyres.training.run import run
from polyres.training.schedule import learning_rate
from polyres.weights import load


def picture(height: int = 96, width: int = 120, seed: int = 0) -> np.ndarray:
    """Smooth shapes with edges: enough structure to learn from."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * a + y * b + c) > 0 for a, b, c in random.uniform(-0.5, 0.5, (3, 3))]
    return (np.stack(waves, axis=-1) * 200 + random.integers(0, 20, (1, 1, 3)) + 20).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for seed in range(3):
        Image.fromarray(picture(seed=seed)).save(tmp_path / "pictures" / f"{seed}.png")
    return tmp_path


def config(folder: Path, **changes: object) -> RunConfig:
    content = {
        "model": {
            "encoder": {"name": "edsr", "options": {"channels": 8, "blocks": 1, "residual_scale": 1.0}},
            "upsampler": {
                "name": "igconv",
                "options": {"width": 8, "hidden_layers": 1, "base": "bilinear", "spread": 0.5},
            },
        },
        "data": {
            "train": [str(folder / "pictures")],
            "validation": [str(folder / "pictures")],
            "validation_pictures": 1,
            "patch": 12,
            "batch": 2,
            "scales": {"2": 2, "3": 1, "3/2": 1},
        },
        "output": str(folder / "out"),
        "steps": 6,
        "accumulate": 2,
        "optimiser": {"lr": 1e-3, "warmup": 2},
        "save_every": 2,
        "log_every": 1,
        "validate_every": 3,
    }
    return RunConfig.model_validate({**content, **changes})


@pytest.mark.parametrize("scale", ["2", "3", "3/2", "4/3"])
def test_crops_equal_crops_of_the_whole_pictures_lr(scale: str) -> None:
    exact, whole = Scale.of(scale), picture()
    rows, columns = (size // p * p for size, p in zip(whole.shape[:2], exact.phases, strict=True))
    p, q = exact.y.numerator, exact.y.denominator
    low = resize(whole[:rows, :columns], size=(rows // p * q, columns // p * q))
    sampler = CropSampler([whole[:rows, :columns]], [exact], patch=12, batch_size=8, seed=3)
    batch = sampler.batch(0, 0)
    windows = np.lib.stride_tricks.sliding_window_view(low, (12, 12, 3)).reshape(-1, 12, 12, 3)
    for made in batch.low:
        turned = [np.rot90(made, k) for k in range(4)]
        turned += [t.transpose(1, 0, 2) for t in turned]
        assert any((windows == t).all(axis=(1, 2, 3)).any() for t in turned)
    assert batch.high.shape == (8, *exact.output_size(12, 12), 3)


def test_low_and_high_crops_lie_on_each_other() -> None:
    sampler = CropSampler([picture()], [Scale.of(2)], patch=16, batch_size=6, seed=1)
    batch = sampler.batch(5, 0)
    for low, high in zip(batch.low, batch.high, strict=True):
        again = resize(high, size=(16, 16)).astype(int)
        # A quarter turn swaps the order in which MATLAB rounds the axes: a level at most.
        assert np.abs(again - low)[3:-3, 3:-3].max() <= 1


def test_batches_are_a_function_of_seed_and_step() -> None:
    def batch(seed: int, step: int) -> Batch:
        scales = [Scale.of(2), Scale.of(3)]
        return CropSampler([picture(), picture(seed=1)], scales, 12, 2, seed).batch(step, 0)

    assert np.array_equal(batch(0, 4).high, batch(0, 4).high)
    assert not np.array_equal(batch(0, 4).low, batch(0, 5).low)
    assert not np.array_equal(batch(0, 4).low, batch(1, 4).low)


def test_prefetched_batches_come_in_order() -> None:
    sampler = CropSampler([picture()], [Scale.of(2), Scale.of(3)], 12, 2)
    ahead = Prefetched(sampler, micros=2)
    for step, micro in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]:
        assert np.array_equal(ahead.batch(step, micro).high, sampler.batch(step, micro).high)
    ahead.close()


def test_scales_are_drawn_as_often_as_asked() -> None:
    sampler = CropSampler([picture()], [Scale.of(2), Scale.of(3)], 8, 1, weights=[3, 1])
    drawn = [str(sampler.batch(step, 0).scale) for step in range(400)]
    assert 0.68 < drawn.count("2") / 400 < 0.82


def test_pictures_smaller_than_the_crop_are_refused() -> None:
    with pytest.raises(DataError, match="none of them large enough for crops of 192x192"):
        CropSampler([picture()], [Scale.of(4)], 48, 1)


def test_of_several_places_the_one_with_the_strongest_detail_is_taken() -> None:
    """Bands of growing contrast: the more places are drawn, the more crops lie in the strong ones."""
    bands = np.random.default_rng(0).integers(-100, 101, (96, 96, 1)) * np.linspace(0, 1, 96)[:, None, None]
    pixels = np.repeat((128 + bands).astype(np.uint8), 3, axis=2)

    def contrast(choose_from: int) -> float:
        sampler = CropSampler([pixels], [Scale.of(2)], 8, 4, seed=5, choose_from=choose_from)
        again = CropSampler([pixels], [Scale.of(2)], 8, 4, seed=5, choose_from=choose_from)
        batches = [sampler.batch(step, 0) for step in range(20)]
        assert all(
            np.array_equal(batch.high, again.batch(step, 0).high) for step, batch in enumerate(batches)
        )
        assert {batch.low.shape for batch in batches} == {(4, 8, 8, 3)}
        return float(np.mean([batch.high.std((1, 2, 3)).mean() for batch in batches]))

    assert contrast(1) * 1.2 < contrast(3) < contrast(9)


def test_resuming_equals_never_having_stopped(folder: Path) -> None:
    losses: dict[str, list[float]] = {"whole": [], "parts": []}
    whole = run(config(folder, output=folder / "whole"), watch=lambda r, _: losses["whole"].append(r.loss))

    def stop_at(step: int) -> object:
        def watch(report: object, _: object) -> None:
            losses["parts"].append(report.loss)
            if report.step == step:
                raise KeyboardInterrupt

        return watch

    parts = config(folder, output=folder / "parts")
    with pytest.raises(KeyboardInterrupt):
        run(parts, watch=stop_at(3))
    with pytest.raises(OutputError, match="--resume"):
        run(parts)
    with pytest.raises(CheckpointError, match="steps changed"):
        run(config(folder, output=folder / "parts", steps=7), resume=True)
    resumed = run(parts, resume=True, watch=stop_at(99))
    assert losses["parts"] == losses["whole"]
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key
    steps = [json.loads(line)["step"] for line in (folder / "parts" / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert (folder / "parts" / "steps.csv").read_text().count("\n") == 7


def test_a_run_leaves_a_model_that_describes_itself(folder: Path) -> None:
    trained = run(config(folder))
    loaded = load(folder / "out" / "model.safetensors")
    image = torch.rand(1, 3, 6, 6)
    with torch.no_grad():
        assert torch.allclose(loaded(image, 2), trained(image, 2), atol=1e-6)
    assert loaded.config == config(folder).model


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"step": 1, "x": torch.zeros(2)})
    save_checkpoint(tmp_path, {"step": 2, "x": torch.ones(2)})
    newest = tmp_path / "step-00000002.ckpt"
    newest.write_bytes(newest.read_bytes()[:100])
    assert load_checkpoint(tmp_path)["step"] == 1
    save_checkpoint(tmp_path, {"step": 3})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002.ckpt", "step-00000003.ckpt"]


class OneCrop:
    """Always the same crop: what overfitting needs."""

    def __init__(self) -> None:
        high = picture(48, 48)
        self._pairs = {
            s: Batch(resize(high, scale=1 / s.y)[None], high[None], s) for s in map(Scale.of, (2, 3))
        }

    def batch(self, step: int, micro: int) -> Batch:
        return list(self._pairs.values())[step % 2]


def test_a_little_training_beats_bicubic(folder: Path) -> None:
    torch.manual_seed(0)
    settings = config(folder, steps=300, accumulate=1, optimiser={"lr": 5e-3, "warmup": 10}, ema=0.9)
    batches = OneCrop()
    encoder = settings.model.encoder.model_copy(update={"options": {"channels": 16, "blocks": 2}})
    model = build(settings.model.model_copy(update={"encoder": encoder}))
    model = train(model, batches, settings)
    for step in (0, 1):
        batch = batches.batch(step, 0)
        low = torch.from_numpy(batch.low).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            made = model(low, batch.scale)[0].permute(1, 2, 0).numpy()
        bicubic = resize(batch.low[0], size=(48, 48)) / 255
        score = [PROTOCOLS["paper-y"].score(p, batch.high[0], batch.scale).psnr for p in (made, bicubic)]
        assert score[0] > score[1] + 0.5


def test_a_loss_that_is_not_finite_stops_the_run(folder: Path) -> None:
    settings = config(folder, steps=50, optimiser={"lr": 1e30, "warmup": 0})
    model = build(settings.model)
    with pytest.raises(TrainingError, match="lower optimiser"):
        train(model, OneCrop(), settings)


def test_learning_rate_rises_then_falls_to_its_end() -> None:
    settings = RunConfig.model_validate(
        {
            **json.loads(config(Path("/")).model_dump_json()),
            "optimiser": {"lr": 1, "warmup": 10, "final_lr": 0.1},
        }
    ).optimiser
    rates = [learning_rate(step, 110, settings) for step in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)


def test_wrong_run_files_are_told_all_at_once(folder: Path) -> None:
    path = folder / "run.yaml"
    content = json.loads(config(folder).model_dump_json())
    content["stepz"] = content.pop("steps")
    content["data"]["pach"] = 3
    content["optimiser"]["lr"] = -1
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError) as error:
        read_run(path)
    for part in ("'stepz' (did you mean 'steps'?)", "'data.pach' (did you mean 'patch'?)", "optimiser.lr: "):
        assert part in str(error.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "\x00"])
def test_files_that_are_no_run_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError):
        read_run(tmp_path / "run.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        read_run(tmp_path / "missing.yaml")


def test_a_patch_off_the_grid_is_refused(folder: Path) -> None:
    content = json.loads(config(folder).model_dump_json())
    content["data"]["scales"] = ["5/4", 2]
    content["data"]["patch"] = 18
    (folder / "run.yaml").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="multiple of 4"):
        read_run(folder / "run.yaml")


def test_denormal_numbers_slow_no_step_down(folder: Path) -> None:
    def product() -> float:
        return float(torch.tensor(1e-40) * torch.tensor(1.0))

    seen: list[float] = []
    assert product() > 0
    run(config(folder, steps=2), watch=lambda *_: seen.append(product()))
    assert seen == [0, 0]
    assert product() > 0
