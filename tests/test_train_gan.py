"""Training against a discriminator: both learn, runs resume exactly, and what is not finite stays out."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor
from training_runs import MODEL, config, content, picture, save_pictures

from polyres.data.crops import CropSampler
from polyres.data.sources import open_sources
from polyres.errors import CheckpointError, ConfigError
from polyres.losses import LOSSES
from polyres.model import build
from polyres.scale import Scale
from polyres.training import RunConfig, read_run, run
from polyres.training.adversary import Adversary
from polyres.training.batches import open_batches
from polyres.training.check import check_run
from polyres.training.checkpoint import load_checkpoint
from polyres.training.config import GanConfig
from polyres.training.guard import Fault
from polyres.training.loop import begin, train
from polyres.training.objective import make_losses, outputs, weighted_sum
from polyres.training.processes import Processes
from polyres.training.start import initial_model
from polyres.training.state import TrainingState
from polyres.weights import load_card

#: A discriminator of 6,000 weights.
TINY = {"discriminator": {"name": "unet", "options": {"channels": 4}}}
PLUS = {"width": 8, "hidden_layers": 1, "sample_width": 4, "sample_layers": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_pictures(tmp_path)
    return tmp_path


def sharp_and_soft() -> tuple[Tensor, Tensor]:
    """Pictures with grain everywhere, and without."""
    sharp = torch.stack([torch.from_numpy(picture(16, 16, seed)) for seed in range(2)])
    sharp = sharp.permute(0, 3, 1, 2).float() / 255
    sharp = sharp + 0.5 * torch.randn(sharp.shape, generator=torch.Generator().manual_seed(0))
    return sharp, F.avg_pool2d(F.pad(sharp, (2, 2, 2, 2), mode="replicate"), 5, 1)


@pytest.mark.parametrize(("kind", "chance"), [("vanilla", 2 * math.log(2)), ("lsgan", 0.5), ("hinge", 2.0)])
def test_a_discriminator_learns_and_its_gradient_leads_to_what_it_holds_for_real(
    kind: str, chance: float
) -> None:
    settings = GanConfig.model_validate(
        {
            "discriminator": {"name": "unet", "options": {"channels": 8}},
            "kind": kind,
            "weight": 0.5,
            "optimiser": {"lr": 3e-3, "warmup": 0, "schedule": "constant"},
        }
    )
    adversary, (sharp, soft) = Adversary(settings), sharp_and_soft()
    for step in range(90):
        adversary.optimiser.zero_grad()
        loss = adversary.learn(soft, sharp, 1.0)
        adversary.step(step, 1000)
    assert loss < 0.6 * chance  # of answering the same to everything
    output = soft.clone().requires_grad_()
    term = adversary.judge(output)
    term.backward()
    with torch.no_grad():
        assert adversary.network(sharp).mean() > adversary.network(soft).mean() + 0.3
        moved = soft - 0.02 * output.grad / output.grad.abs().mean()
        assert adversary.network(moved).mean() > adversary.network(soft).mean()
        assert adversary.judge(moved) < term


def test_judging_leaves_the_discriminator_alone() -> None:
    adversary, (_, soft) = Adversary(GanConfig.model_validate({**TINY, "weight": 2.0})), sharp_and_soft()
    output = soft.clone().requires_grad_()
    adversary.judge(output).backward()
    assert all(p.grad is None and p.requires_grad for p in adversary.network.parameters())
    assert bool((output.grad != 0).any())
    wanted = 2 * F.softplus(-adversary.network(soft)).mean()
    assert float(adversary.judge(soft).detach()) == pytest.approx(float(wanted.detach()))


def test_learning_leaves_the_model_alone() -> None:
    adversary, (sharp, soft) = Adversary(GanConfig.model_validate(TINY)), sharp_and_soft()
    output = soft.clone().requires_grad_()
    adversary.learn(output, sharp, 0.5)
    assert output.grad is None
    half = [p.grad.clone() for p in adversary.network.parameters()]
    adversary.learn(output, sharp, 0.5)
    for parameter, part in zip(adversary.network.parameters(), half, strict=True):
        assert torch.allclose(parameter.grad, 2 * part)


def test_until_it_begins_a_discriminator_changes_nothing(folder: Path) -> None:
    run(config(folder, output=folder / "plain", steps=3))
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    settings = config(folder, steps=5, gan={**TINY, "start": 3})

    def note(state: TrainingState, _: object) -> None:
        weights = (state.model.encoder.tail.weight, state.adversary.network.last.weight)
        seen[state.step] = tuple(w.detach().clone() for w in weights)

    batches = open_batches(open_sources(settings.data.train), settings, Processes())
    train(initial_model(settings), batches, settings, note)
    batches.close()
    assert torch.equal(seen[1][1], seen[3][1])
    assert not torch.equal(seen[3][1], seen[4][1])
    before = load_checkpoint(folder / "plain")["model"]["encoder.tail.weight"]
    assert torch.equal(seen[3][0], before)


def checkpoint(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the newest checkpoint by its place."""
    found: dict[str, Tensor] = {}

    def walk(value: object, place: str) -> None:
        if isinstance(value, Tensor):
            found[place] = value
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{place}.{key}")

    walk(load_checkpoint(folder), "")
    return found


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resuming_with_a_discriminator_is_exact(folder: Path, precision: str) -> None:
    common = {"steps": 6, "accumulate": 2, "save_every": 2, "keep": 9, "precision": precision}
    common["gan"] = {**TINY, "start": 1, "optimiser": {"lr": 1e-3, "warmup": 3, "clip": 0.5}}
    run(config(folder, output=folder / "whole", **common))
    killed = config(folder, output=folder / "killed", **common)
    run(killed)
    for later in ("step-00000004.ckpt", "step-00000006.ckpt"):  # as kill -9 in step 4 leaves the folder
        (folder / "killed" / later).unlink()
    run(killed, resume=True)
    whole, resumed = checkpoint(folder / "whole"), checkpoint(folder / "killed")
    assert any(place.startswith(".adversary.optimiser") for place in whole)
    assert whole.keys() == resumed.keys()
    for place, value in whole.items():
        assert torch.equal(value, resumed[place]), place
    rows = list(csv.DictReader((folder / "killed" / "steps.csv").open()))
    assert [row["discriminator"] != "" for row in rows] == [False] + [True] * 5
    assert float(rows[-1]["adversarial"]) > 0


