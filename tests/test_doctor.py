"""``polyres doctor``: says what is there, and for what is missing or broken, what to do."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import pytest

import polyres.cli
from polyres.errors import OutputError

#: The module: the name in the package is the command.
doctor: Any = importlib.import_module("polyres.cli.doctor")
EVERYTHING = doctor.findings


def found(check) -> dict[str, Any]:
    return {finding.subject: finding for finding in check()}


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["polyres", "doctor"])
    with pytest.raises(SystemExit) as exit_:
        polyres.cli.main()
    return int(exit_.value.code or 0), capsys.readouterr().out


def test_a_healthy_place_has_status_0(monkeypatch, capsys) -> None:
    status, out = run(monkeypatch, capsys)
    assert status == 0
    for subject in ("environment", "device", "memory", "formats", "cache", "bundled model"):
        assert f"{subject}: " in out
    assert "bad" not in out


def test_every_finding_that_is_not_good_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda module: None)
    monkeypatch.setattr("polyres.layers.native.kernels", lambda: None)
    monkeypatch.setattr("polyres.upscale.memory.free_memory", lambda device: 1000)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    amiss = [finding for finding in EVERYTHING() if finding.state != "good"]
    assert {*doctor.OPTIONAL, "native kernels", "memory", "cache"} <= {finding.subject for finding in amiss}
    assert all(finding.remedy for finding in amiss)


def test_a_missing_extra_is_a_note_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda module: None if module == "openvino" else object())
    finding = found(doctor._extras)["openvino"]
    assert (finding.state, finding.remedy) == ("note", "pip install 'polyres[openvino]'")


def test_a_broken_package_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    monkeypatch.setattr(doctor, "find_spec", lambda module: object())
    assert found(doctor._extras)["tifffile"].state == "bad"


def test_a_format_that_does_not_work_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from polyres import pictures

    encode = pictures.encode_picture

    def without_avif(picture, stream, target, *rest):
        if target.name == "avif":
            raise OutputError("cannot be written as avif: no encoder")
        encode(picture, stream, target, *rest)

    monkeypatch.setattr(pictures, "encode_picture", without_avif)
    findings = found(doctor._codecs)
    assert findings["format avif"].remedy == "pip install --upgrade pillow"
    assert "avif" not in findings["formats"].told
    assert "png" in findings["formats"].told


def test_a_model_that_is_no_better_than_bicubic_is_bad(monkeypatch, capsys) -> None:
    from polyres.upscale import Upscaler

    enlarge = Upscaler.__call__

    def noisy(self, picture, **options):
        result = enlarge(self, picture, **options)
        result.pixels[:] = np.roll(result.pixels, 5, axis=1)
        return result

    monkeypatch.setattr(Upscaler, "__call__", noisy)
    status, out = run(monkeypatch, capsys)
    assert status == 1
    assert "bad   bundled model" in out
    assert "force-reinstall polyres" in out


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(name: str) -> None:
        raise RuntimeError("no such\nlibrary")

    monkeypatch.setattr("polyres.weights.load", damaged)
    finding = found(EVERYTHING)["model"]
    assert finding.state == "bad"
    assert "RuntimeError: no such library" in finding.told
