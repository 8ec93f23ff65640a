"""The command line: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.main import get_command

import polyres
from polyres.cli import Commands, app, main
from polyres.weights import load


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *words: object
) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of ``polyres WORDS...``."""
    monkeypatch.setattr(sys, "argv", ["polyres", *map(str, words)])
    try:
        main()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


def tiny(path: Path, upsampler: str = "igconv") -> Path:
    parts = {
        "encoder": {"name": "edsr", "options": {"channels": 4, "blocks": 1}},
        "upsampler": {"name": upsampler, "options": {"width": 4, "hidden_layers": 1}},
    }
    polyres.save(polyres.build(polyres.ModelConfig.model_validate(parts)), path)
    return path


def test_help_is_quick_and_lists_the_commands() -> None:
    code = "import sys; sys.argv = ['polyres', '--help']\nfrom polyres.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'numpy', 'PIL'} & sys.modules.keys(), sys.modules.keys()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("upscale", "evaluate", "train", "info", "convert"):
        assert command in result.stdout


#: Page faults of the second time that 32 blocks of 8 MiB are filled and freed.
FAULTS = """
import resource
import numpy as np

def fill():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(1 << 20) for _ in range(32)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fill()
print(fill())
"""


def faults(before: str) -> int:
    command = [sys.executable, "-c", before + FAULTS]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's memory alone can be kept")
def test_a_command_keeps_freed_memory_for_what_comes_next() -> None:
    command = "import sys\nfrom polyres.cli import main\nsys.argv = ['polyres', '--version']\n"
    assert faults(command + "try: main()\nexcept SystemExit: pass\n") < 1000 < faults("")


def test_help_imports_no_command() -> None:
    code = "import sys; sys.argv = ['polyres', '--help']\nfrom polyres.cli import Commands, main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += (
        "loaded = {f'polyres.cli.{name}' for name in Commands.listed} & sys.modules.keys()\nassert not loaded"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize("name", Commands.listed)
def test_each_command_is_listed_with_the_first_paragraph_of_its_help(name: str) -> None:
    group = get_command(app)
    assert isinstance(group, Commands)
    paragraph = (group.imported(name).help or "").split("\n\n")[0]
    assert Commands.listed[name].summary == " ".join(paragraph.split())


def test_info_prints_the_card(tmp_path: Path, monkeypatch, capsys) -> None:
    status, out, _ = run(monkeypatch, capsys, "info", tiny(tmp_path / "m.safetensors"))
    assert status == 0
    assert "parameters" in out
    assert "edsr" in out


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (["info", "nothing-like-it"], 2, "no model is called"),
        (["info", "missing.safetensors"], 1, "there is no file"),
        (["evaluate", "--data", "nowhere"], 1, "nowhere"),
        (["evaluate", "--data", ".", "--scales", "0"], 2, "a scale is"),
        (["evaluate", "--data", ".", "--protocol", "paper-x"], 2, "paper-y"),
        (["train", "missing.yaml"], 2, "cannot read the run file"),
        (["upscale", "missing.png"], 1, "missing.png"),
        (["upscale", "missing.png", "-s", "abc"], 2, "a scale is a number"),
        (["convert", "missing.pth", "out.safetensors"], 1, "there is no file"),
    ],
)
def test_bad_requests_end_with_one_line(
    words: list[str], status: int, reason: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    ended, _, err = run(monkeypatch, capsys, *words)
    assert (ended, err.strip().count("\n")) == (status, 0), err
    assert reason in err
    assert list(tmp_path.iterdir()) == []


def test_convert_writes_a_file_that_describes_itself(
    tmp_path: Path, monkeypatch, capsys, shared: Path
) -> None:
    recorded = shared / "parity" / "open" / "edsr_x2.safetensors"
    (tmp_path / "options.yml").write_text("network_g: {type: EDSR, num_feat: 16, num_block: 2, upscale: 2}\n")
    output = tmp_path / "converted.safetensors"
    status, out, _ = run(
        monkeypatch, capsys, "convert", recorded, output, "--options", tmp_path / "options.yml"
    )
    assert (status, "edsr with spconv+" in out) == (0, True)
    tensors = load_file(recorded)
    with torch.no_grad():
        made = load(output)(tensors["io/in.1x17x13"], 2)
    assert (made - tensors["io/out.1x17x13.x2"]).abs().max() < 2e-5


def test_options_without_a_network_are_refused(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "options.yml").write_text("name: x\n")
    words = ["convert", tmp_path / "a.pth", tmp_path / "b.safetensors", "--options", tmp_path / "options.yml"]
    status, _, err = run(monkeypatch, capsys, *words)
    assert status == 2
    assert "has no network_g" in err


def test_interrupting_ends_with_130(monkeypatch, capsys) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("polyres.cli.app", interrupted)
    assert run(monkeypatch, capsys, "info")[0] == 130