def test_a_run_leaves_a_discriminator_that_another_begins_with(folder: Path) -> None:
    run(config(folder, steps=2, gan=TINY))
    left = folder / "out" / "discriminator.safetensors"
    assert "0.1 vanilla GAN (unet)" in load_card(folder / "out" / "model.safetensors").training
    begun = Adversary(GanConfig.model_validate({**TINY, "initial": left})).network.state_dict()
    for key, value in load_checkpoint(folder / "out")["adversary"]["network"].items():
        assert torch.equal(begun[key], value), key
    wider = {"discriminator": {"name": "unet", "options": {"channels": 8}}, "initial": left}
    with pytest.raises(CheckpointError, match="of another shape"):
        Adversary(GanConfig.model_validate(wider))


def poisoned(folder: Path, place: str, **changes: object) -> tuple[TrainingState, list[Fault]]:
    """Six steps, in the fourth of which something of the discriminator's is not finite."""
    settings = config(folder, steps=6, save_every=2, data={"workers": 0}, gan=TINY, **changes)
    state, faults = begin(build(settings.model), settings), []
    network, optimiser = state.adversary.network, state.adversary.optimiser
    if place == "gradient":
        network.last.weight.register_hook(lambda g: g * float("inf") if state.step == 3 else g)
    step = optimiser.step

    def spoil() -> None:
        step()
        if place == "weight" and state.step == 3:
            network.last.weight.data[0, 0, 0, 0] = float("nan")

    optimiser.step = spoil
    batches = CropSampler([picture()], [Scale.of(2)], patch=12, batch_size=2)
    train(state.model, batches, settings, None, state, on_fault=faults.append)
    return state, faults


