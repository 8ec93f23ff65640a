"""Engines: chosen by trial, checked against torch, remembered, and never in the way."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import polyres.cli
from polyres.deploy.fuse import fuse
from polyres.errors import CheckpointError, MissingExtraError, UsageError
from polyres.model import ModelConfig, SRModel, build
from polyres.pictures import Picture, write_picture
from polyres.scale import Scale
from polyres.upscale import Target, Upscaler, choice
from polyres.upscale.engine import TorchEngine
from polyres.upscale.foreign import exported, fingerprint

CPU = torch.device("cpu")


def tiny(seed: int = 0) -> SRModel:
    torch.manual_seed(seed)
    config = {
        "encoder": {"name": "edsr", "options": {"channels": 4, "blocks": 1}},
        "upsampler": {"name": "igconv", "options": {"width": 8, "hidden_layers": 1, "base": "bilinear"}},
    }
    return build(ModelConfig.model_validate(config)).eval()


class Fake(TorchEngine):
    """Torch in the clothes of another engine: slower by ``wait`` seconds, wrong by ``error``."""

    def __init__(self, fused: Any, wait: float = 0, error: float = 0) -> None:
        super().__init__(fused, CPU, torch.float32, native=False)
        self.wait, self.error = wait, error

    def _run(self, image: Tensor) -> Tensor:
        clock.now += self.wait
        return super()._run(image) + self.error


class Clock:
    now = 0.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


clock = Clock()


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What each engine is made by, to be changed by a test; time passes only inside fakes."""
    makers: dict[str, Any] = {
        "torch": lambda fused: Fake(fused, 0.03),
        "onnxruntime": lambda fused: Fake(fused, 0.01),
        "openvino": lambda fused: Fake(fused, 0.02),
    }
    monkeypatch.setattr(
        choice, "made", lambda fused, name, precision, native, folder=None: makers[name](fused)
    )
    monkeypatch.setattr(choice, "is_installed", lambda name: name in makers)
    monkeypatch.setattr(choice.time, "perf_counter", clock)
    return makers


def choose(folder: Path, model: SRModel | None = None, scale: int = 2) -> choice.Choice:
    return choice.choose(model or tiny(), Scale.of(scale), ("float32",), folder=folder)


def test_the_fastest_engine_is_taken(tmp_path: Path, engines: dict[str, Any]) -> None:
    chosen = choose(tmp_path)
    assert (chosen.engine, chosen.precision) == ("onnxruntime", "float32")
    assert [trial.engine for trial in chosen.trials] == ["torch", "onnxruntime", "openvino"]
    assert (
        str(chosen)
        == "chosen by trial: torch float32 30 ms, onnxruntime float32 10 ms, openvino float32 20 ms"
    )


def test_torch_stays_where_another_is_hardly_faster(tmp_path: Path, engines: dict[str, Any]) -> None:
    engines.update(onnxruntime=lambda fused: Fake(fused, 0.0285), openvino=lambda fused: Fake(fused, 0.05))
    assert choose(tmp_path).engine == "torch"


def test_an_engine_that_is_wrong_or_fails_is_out(tmp_path: Path, engines: dict[str, Any]) -> None:
    def broken(fused: Any) -> Any:
        raise RuntimeError("no such operator\nat line 7")

    engines.update(onnxruntime=lambda fused: Fake(fused, 0.001, error=0.01), openvino=broken)
    chosen = choose(tmp_path)
    assert chosen.engine == "torch"
    assert "onnxruntime float32 is off by 1e-02" in str(chosen)
    assert "openvino float32 failed: no such operator" in str(chosen)


def test_the_choice_is_remembered_for_a_network_at_every_scale(
    tmp_path: Path, engines: dict[str, Any]
) -> None:
    first = choose(tmp_path)
    engines["torch"] = lambda fused: pytest.fail("tried again")
    assert choose(tmp_path) == choose(tmp_path, scale=3) == first
    engines["torch"] = lambda fused: Fake(fused, 0.001)
    assert choose(tmp_path, tiny(seed=1)).engine == "torch"  # another network is tried anew


