"""What people do to a command by mistake: one clear line, the right exit status, nothing half-written."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from polyres.pictures import Picture, read_picture, write_picture


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    write_picture(Picture(values), path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_output_that_is_the_input(tmp_path: Path, upscale: Any) -> None:
    photo = put(tmp_path / "a.png")
    before = photo.read_bytes()
    status, _, err = upscale(photo, "-o", photo)
    assert (status, err.count("\n")) == (2, 1)
    assert "would replace the input" in err
    assert photo.read_bytes() == before


def test_folders_called_like_pictures(tmp_path: Path, upscale: Any) -> None:
    (tmp_path / "in" / "folder.png").mkdir(parents=True)
    put(tmp_path / "in" / "a.png")
    (tmp_path / "out" / "a_x2.png").mkdir(parents=True)
    assert upscale(tmp_path / "in" / "folder.png")[0] == 1
    status, _, err = upscale(tmp_path / "in", "-o", tmp_path / "out")
    assert (status, err.count("\n")) == (1, 1)
    assert "a_x2.png: cannot be written" in err
    assert names(tmp_path / "out") == []


def test_links_in_circles(tmp_path: Path, upscale: Any) -> None:
    put(tmp_path / "in" / "deep" / "a.png")
    (tmp_path / "in" / "deep" / "up").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "self.png").symlink_to(tmp_path / "in" / "self.png")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    status, _, err = upscale(tmp_path / "in", "-r", "-o", tmp_path / "out")
    assert (status, "Traceback" in err) == (2, False)
    assert "1 of 3 done, 2 failed" in err
    assert names(tmp_path / "out") == ["deep/a_x2.png"]
    status, _, err = upscale(tmp_path / "in" / "self.png")
    assert (status, err.count("\n")) == (1, 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, upscale: Any) -> None:
    put(tmp_path / "in" / "a.png")
    os.mkfifo(tmp_path / "in" / "b.png")
    status, _, err = upscale(tmp_path / "in", "-o", tmp_path / "out")
    assert (status, names(tmp_path / "out")) == (2, ["a_x2.png"])
    assert "b.png" in err
    assert "not a file" in err


def test_a_full_disk(tmp_path: Path, upscale: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    put(tmp_path / "in" / "a.png")
    monkeypatch.setattr(os, "fsync", full)
    status, _, err = upscale(tmp_path / "in", "-o", tmp_path / "out")
    assert (status, err.count("\n")) == (1, 1)
    assert "No space left on device" in err
    assert list((tmp_path / "out").iterdir()) == []


def test_standard_output_that_takes_no_more(
    tmp_path: Path, upscale: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.RawIOBase):
        is_full = True

        def writable(self) -> bool:
            return True

        def write(self, content: Any) -> int:
            if self.is_full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return len(content)

    photo, disk = put(tmp_path / "a.png"), Full()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(disk), write_through=True))
    status, _, err = upscale(photo, "-o", "-")
    assert (status, err.count("\n")) == (1, 1)
    assert "standard output: cannot be written: No space left on device" in err
    sys.stdout.flush()  # as Python does at its end
    disk.is_full = False  # what is left in the buffer is written when it is collected


def test_standard_input_that_is_empty(upscale: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO()))
    status, _, err = upscale("-")
    assert (status, err.count("\n")) == (1, 1)
    assert "standard input" in err


def test_names_from_right_to_left_and_of_255_bytes(tmp_path: Path, upscale: Any) -> None:
    for name in ("\u202etxt.exe", "שלום", "a\nb", "é" * 125):
        put(tmp_path / "in" / f"{name}.png")
    status, _, err = upscale(tmp_path / "in", "-o", tmp_path / "out")
    assert (status, err) == (0, "")
    made = names(tmp_path / "out")
    assert len(made) == 4
    assert max(len(os.fsencode(name)) for name in made) <= 255
    assert all(read_picture(tmp_path / "out" / name).width == 16 for name in made)
