"""Sharded runs: each process holds a part of the encoder, and the run is the same as that of one process."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_runs import MODEL, config, content, save_pictures, two_processes

from polyres.data.crops import CropSampler
from polyres.data.sources import open_sources
from polyres.training import RunConfig, run
from polyres.training.batches import open_batches
from polyres.training.checkpoint import load_checkpoint
from polyres.training.guard import Fault
from polyres.training.loop import accumulate_gradients, begin, draw, train
from polyres.training.objective import make_losses
from polyres.training.processes import Processes, SeveralProcesses, Shared, join_processes
from polyres.training.sharding import is_divided, local, shard, whole
from polyres.training.start import initial_model

pytest.importorskip("accelerate", reason="needs the extra distributed")

#: A step that follows the gradient, so that what comes out is as close as the gradients are.
SGD = {
    "name": "SGD",
    "lr": 0.5,
    "warmup": 0,
    "schedule": "constant",
    "clip": 0.05,
    "options": {"momentum": 0.9},
}


def settings(folder: Path, name: str, **changes: object) -> RunConfig:
    # A head for each scale, of which the two processes may use different ones.
    model = {**MODEL, "upsampler": {"name": "spconv", "options": {"scales": [2, 3]}}}
    common = {"model": model, "save_every": 2, "keep": 9, "accumulate": 2, "optimiser": SGD}
    return config(folder, output=folder / name, **{**common, **changes})


def first_gradients(settings: RunConfig, processes: Processes) -> dict[str, Tensor]:
    state = begin(initial_model(settings), settings)
    if processes.world > 1:
        shard(state.model, state.optimiser)
    batches = open_batches(open_sources(settings.data.train), settings, processes)
    drawn, _ = draw(batches, 0, processes.share(settings.accumulate))
    accumulate_gradients(state, drawn, make_losses(settings.losses), settings, processes)
    processes.sum_gradients(list(state.model.parameters()))
    batches.close()
    return {name: whole(p.grad) for name, p in state.model.named_parameters() if p.grad is not None}


def poisoned(settings: RunConfig, processes: Processes) -> list[object]:
    """A weight of the second process's part becomes infinite in the third step: what each process makes of it."""
    state, faults = begin(initial_model(settings), settings), list[Fault]()
    shard(state.model, state.optimiser)
    parts = [local(p).numel() for p in state.model.encoder.parameters()]
    step = state.optimiser.step

    def spoil() -> None:
        step()
        if state.step == 2 and processes.rank == 1:
            local(state.model.encoder.tail.weight.data)[0, 0, 0, 0] = float("inf")

    state.optimiser.step = spoil
    sampler = CropSampler(open_sources(settings.data.train), settings.data.exact_scales, 12, 2)
    train(state.model, Shared(sampler, processes), settings, None, state, processes, on_fault=faults.append)
    sound = all(bool(whole(p.detach()).isfinite().all()) for p in state.model.parameters())
    return [
        sum(parts),
        [fault.step for fault in faults],
        [fault.where for fault in faults],
        sound,
        state.step,
    ]


def stop_after_one(step: int) -> None:
    if step == 1:
        os.kill(os.getpid(), signal.SIGTERM)


def worker(folder: Path) -> None:
    """What each of the two processes does."""
    group = join_processes("cpu")
    SeveralProcesses.close = lambda self: None  # the group goes through several runs
    torch.save(first_gradients(settings(folder, "none"), group), folder / f"gradients-{group.rank}.pt")
    run(settings(folder, "sharded", sharding="fsdp2"))
    run(settings(folder, "then-sharded", sharding="fsdp2"), resume=True)
    adam = {"name": "adamw", "lr": 1e-3, "warmup": 0, "clip": 1.0}
    run(settings(folder, "adam", sharding="fsdp2", optimiser=adam, steps=3))
    with pytest.raises(KeyboardInterrupt):
        run(settings(folder, "stopped", sharding="fsdp2"), watch=lambda r, _: stop_after_one(r.step))
    group.wait()  # a person resumes when both are gone: here the first may still be writing what the second looks for
    run(settings(folder, "stopped", sharding="fsdp2"), resume=True)
    told = poisoned(settings(folder, "none"), group)
    (folder / f"told-{group.rank}.json").write_text(json.dumps(told))
    group.wait()