def test_the_choice_is_made_anew_on_another_machine(tmp_path: Path, engines, monkeypatch) -> None:
    assert choose(tmp_path).engine == "onnxruntime"
    engines["torch"] = lambda fused: Fake(fused, 0.001)
    monkeypatch.setattr(choice, "describe", lambda device: "another processor")
    assert choose(tmp_path).engine == "torch"


@pytest.mark.parametrize("content", ["", "{}", '{"engine": "abacus", "precision": "float32", "trials": []}'])
def test_a_damaged_memory_is_replaced(tmp_path: Path, engines: dict[str, Any], content: str) -> None:
    choose(tmp_path)
    (path,) = tmp_path.glob("engine-*.json")
    path.write_text(content)
    assert choose(tmp_path).engine == "onnxruntime"
    assert json.loads(path.read_text())["engine"] == "onnxruntime"


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path, engines: dict[str, Any]) -> None:
    (tmp_path / "file").touch()
    assert choose(tmp_path / "file" / "cache").engine == "onnxruntime"


def test_torch_alone_is_not_tried(tmp_path: Path, engines: dict[str, Any]) -> None:
    del engines["onnxruntime"], engines["openvino"]
    engines["torch"] = lambda fused: pytest.fail("tried")
    assert str(choose(tmp_path)) == "no other engine than torch is installed"


def test_an_engine_that_fails_at_another_scale_gives_way_to_torch(tmp_path: Path, engines) -> None:
    model = tiny()
    choose(tmp_path, model)

    def fails(fused: Any) -> Any:
        raise CheckpointError("it cannot be exported at x3")

    engines["onnxruntime"] = fails
    options: dict[str, Any] = {"name": "auto", "fixed_dtype": True, "native": True, "folder": tmp_path}
    engine, told = choice.make_engine(model, Scale.of(3), CPU, torch.float32, **options)
    assert type(engine) is TorchEngine
    assert told == "onnxruntime failed: it cannot be exported at x3"


def test_engines_that_cannot_be_had() -> None:
    with pytest.raises(UsageError, match="Did you mean 'openvino'"):
        Upscaler(tiny(), engine="openvno")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="runs on the CPU here, not on meta"):
        Upscaler(tiny(), device="meta", dtype=torch.float32, engine="openvino").describe(2)


def test_a_missing_engine_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "is_installed", lambda name: False)
    with pytest.raises(MissingExtraError, match=r"polyres\[openvino,export\]"):
        Upscaler(tiny(), device="cpu", engine="openvino").describe(2)


def test_fingerprints_tell_weights_and_scales_apart() -> None:
    prints = [fingerprint(fuse(tiny(seed), scale)) for seed, scale in ((0, 2), (0, 3), (1, 2))]
    assert len({*prints}) == 3
    assert fingerprint(fuse(tiny(), 2)) == prints[0]


def test_onnx_runtime_makes_the_same_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("onnxruntime", "onnxscript"):
        pytest.importorskip(module, reason="needs the extra 'export'")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, pixels = tiny(), np.random.default_rng(0).random((40, 31, 3), np.float32)
    upscalers = [
        Upscaler(model, device="cpu", dtype=torch.float32, tile=16, engine=name)
        for name in ("torch", "onnxruntime")
    ]
    expected, got = (upscaler(Picture(pixels), scale="3/2").pixels for upscaler in upscalers)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    assert upscalers[1].describe("3/2") == "ONNX Runtime, float32 on cpu"
    (path,) = (tmp_path / "polyres").glob("*.onnx")
    written = path.stat().st_mtime_ns
    assert exported(fuse(model, "3/2")) == path
    assert path.stat().st_mtime_ns == written
    if choice.is_installed("openvino"):
        openvino = Upscaler(model, device="cpu", dtype=torch.float32, tile=16, engine="openvino")
        np.testing.assert_allclose(openvino(Picture(pixels), scale="3/2").pixels, expected, rtol=0, atol=1e-5)


def auto(model: SRModel, folder: Path, pixels: float | None, scale: int = 2) -> tuple[str, str]:
    """The engine made for so many pixels to come, and why."""
    options: dict[str, Any] = {"name": "auto", "folder": folder, "pixels": pixels}
    engine, told = choice.make_engine(model, Scale.of(scale), CPU, torch.float32, **options)
    return type(engine).__name__, told