@pytest.mark.parametrize("place", ["gradient", "weight"])
def test_what_is_not_finite_in_the_discriminator_is_named_and_kept_out(tmp_path: Path, place: str) -> None:
    state, faults = poisoned(tmp_path, place)
    what = "gradient of" if place == "gradient" else "weight"
    assert [(f.step, f.where) for f in faults] == [(4, f"the {what} last.weight of the discriminator")]
    for network in (*state.trained, state.average):
        assert all(bool(p.isfinite().all()) for p in network.parameters())


def test_a_trial_tries_the_discriminator_from_the_first_step(folder: Path) -> None:
    trial = check_run(config(folder, steps=100, gan={**TINY, "start": 50}))
    judge = Adversary(GanConfig.model_validate(TINY)).network
    assert trial.judges == sum(p.numel() for p in judge.parameters())
    assert f"discriminator of {trial.judges:,}" in str(trial)


def test_a_discriminator_may_come_and_go_on_resuming(folder: Path) -> None:
    run(config(folder, steps=2))
    changed = config(folder, steps=4, gan=TINY)
    with pytest.raises(CheckpointError, match=r"gan.*changed from null"):
        run(changed, resume=True)
    run(changed, resume=True, allow_changes=True)
    assert load_checkpoint(folder / "out")["adversary"]["optimiser"]["state"][0]["step"] == 2


def written(folder: Path, **changes: object) -> Path:
    (folder / "run.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(content(folder, **changes)))))
    return folder / "run.yaml"


@pytest.mark.parametrize(
    ("gan", "message"),
    [
        ({"discriminater": {"name": "unet"}}, r"'gan.discriminater' \(did you mean 'discriminator'\?\)"),
        ({"optimiser": {"warmupp": 2}}, r"'gan.optimiser.warmupp' \(did you mean 'warmup'\?\)"),
        ({"optimiser": {"name": "adma"}}, r"gan.optimiser: .*Did you mean 'adam'\?"),
        ({"discriminator": {"name": "unett"}}, r"gan.discriminator: .*Did you mean 'unet'\?"),
        (
            {"discriminator": {"name": "unet", "options": {"channel": 3}}},
            r"no option 'channel'.*Did you mean 'channels'",
        ),
        ({"kind": "wgan"}, r"gan.kind: "),
        ({"start": 4}, r"gan.start is 4, but the run has 4 steps"),
        ({"initial": "none.pth"}, r"gan.initial: there is nothing at none.pth"),
    ],
)
def test_what_is_wrong_with_a_gan_section_is_told(folder: Path, gan: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_run(written(folder, gan=gan))


def dual(folder: Path, upsampler: dict[str, object], **changes: object) -> RunConfig:
    losses = [
        {"name": "dual-stream", "weight": 2.0, "options": {"alpha": 0.3}},
        {"name": "mse", "weight": 0.5},
    ]
    return read_run(written(folder, model={**MODEL, "upsampler": upsampler}, losses=losses, **changes))


def test_the_dual_stream_loss_judges_the_sampled_picture_too(folder: Path) -> None:
    settings = dual(folder, {"name": "igconv+", "options": PLUS}, steps=2)
    model, terms = build(settings.model), make_losses(settings.losses)
    low, high = torch.rand(2, 3, 12, 12), torch.rand(2, 3, 24, 24)
    output, base = outputs(model, low, Scale.of(2), terms)
    value = weighted_sum(terms, output, high, base)
    l1 = LOSSES.make("l1")
    by_hand = 2 * (l1(output, high) + 0.3 * l1(base, high)) + 0.5 * F.mse_loss(output, high)
    assert value.item() == pytest.approx(by_hand.item())
    assert not torch.allclose(output, base)
    run(settings)


@pytest.mark.parametrize("upsampler", [MODEL["upsampler"], {"name": "spconv"}])
def test_the_dual_stream_loss_wants_a_base_that_learns(folder: Path, upsampler: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"losses.0: it judges the base that igconv\+"):
        dual(folder, upsampler)
