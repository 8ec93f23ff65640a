"""Run files: what is wrong is told at once, the schema is current, other repositories' options are read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from PIL import Image
from training_runs import config, content, save_pictures
from typer.testing import CliRunner

from polyres.cli import app
from polyres.errors import ConfigError, DataError
from polyres.scale import Scale
from polyres.training.check import check_run, two_pictures
from polyres.training.config import RunConfig
from polyres.training.importing import imported
from polyres.training.reading import read_run
from polyres.training.scale_sets import ScaleRange
from polyres.training.schedule import learning_rate
from polyres.training.schema import SCHEMA, schema_text
from polyres.training.start import initial_model


def written(folder: Path, run: object) -> Path:
    (folder / "run.yaml").write_text(run if isinstance(run, str) else yaml.safe_dump(run))
    return folder / "run.yaml"


def test_everything_wrong_is_told_together(tmp_path: Path) -> None:
    save_pictures(tmp_path)
    run = content(tmp_path, data={"train": [str(tmp_path / "picture")], "pach": 1})
    run["model"] = {"encoder": {"name": "edsrr"}, "upsampler": {"name": "igconv"}}
    run["optimiser"] = {"name": "Adamm"}
    run["losses"] = [{"name": "l1"}, {"name": "fft", "options": {"normm": "ortho"}}]
    run["initial"] = {"encodr": "x", "upsampler": str(tmp_path / "none.safetensors")}
    run["guard"] = {"action": "hope"}
    with pytest.raises(ConfigError) as error:
        read_run(written(tmp_path, run))
    for part in (
        "'data.pach' (did you mean 'patch'?)",
        "model: no encoder is called 'edsrr'",
        "optimiser.name is adam",
        "losses.1: 'fft' has no option 'normm'",
        "(did you mean 'encoder'?)",
        "guard.action: ",
        f"data.train: there is nothing at {tmp_path}/picture (did you mean {tmp_path}/pictures?)",
        f"initial.upsampler: there is nothing at {tmp_path}/none.safetensors",
    ):
        assert part in str(error.value)


def test_on_is_a_key_and_no_is_false(tmp_path: Path) -> None:
    save_pictures(tmp_path)
    text = yaml.safe_dump(content(tmp_path)) + "compile: no\n"
    read = read_run(written(tmp_path, text.replace("data:", "data:\n  low: {kernel: pil, on: crop}")))
    assert read.data.low.on == "crop"
    assert read.compile is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "multistep"}, "needs milestones"),
        ({"milestones": [3]}, "without schedule: multistep"),
        ({"schedule": "wsd"}, "wsd needs decay"),
        ({"decay": 3}, "decay needs schedule wsd"),
        ({"schedule": "wsd", "decay": 10**6}, "decay is 1000000, but the run has"),
        ({"schedule": "multistep", "milestones": [3, 2]}, "ascending"),
        ({"schedule": "restarts", "periods": [3], "restarts": [1, 1]}, "one value for each"),
    ],
)
def test_schedules_that_cannot_be_are_refused(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    save_pictures(tmp_path)
    with pytest.raises(ConfigError, match=message):
        read_run(written(tmp_path, content(tmp_path, optimiser=options)))


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({"schedule": "constant"}, {0: 0.5, 1: 1, 99: 1}),
        ({"schedule": "multistep", "milestones": [4, 8]}, {0: 0.5, 3: 1, 4: 0.5, 7: 0.5, 8: 0.25, 99: 0.25}),
        (
            {"schedule": "restarts", "periods": [10, 20], "restarts": [1, 0.5], "final_lr": 0},
            {5: 0.5, 10: 0.5, 20: 0.25, 30: 0},
        ),
        ({"schedule": "cosine", "final_lr": 0.1}, {2: 1, 51: 0.55, 100: 0.1}),
        (
            {"schedule": "wsd", "decay": 64, "final_lr": 0.2},
            {0: 0.5, 2: 1, 36: 1, 37: 0.9, 40: 0.8, 52: 0.6, 100: 0.2},
        ),
    ],
)
def test_schedules_by_their_values(
    tmp_path: Path, options: dict[str, object], rates: dict[int, float]
) -> None:
    optimiser = config(tmp_path, steps=100, optimiser={"lr": 1, "warmup": 2, **options}).optimiser
    for step, rate in rates.items():
        assert learning_rate(step, 100, optimiser) == pytest.approx(rate), step


def test_the_schema_in_the_package_is_current() -> None:
    # python -c "from polyres.training.schema import *; SCHEMA.write_text(schema_text())"
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()
    printed = CliRunner().invoke(app, ["config", "schema"])
    assert json.loads(printed.output) == json.loads(schema_text())


def test_the_schema_knows_every_form_of_scales() -> None:
    parts = json.loads(schema_text())["$defs"]
    listed, frequencies, reference = parts["DataConfig"]["properties"]["scales"]["anyOf"]
    assert listed["type"] == "array"
    assert (
        frequencies["propertyNames"]["pattern"] == "^[0-9]"
    )  # range is no scale, and a misspelt key neither
    assert reference == {"$ref": "#/$defs/ScaleRange"}
    form = parts["ScaleRange"]
    assert form["properties"].keys() == ScaleRange.model_fields.keys()
    assert (form["required"], form["additionalProperties"]) == (["range"], False)
    assert [end["anyOf"][0]["type"] for end in form["properties"]["range"]["prefixItems"]] == ["number"] * 2


def test_the_run_file_of_the_documentation_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "training.md").read_text()
    shown = page.split("```yaml\n")[1].split("```")[0]
    run = read_run(written(tmp_path, shown), with_files=False)
    assert run.data.exact_scales[0] == Scale.of("3/2")
    assert run.data.scales["2"] == 3


def test_every_field_is_described() -> None:
    parts = json.loads(schema_text())
    for name, part in {"run": parts, **parts["$defs"]}.items():
        missing = [key for key, field in part["properties"].items() if "description" not in field]
        assert missing in ([], ["encoder", "upsampler"]), name


def test_a_trial_tells_what_a_step_takes_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = save_pictures(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    settings = config(tmp_path, steps=100, data={"validation": [str(pictures)]})
    trial = check_run(settings)
    assert trial.parameters == sum(p.numel() for p in initial_model(settings).parameters())
    assert trial.seconds > 0
    assert trial.memory > 10**7
    assert trial.checkpoint > 1000
    assert math.isfinite(trial.loss)
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "temporary").glob("polyres-*")) == []  # torch keeps a cache of its own there


def test_a_trial_reads_two_pictures_of_many(tmp_path: Path) -> None:
    pictures = save_pictures(tmp_path, count=2)
    for number in range(3):
        (pictures / f"later-{number}.png").write_bytes(b"no picture")  # whoever opens it fails
    data = {"train": [str(pictures)], "validation": [str(pictures)], "validation_pictures": 2}
    trial = check_run(config(tmp_path, data=data))
    assert math.isfinite(trial.loss)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no pictures in .*empty"):
        check_run(config(tmp_path, data={"train": [str(pictures), str(tmp_path / "empty")]}))


def test_a_trial_leaves_out_small_pictures_where_the_run_does(tmp_path: Path) -> None:
    pictures = save_pictures(tmp_path, count=2)
    Image.new("RGB", (30, 200)).save(pictures / "-small.png")  # the first by name
    data = config(tmp_path, data={"skip_small": True}).data
    assert [Path(name).name for name in two_pictures(data).names] == ["0.png", "1.png"]
    every = config(tmp_path, data={"skip_small": False}).data
    assert [Path(name).name for name in two_pictures(every).names] == ["-small.png", "0.png"]
    with pytest.raises(DataError, match="the 291 pixels a side"):
        two_pictures(config(tmp_path, data={"skip_small": True, "patch": 96}).data)


OPTIONS = """
name: HAT_small
num_gpu: 4
manual_seed: 3
scale: 4
datasets:
  train: {type: X, dataroot_gt: sub, random_scales: [2, 3], lq_size: 32, use_hflip: false, batch_size_per_gpu: 2}
  val: {dataroot_gt: Set5}