def per_window(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on torch's trial before the choice takes so long."""
    monkeypatch.setattr(choice, "_seconds", lambda engine: seconds)


def test_little_work_waits_for_no_other_engine(tmp_path: Path, engines, monkeypatch) -> None:
    model, megapixel = tiny(), 1e6
    per_window(0.1, monkeypatch)  # 11 s a megapixel
    engines["onnxruntime"] = lambda fused: pytest.fail("made ready")
    kind, told = auto(model, tmp_path, megapixel)
    assert kind == "TorchEngine"
    assert told == "about 11 s of work, too little to make another engine ready, which takes 11 s"
    assert list(tmp_path.iterdir()) == []
    engines["onnxruntime"] = lambda fused: Fake(fused, 0.01)
    assert auto(model, tmp_path, 4 * megapixel)[0] == "Fake"  # a third of 43 s is more


@pytest.mark.parametrize("pixels", [None, 1e9])
def test_much_work_or_work_that_nobody_knows_is_worth_a_trial(
    tmp_path: Path, engines, pixels, monkeypatch
) -> None:
    per_window(0.1, monkeypatch)
    assert auto(tiny(), tmp_path, pixels)[0] == "Fake"


def test_a_choice_that_is_there_is_weighed_by_what_it_saves(tmp_path: Path, engines, monkeypatch) -> None:
    model = tiny()
    assert choose(tmp_path, model).saved == pytest.approx(2 / 3, abs=1e-3)
    per_window(0.1, monkeypatch)
    assert auto(model, tmp_path, 1e6)[0] == "TorchEngine"  # 7 of 11 s saved, and 9 for the export
    assert auto(model, tmp_path, 1.5e6)[0] == "Fake"
    monkeypatch.setattr(choice, "is_exported", lambda fused, folder: True)
    assert auto(model, tmp_path, 10)[0] == "Fake"  # what is ready costs nothing


def test_work_is_foreseen_for_each_scale(tmp_path: Path, engines, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    per_window(0.1, monkeypatch)
    upscaler = Upscaler(tiny(), device="cpu", dtype=torch.float32, engine="auto")
    upscaler.expect([(1000, 3000), (1000, 3000), (500, 500), (10**6, 10)], Target(width=6000))
    assert "chosen by trial" in upscaler.describe(2)
    assert "too little" in upscaler.describe(8)


def test_one_photograph_is_not_kept_waiting(tmp_path: Path, engines, monkeypatch, polyres_command) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    per_window(0.1, monkeypatch)
    polyres.save(tiny(), tmp_path / "tiny.safetensors")
    for name in ("a.png", "b.png"):
        write_picture(Picture(np.zeros((400, 400, 3), np.uint8)), tmp_path / name)
    words = ("-n", "tiny.safetensors", "-v", "--device", "cpu", "--precision", "float32", "-t", "400")
    assert "2 s of work, too little to make" in polyres_command("upscale", "a.png", *words).err
    monkeypatch.setattr(
        choice, "EXPORTING", -1
    )  # with the trial a second, and both pictures make more than three
    assert "2 s of work, too little to make" in polyres_command("upscale", "a.png", *words).err
    assert "chosen by trial" in polyres_command("upscale", "a.png", "b.png", *words).err


def test_the_command_tells_how_it_chose(tmp_path: Path, engines, monkeypatch, capsys) -> None:
    per_window(36_000, monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    polyres.save(tiny(), tmp_path / "tiny.safetensors")
    write_picture(Picture(np.zeros((4, 4, 3), np.uint8)), tmp_path / "a.png")
    words = [str(tmp_path / "a.png"), "-n", str(tmp_path / "tiny.safetensors"), "-v", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["polyres", "upscale", *words, "--precision", "float32"])
    with pytest.raises(SystemExit) as exit_:
        polyres.cli.main()
    assert not exit_.value.code
    assert "(chosen by trial: torch float32 30 ms, onnxruntime" in capsys.readouterr().err