def tensors(value: object, place: str = "") -> dict[str, Tensor]:
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in tensors(inner, f"{place}.{key}").items()}
    return {place: value} if isinstance(value, Tensor) else {}


def furthest(one: Path, other: Path) -> float:
    """The largest difference between any two numbers of the newest checkpoints."""
    ours, theirs = tensors(load_checkpoint(one)), tensors(load_checkpoint(other))
    assert ours.keys() == theirs.keys()
    return max(float((ours[key].float() - theirs[key].float()).abs().max()) for key in ours)


def norms(folder: Path) -> list[float]:
    """Of the gradient in each step, as logged."""
    with (folder / "steps.csv").open() as table:
        return [float(row["gradient"]) for row in csv.DictReader(table)]


def cut(folder: Path, name: str, copy: str) -> None:
    """A run's folder as it was after two of its four steps."""
    shutil.copytree(folder / name, folder / copy)
    (folder / copy / "step-00000004.ckpt").unlink()


def test_two_processes_with_a_part_each_are_one_run(tmp_path: Path) -> None:
    save_pictures(tmp_path)
    run(settings(tmp_path, "alone"))
    cut(tmp_path, "alone", "then-sharded")
    assert two_processes(__file__, tmp_path) == [0, 0]

    alone = first_gradients(settings(tmp_path, "none"), Processes())
    for rank in range(2):
        together = torch.load(tmp_path / f"gradients-{rank}.pt", weights_only=True)
        assert together.keys() == alone.keys()
        assert all((together[name] - grad).abs().max() <= 1e-6 for name, grad in alone.items())

    assert norms(tmp_path / "sharded") == pytest.approx(norms(tmp_path / "alone"), rel=1e-4)
    assert min(norms(tmp_path / "alone")) > SGD["clip"]  # so that clipping was at work
    assert furthest(tmp_path / "sharded", tmp_path / "alone") <= 1e-6
    assert furthest(tmp_path / "then-sharded", tmp_path / "alone") <= 1e-6
    assert (tmp_path / "stopped" / "step-00000001.ckpt").exists()
    assert furthest(tmp_path / "stopped", tmp_path / "sharded") == 0
    cut(tmp_path, "sharded", "then-alone")
    run(settings(tmp_path, "then-alone"), resume=True)
    assert furthest(tmp_path / "then-alone", tmp_path / "alone") <= 1e-6
    adam = settings(
        tmp_path, "adam-alone", steps=3, optimiser={"name": "adamw", "lr": 1e-3, "warmup": 0, "clip": 1.0}
    )
    run(adam)
    assert (
        furthest(tmp_path / "adam", tmp_path / "adam-alone") <= 1e-4
    )  # Adam magnifies what is next to nothing

    first, second = (json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in range(2))
    encoder = initial_model(settings(tmp_path, "none")).encoder
    assert first[0] + second[0] == sum(p.numel() for p in encoder.parameters())
    assert first[0] < 0.6 * (first[0] + second[0])
    assert first[1:] == [[3], ["a weight in another process"], True, 4]
    assert second[1:] == [[3], ["the weight encoder.tail.weight"], True, 4]


def test_one_process_shards_nothing(tmp_path: Path) -> None:
    save_pictures(tmp_path)
    model = run(settings(tmp_path, "one", sharding="fsdp2", steps=1))
    assert not any(is_divided(p) for p in model.parameters())


@pytest.mark.parametrize("changes", [{"optimiser": {"name": "muon"}}, {"compile": True}])
def test_what_does_not_go_with_sharding_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="sharding does not go with"):
        RunConfig.model_validate(content(tmp_path, sharding="fsdp2", **changes))


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