network_g: {type: EDSRIG, num_feat: 16, num_block: 2, img_range: 1.0}
path: {pretrain_network_g: ~}
train:
  ema_decay: 0.99
  optim_g: {type: AdamW, lr: !!float 2e-4, weight_decay: 0, betas: [0.9, 0.9]}
  scheduler: {type: MultiStepLR, milestones: [10, 20], gamma: 0.5}
  total_iter: 30
  warmup_iter: -1
  pixel_opt: {type: CharbonnierLoss, loss_weight: 1.0, reduction: mean, eps: !!float 1e-6}
  fft_opt: {type: FFTLoss, loss_weight: 0.05}
  gan_opt: {type: GANLoss}
  secret: 5
val: {val_freq: !!float 5e3}
"""


def test_options_of_other_repositories_become_run_files(tmp_path: Path) -> None:
    (tmp_path / "options.yml").write_text(OPTIONS)
    done = CliRunner().invoke(
        app, ["config", "import", str(tmp_path / "options.yml"), "-o", str(tmp_path / "r.yaml")]
    )
    assert done.exit_code == 0, done.output
    text, run = (tmp_path / "r.yaml").read_text(), read_run(tmp_path / "r.yaml", with_files=False)
    for note in ("use_hflip: false is not carried over", "train.gan_opt is left out", "train.secret: 5"):
        assert note in text
    assert run.model.encoder.options["channels"] == 16
    assert (run.data.patch, run.data.batch, run.accumulate, run.seed, run.steps) == (32, 2, 4, 3, 30)
    assert list(run.data.scales) == ["2", "3"]
    assert run.data.low.kernel == "pil"
    assert (run.optimiser.name, run.optimiser.lr, run.optimiser.betas) == ("adamw", 2e-4, (0.9, 0.9))
    assert (run.optimiser.milestones, run.optimiser.factor, run.optimiser.warmup) == ([10, 20], 0.5, 0)
    assert [(t.name, t.weight) for t in run.losses] == [("charbonnier", 1.0), ("fft", 0.05)]
    assert run.losses[0].options["epsilon"] == pytest.approx(1e-3)
    assert run.losses[1].options == {"norm": "backward"}
    with pytest.raises(ConfigError, match="network_g"):
        imported({"name": "x"})


def test_discriminators_of_other_repositories_are_carried_over() -> None:
    options = yaml.safe_load(OPTIONS)
    options["network_d"] = {
        "type": "UNetDiscriminatorSN",
        "num_in_ch": 3,
        "num_feat": 8,
        "skip_connection": False,
    }
    options["path"]["pretrain_network_d"] = "netD.pth"
    options["train"]["gan_opt"] = {
        "type": "GANLoss",
        "gan_type": "hinge",
        "loss_weight": 0.2,
        "real_label_val": 1.0,
    }
    options["train"]["optim_d"] = {"type": "AdamW", "lr": 2e-5, "betas": [0.5, 0.9]}
    options["train"]["net_d_init_iters"] = 100
    options["train"]["perceptual_opt"] = {"type": "PerceptualLoss"}
    run, notes = imported(options)
    gan = RunConfig.model_validate(run).gan
    assert (gan.discriminator.name, gan.kind, gan.weight) == ("unet", "hinge", 0.2)
    assert gan.discriminator.options == {"channels": 8, "skip": False}
    assert (gan.optimiser.name, gan.optimiser.lr, gan.optimiser.betas) == ("adamw", 2e-5, (0.5, 0.9))
    assert (gan.optimiser.schedule, gan.optimiser.warmup) == ("constant", 0)
    assert gan.initial == Path("netD.pth")
    told = "\n".join(notes)
    for part in ("perceptual_opt is left out", "constant learning rate", "net_d_init_iters: 100"):
        assert part in told
    assert "network_d" not in told
    options["train"]["gan_opt"]["gan_type"] = "wgan"
    run, notes = imported(options)
    assert "gan" not in run
    assert any("gan_type wgan is none of ours" in note for note in notes)
