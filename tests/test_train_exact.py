"""Runs that are stopped in any way go on exactly, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_runs import config, save_pictures

from polyres.errors import CheckpointError, OutputError
from polyres.model import SRModel
from polyres.training import RunConfig, run
from polyres.training.checkpoint import load_checkpoint, save_checkpoint
from polyres.training.loop import begin
from polyres.training.resume import changes, identity, restore
from polyres.training.start import initial_model
from polyres.weights import load, load_card

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_pictures(tmp_path)
    return tmp_path


def same(one: SRModel, other: SRModel) -> bool:
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def interrupted(settings: RunConfig, step: int, number: int) -> list[int]:
    """Train until ``step``, when the signal ``number`` comes; the steps that were made."""
    steps = []

    def watch(report: object, _: object) -> None:
        steps.append(report.step)
        if report.step == step:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        run(settings, watch=watch)
    return steps


def test_a_signal_waits_for_the_step_and_the_run_goes_on_exactly(folder: Path) -> None:
    # Drop path draws random numbers in the network; crops come from threads first, without them then.
    hat = {
        "name": "swinir",
        "options": {"channels": 8, "blocks": [1], "heads": [2], "window": 4, "drop_path": 0.5},
    }
    upsampler = {"name": "igconv", "options": {"width": 8, "hidden_layers": 1}}
    common = {"model": {"encoder": hat, "upsampler": upsampler}, "accumulate": 2, "precision": "bfloat16"}
    whole = run(config(folder, output=folder / "whole", **common))
    before = signal.getsignal(signal.SIGTERM)
    assert interrupted(config(folder, output=folder / "parts", **common), 2, signal.SIGTERM) == [1, 2]
    assert signal.getsignal(signal.SIGTERM) is before
    assert load_checkpoint(folder / "parts")["step"] == 2
    resumed = run(config(folder, output=folder / "parts", data={"workers": 0}, **common), resume=True)
    assert same(whole, resumed)


def test_the_command_keeps_its_folder_to_itself_and_exits_with_130_when_interrupted(folder: Path) -> None:
    settings = config(folder, steps=100_000)
    (folder / "run.json").write_text(settings.model_dump_json())
    command = [sys.executable, "-m", "polyres", "train", str(folder / "run.json")]
    child = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    try:
        while not (log := folder / "out" / "steps.csv").exists() or log.read_text().count("\n") < 3:
            assert child.poll() is None, child.stderr.read()
        with pytest.raises(OutputError, match=r"another process is training into .*out"):
            run(config(folder, steps=1), resume=True)
        child.send_signal(signal.SIGTERM)
        child.wait(timeout=120)
    finally:
        child.kill()
    assert child.returncode == 130
    assert load_checkpoint(folder / "out")["step"] >= 2


def test_a_file_system_without_locks_holds_runs_too_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    run(config(folder, steps=1))
    assert (folder / "out" / "model.safetensors").exists()
    assert "out cannot be locked ([Errno" in caplog.text


def kills(count: int) -> dict[str, int]:
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    result: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork")
@pytest.mark.parametrize("count", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments_loses_an_interval_at_most(count: int) -> None:
    result = kills(count)
    assert result["kills"] == result["resumes"] == count
    assert result["finished"] >= 1
    assert result["failed"] == result["unlike"] == result["unreadable"] == 0
    assert result["most_lost"] <= 3


def test_a_changed_byte_anywhere_is_noticed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"step": 1, "x": torch.zeros(64)})
    save_checkpoint(tmp_path, {"step": 2, "x": torch.ones(64)})
    newest = tmp_path / "step-00000002.ckpt"
    sound = newest.read_bytes()
    for place in range(0, len(sound), 97):
        newest.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        assert load_checkpoint(tmp_path)["step"] == 1, place
    newest.write_bytes(sound)
    assert load_checkpoint(tmp_path)["step"] == 2
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of 2 checkpoints"):
        load_checkpoint(tmp_path)


def test_the_number_of_checkpoints_kept_is_chosen_and_rubbish_swept(tmp_path: Path) -> None:
    (tmp_path / ".polyres-0123.tmp").write_bytes(b"half")
    for step in range(5):
        save_checkpoint(tmp_path, {"step": step}, keep=3)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"step-0000000{n}.ckpt" for n in (2, 3, 4)]


def test_a_full_disk_is_told_and_older_checkpoints_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, {"step": 1, "x": torch.zeros(1000)})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        save_checkpoint(tmp_path, {"step": 2, "x": torch.zeros(1000)})
    monkeypatch.undo()
    assert load_checkpoint(tmp_path)["step"] == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_while_writing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def opened(self: Path, mode: str = "r", **more: object) -> object:
        return open("/dev/full", "wb", buffering=0) if mode[0] == "x" else real(self, mode, **more)  # noqa: PTH123

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OutputError, match="No space left"):
        save_checkpoint(tmp_path, {"step": 2, "x": torch.zeros(1000)})


def test_an_output_that_cannot_be_a_folder_is_told(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(OutputError, match="file/out"):
        run(config(folder, output=folder / "file" / "out"))


def test_changes_are_listed_and_refused_unless_allowed(folder: Path) -> None:
    before = config(folder)
    state = begin(initial_model(before), before)
    (folder / "out").mkdir()
    save_checkpoint(folder / "out", {**state.state_dict(), "run": identity(before, "abc")})
    after = config(folder, optimiser={"lr": 2e-3, "warmup": 2}, steps=9, data={"workers": 0}, keep=9)
    with pytest.raises(
        CheckpointError, match=r"optimiser.lr changed from 0.001 to 0.002; pictures .*; steps .* 9"
    ):
        restore(state, after, "def")
    restore(state, after, "def", allow_changes=True)
    restore(state, config(folder, data={"workers": 1}, keep=3), "abc")  # nothing that matters
    wider = {"name": "edsr", "options": {"channels": 16, "blocks": 1}}
    other = config(folder, model={"encoder": wider, "upsampler": {"name": "igconv"}})
    with pytest.raises(CheckpointError, match=r"model.encoder.options.channels changed from 8 to 16"):
        restore(state, other, "abc", allow_changes=True)
    assert list(changes({"a": {}}, {"a": {"b": 1}})) == [
        "a changed from {} to null",
        "a.b changed from null to 1",
    ]


def test_a_key_that_is_new_since_is_no_change_at_its_default(folder: Path) -> None:
    settings = config(folder, losses=[{"name": "l1"}], initial={"encoder": "x.safetensors"})
    state = begin(initial_model(config(folder)), settings)
    older = identity(settings, "abc")
    for section, key in (
        (older, "equivariant"),
        (older["optimiser"], "weight_decay"),
        (older["losses"][0], "weight"),
        (older["initial"], "without"),
    ):
        del section[key]
    (folder / "out").mkdir()
    save_checkpoint(folder / "out", {**state.state_dict(), "run": older})
    restore(state, config(folder, losses=[{"name": "l1"}], initial={"encoder": "x.safetensors"}), "abc")
    later = config(
        folder, losses=[{"name": "l1", "weight": 2}], initial={"encoder": "x.safetensors", "without": [1]}
    )
    with pytest.raises(CheckpointError, match=r"initial.without .* to \[1\]; losses .*2.0"):
        restore(state, later, "abc")
    del older["data"]["scales"]["3"]  # no key of polyres, though it has the default's value
    save_checkpoint(folder / "out", {**state.state_dict(), "run": older})
    with pytest.raises(CheckpointError, match=r"data.scales.3 changed from null to 1.0"):
        restore(state, config(folder, losses=[{"name": "l1"}], initial=settings.initial), "abc")


def test_a_run_leaves_its_whole_story(folder: Path) -> None:
    data = {"validation": [str(folder / "pictures")], "validation_pictures": 1}
    run(config(folder, steps=2, data=data, validate_every=1))
    out = folder / "out"
    story = load_card(out / "model.safetensors").run
    assert story["config"] == json.loads((out / "run.json").read_text())
    assert story["pictures"] == json.loads((out / "provenance.json").read_text())["pictures"] != ""
    assert load(out / "best.safetensors").config is not None
    assert (out / "curve.png").stat().st_size > 1000
    names = sorted(path.name for path in (out / "pictures").iterdir())
    assert names[0] == "0-x2-step-00000001.png"
    assert len(names) == 4


def test_parts_of_other_models_are_begun_from(folder: Path) -> None:
    from polyres.model import ModelConfig, build
    from polyres.weights import save

    krgn = {
        "channels": 8,
        "blocks": 1,
        "groups_per_block": 1,
        "pairs_per_group": 1,
        "groups": 4,
        "reduction": 4,
    }
    plain = {"name": "krgn", "options": {**krgn, "recalibration": "none"}}
    upsampler = {"name": "igconv", "options": {"width": 8, "hidden_layers": 1}}
    source = build(ModelConfig.model_validate({"encoder": plain, "upsampler": {"name": "spconv"}})).eval()
    save(source, folder / "plain.safetensors")
    initial = {"encoder": str(folder / "plain.safetensors")}
    model = {"encoder": {"name": "krgn", "options": krgn}, "upsampler": upsampler}
    begun = initial_model(config(folder, model=model, initial=initial)).eval()
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(begun.encoder(image), source.encoder(image))  # recalibrations begin as nothing
    wrong = {"encoder": {"name": "krgn", "options": {**krgn, "channels": 16}}, "upsampler": upsampler}
    with pytest.raises(CheckpointError, match=r"the encoder of .*plain.safetensors is not the one"):
        initial_model(config(folder, model=wrong, initial=initial))
