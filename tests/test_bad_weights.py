"""Files that are no weights, or want to do harm, are refused in one line: nothing executed, no memory taken."""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from polyres.cli import main
from polyres.errors import CheckpointError
from polyres.weights import load

_HARMED = Path("/tmp/polyres-was-harmed")


class Harmful:
    """What a malicious checkpoint holds."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (_HARMED,))


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": Harmful()}))


def write_zipped_pickle(path: Path) -> None:
    torch.save({"weight": Harmful()}, path)


def write_torchscript(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


def write_giant(path: Path) -> None:
    torch.save({"weight": torch.zeros(1).expand(1 << 17, 1 << 17)}, path)


def write_unheld(path: Path) -> None:
    torch.save({"weight": torch.empty(1 << 17, 1 << 17, device="meta")}, path)


def write_sparse(path: Path) -> None:
    torch.save({"weight": torch.zeros(3, 3).to_sparse()}, path)


def write_nested(path: Path) -> None:
    torch.save({"weight": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])}, path)


def write_truncated(path: Path) -> None:
    torch.save({"weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:700])


def write_lying_offsets(path: Path) -> None:
    header = b'{"weight":{"dtype":"F32","shape":[4],"data_offsets":[0,99999999]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))


def write_text(path: Path) -> None:
    path.write_text("these are not weights")


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_another(path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(4, 3, 3, 3), "layer.bias": torch.zeros(4)}, path)


#: The cases of issue 5, and more of their kind.
BAD = [
    write_another,
    write_truncated,
    write_pickle,
    write_zipped_pickle,
    write_torchscript,
    write_giant,
    write_unheld,
    write_sparse,
    write_nested,
    write_lying_offsets,
    write_text,
    write_nothing,
]


@pytest.mark.parametrize("options", [None, {"type": "EDSR"}])
@pytest.mark.parametrize("write", BAD)
def test_files_that_are_no_weights_are_refused(
    write: Callable[[Path], None], options: dict | None, tmp_path: Path
) -> None:
    write(path := tmp_path / "weights.pth")
    began = time.monotonic()
    with pytest.raises(CheckpointError) as error:
        load(path, network_g=options)
    assert time.monotonic() - began < 5
    assert "\n" not in str(error.value)
    assert not _HARMED.exists()


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        ("edsr", {"channels": 300_000, "blocks": 1}, "a size of 300,000"),
        ("edsr", {"channels": 60_000, "blocks": 1}, "does not fit the network it names"),
        ("edsr", {"channels": 8, "blocks": 60_000}, "far more weights than it holds"),
        ("mambair", {"channels": 32, "blocks": [1 << 40]}, "a size of 1,099,511,627,776"),
    ],
)
def test_files_that_name_a_giant_network_take_no_memory(
    encoder: str, options: dict, message: str, tmp_path: Path
) -> None:
    part = {"name": encoder, "options": options}
    config = json.dumps({"encoder": part, "upsampler": {"name": "spconv", "options": {"scales": [2]}}})
    metadata = {"format": "polyres", "config": config}
    save_file({"head.weight": torch.zeros(3)}, path := tmp_path / "w.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=message) as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("command", ["convert", "convert with options", "upscale"])
@pytest.mark.parametrize("write", BAD)
def test_commands_refuse_bad_weights_in_one_line(
    command: str,
    write: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    write(path := tmp_path / "w.pth")
    (tmp_path / "o.yml").write_text("network_g: {type: EDSR, num_feat: 8}\n")
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    words = {
        "convert": ["convert", path, tmp_path / "out.safetensors"],
        "convert with options": ["convert", path, tmp_path / "out", "--options", tmp_path / "o.yml"],
        "upscale": ["upscale", tmp_path / "p.png", "--model", path],
    }
    before = set(tmp_path.iterdir())
    monkeypatch.setattr(sys, "argv", ["polyres", *map(str, words[command])])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert (ended.value.code, told.out, told.err.count("\n")) == (1, "", 1), told.err
    assert "w.pth" in told.err
    assert set(tmp_path.iterdir()) == before
    assert not _HARMED.exists()
