"""Batches of ``polyres upscale``: mixed folders, repeated runs, pipes, names, logs, comparisons."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import polyres.cli
from polyres.errors import OutputError, PictureError, UsageError
from polyres.pictures import Picture, decode_picture, read_picture, write_picture
from polyres.upscale.batch import PIPE, Job, gather, prepare_folders
from polyres.upscale.naming import NameTemplate
from polyres.upscale.overlap import overlapped


def put(path: Path, height: int = 6, width: int = 8, channels: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    write_picture(Picture(values), path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---- a folder of a hundred --------------------------------------------------------------------------------------


def mixed(folder: Path) -> None:
    """A hundred pictures of all sorts, seven of which are none."""
    for index in range(93):
        suffix = (".png", ".jpg", ".webp", ".tif", ".bmp")[index % 5]
        put(folder / f"{index:02}{suffix}", 3 + index % 4, 2 + index % 7, 1 if index % 3 == 0 else 3)
    content = put(folder / "whole.jpg", 64, 64).read_bytes()
    (folder / "whole.jpg").unlink()
    bad = {
        "a.jpg": content[: len(content) // 2], "b.png": b"", "c.png": b"no picture", "d.tif": b"II*\0" + b"\1" * 30,
        "e.webp": b"RIFF\0\0\0\0WEBP", "f.bmp": b"BM", "g.png": b"\x89PNG\r\n\x1a\n\0\0",
    }  # fmt: skip
    for name, damaged in bad.items():
        (folder / name).write_bytes(damaged)


def test_a_hundred_pictures_with_seven_bad_ones(tmp_path: Path, upscale) -> None:
    mixed(tmp_path / "in")
    words = (tmp_path / "in", "-o", tmp_path / "out", "--skip-existing", "--log", tmp_path / "run.json")
    status, _, err = upscale(*words)
    assert status == 2
    assert "93 of 100 done, 7 failed" in err
    made = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in names(tmp_path / "out")}
    assert len(made) == 93
    status, out, err = upscale(*words)
    assert status == 2
    assert "0 of 100 done, 93 there already, 7 failed" in err
    assert out.count("is there already") == 93
    assert made == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in names(tmp_path / "out")}
    log = json.loads((tmp_path / "run.json").read_text())
    assert (log["jobs"], log["written"], log["skipped"], log["failed"]) == (100, 0, 93, 7)
    assert {Path(row["input"]).name for row in log["results"] if row["status"] == "failed"} == {
        "a.jpg", "b.png", "c.png", "d.tif", "e.webp", "f.bmp", "g.png",
    }  # fmt: skip


def test_what_is_there_is_checked_before_it_is_left_alone(tmp_path: Path, upscale) -> None:
    for name in ("cut.png", "small.png", "good.png"):
        put(tmp_path / "in" / name)
        put(tmp_path / "out" / f"{name[:-4]}_x2.png", 12, 16)
    put(tmp_path / "out" / "small_x2.png", 5, 5)
    cut = tmp_path / "out" / "cut_x2.png"
    cut.write_bytes(cut.read_bytes()[:-30])
    status, out, _ = upscale(tmp_path / "in", "-o", tmp_path / "out", "--skip-existing")
    assert status == 0
    assert (out.count("8x6 to 16x12"), out.count("is there already")) == (2, 1)
    assert "good_x2.png  is there already" in out
    assert read_picture(tmp_path / "out" / "small_x2.png").width == 16


def test_a_log_tells_what_was_made(tmp_path: Path, upscale) -> None:
    source = put(tmp_path / "a.png")
    assert upscale(source, tmp_path / "missing.png", "-s", "5/2", "--log", tmp_path / "run.json")[0] == 2
    log = json.loads((tmp_path / "run.json").read_text())
    assert (log["target"], log["polyres"]) == ("x2.5", polyres.__version__)
    failed, written = log["results"]
    assert (written["status"], written["size"], written["enlarged"]) == ("written", [8, 6], [20, 15])
    assert (failed["status"], failed["output"]) == ("failed", None)
    assert "no such file" in failed["reason"]


def test_an_interrupted_run_still_has_a_log(tmp_path: Path, upscale, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png", "c.png"):
        put(tmp_path / "in" / name)
    from polyres.upscale import Upscaler

    calls, enlarge = [], Upscaler.__call__

    def third_time_stop(self, *args: object, **options: object) -> Picture:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return enlarge(self, *args, **options)

    monkeypatch.setattr(Upscaler, "__call__", third_time_stop)
    assert upscale(tmp_path / "in", "-o", tmp_path / "out", "--log", tmp_path / "run.json")[0] == 130
    assert names(tmp_path / "out") == ["a_x2.png", "b_x2.png"]
    assert json.loads((tmp_path / "run.json").read_text())["jobs"] == 3


# ---- pipes and patterns -----------------------------------------------------------------------------------------


class Piped:
    """Standard input that holds a picture."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def test_one_picture_goes_through_pipes(tmp_path: Path, upscale, monkeypatch: pytest.MonkeyPatch) -> None:
    content = put(tmp_path / "a.jpg").read_bytes()
    for words, expected in (((), "jpeg"), (("-f", "webp"), "webp")):
        monkeypatch.setattr(sys, "stdin", Piped(content))
        outcome = upscale("-", *words, "-s", 3)
        assert outcome.status == 0
        picture = decode_picture(io.BytesIO(outcome.raw), "out")
        assert (picture.format, picture.width, picture.height) == (expected, 24, 18)
        assert "8x6 to 24x18" in outcome.err  # what is told does not mix with the picture


def test_a_pipe_may_end_in_a_file_and_begin_with_one(tmp_path: Path, upscale, monkeypatch) -> None:
    source = put(tmp_path / "a.png")
    monkeypatch.setattr(sys, "stdin", Piped(source.read_bytes()))
    assert upscale("-", "-o", tmp_path / "b.png")[0] == 0
    assert read_picture(tmp_path / "b.png").width == 16
    outcome = upscale(source, "-o", "-")
    assert (outcome.status, decode_picture(io.BytesIO(outcome.raw), "out").width) == (0, 16)


def test_what_is_no_picture_in_a_pipe_is_one_line(upscale, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Piped(b"hello"))
    status, out, err = upscale("-")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "standard input: not a picture" in err


def test_pipes_take_one_picture(tmp_path: Path) -> None:
    source = put(tmp_path / "in" / "a.png")
    with pytest.raises(UsageError, match="standard input is one picture"):
        gather([PIPE, source])
    with pytest.raises(UsageError, match="give a file as --output"):
        gather([PIPE], tmp_path / "out")
    with pytest.raises(UsageError, match="several inputs need a folder"):
        gather([source, put(tmp_path / "b.png")], PIPE)
    with pytest.raises(UsageError, match="must be a folder"):
        gather([tmp_path / "in"], PIPE)


def test_patterns_stand_for_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "deep/c.png", "[x].png"):
        put(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    found = gather([tmp_path / "*"], tmp_path / "out").jobs
    assert [job.source.name for job in found] == ["[x].png", "a.png", "b.jpg"]
    assert len(gather([tmp_path / "**" / "*.png"], tmp_path / "out").jobs) == 3
    assert (
        gather([tmp_path / "[x].png"], tmp_path / "out").jobs[0].source.name == "[x].png"
    )  # a file of that name
    batch = gather([tmp_path / "*.webp"], tmp_path / "out")
    assert batch.jobs == ()
    assert "no picture matches" in str(batch.failures[0][1])


def test_junk_that_a_shell_names_is_passed_over(tmp_path: Path) -> None:
    source = put(tmp_path / "a.png")
    junk = [tmp_path / name for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._a.png")]
    for path in junk:
        path.write_bytes(b"junk")
    batch = gather([*junk, source], tmp_path / "out")
    assert [job.source for job in batch.jobs] == [source]
    assert batch.failures == ()


# ---- names ------------------------------------------------------------------------------------------------------


def test_names_follow_a_template(tmp_path: Path, upscale) -> None:
    put(tmp_path / "in" / "a.jpg")
    assert (
        upscale(tmp_path / "in", "-o", tmp_path / "out", "--name", "{scale}x {stem}{{}}{ext}", "-s", 3)[0]
        == 0
    )
    assert names(tmp_path / "out") == ["3x a{}.jpg"]
    assert gather([tmp_path / "in"], suffix="_{x}").jobs[0].target.name == "a_{x}.jpg"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{stem.__class__}", "asks for 'stem.__class__'"),
        ("{steam}{ext}", "Did you mean 'stem'"),
        ("../{stem}{ext}", "no slashes"),
        ("{stem", "cannot be read"),
        ("same{ext}", r"needs \{stem\}"),
        ("{stem}\0", "no slashes"),
    ],
)
def test_templates_that_make_no_sense(template: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        NameTemplate(template)


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=400))
def test_a_name_is_one_name_that_fits(stem: str) -> None:
    name = NameTemplate("{stem}_{size}{ext}").name(stem, "x2", ".png")
    assert len(os.fsencode(name)) <= 255
    assert "/" not in name
    assert name.endswith("_x2.png")
    if len(os.fsencode(stem)) <= 240:
        assert name == f"{stem}_x2.png"


def test_long_names_that_begin_alike_stay_apart() -> None:
    template = NameTemplate()
    assert template.name("é" * 126 + "a", "x2", ".png") != template.name("é" * 126 + "b", "x2", ".png")


def test_a_link_does_not_lead_results_out_of_their_folder(tmp_path: Path) -> None:
    put(tmp_path / "in" / "deep" / "a.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="a link leads out"):
        prepare_folders(gather([tmp_path / "in"], tmp_path / "out", recursive=True))
    assert names(tmp_path / "elsewhere") == []


def test_a_link_in_place_of_a_result_is_replaced_not_followed(tmp_path: Path, upscale) -> None:
    source, precious = put(tmp_path / "a.png"), tmp_path / "precious.png"
    precious.write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_x2.png").symlink_to(precious)
    assert upscale(source, "-o", tmp_path / "out")[0] == 0
    assert precious.read_text() == "precious"
    assert read_picture(tmp_path / "out" / "a_x2.png").width == 16


# ---- side by side -----------------------------------------------------------------------------------------------


class Images(HTMLParser):
    """Collects the addresses in a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href")]


def test_a_comparison_lies_beside_the_result(tmp_path: Path, upscale) -> None:
    source = put(tmp_path / "a.png", channels=1)
    assert upscale(source, "-s", 3, "--compare")[0] == 0
    assert names(tmp_path) == ["a.png", "a_x3.png", "a_x3_compare.html", "a_x3_compare.png"]
    both = read_picture(tmp_path / "a_x3_compare.png").pixels
    assert both.shape == (18, 24 + 8 + 24, 1)
    assert (both[:, 32:] == read_picture(tmp_path / "a_x3.png").pixels).all()
    from PIL import Image

    with Image.open(source) as image:
        expected = np.asarray(image.convert("L").resize((24, 18), Image.Resampling.BICUBIC))
    assert (both[:, :24, 0] == expected).all()
    page = Images()
    page.feed((tmp_path / "a_x3_compare.html").read_text())
    assert sum(address.startswith("data:image/png") for address in page.addresses) == 2
    assert all(address.startswith("data:") for address in page.addresses)


def test_a_comparison_needs_a_place(tmp_path: Path, upscale) -> None:
    status, _, err = upscale(put(tmp_path / "a.png"), "-o", "-", "--compare")
    assert (status, err.count("\n")) == (2, 1)


# ---- overlap ----------------------------------------------------------------------------------------------------


def test_reading_and_writing_run_beside_the_work() -> None:
    main, threads = threading.get_ident(), {}
    reading_next = threading.Event()

    def read(item: int) -> int:
        threads["read"] = threading.get_ident()
        if item == 1:
            reading_next.set()
        return item * 10

    def work(item: int, content: int):
        assert threading.get_ident() == main
        if item == 0:
            assert reading_next.wait(10)  # the next picture is read while this one is worked on
        return lambda: (threads.setdefault("write", threading.get_ident()), content)[1]

    assert list(overlapped(range(3), read, work, PictureError)) == [(0, 0), (1, 10), (2, 20)]
    assert len({main, *threads.values()}) == 3


@pytest.mark.parametrize("step", ["read", "work", "write"])
def test_an_error_of_one_item_is_given_out_in_its_place(step: str) -> None:
    def fail(item: int, here: str) -> None:
        if item == 1 and here == step:
            raise PictureError("bad")

    def work(item: int, content: int):
        fail(item, "work")
        return lambda: (fail(item, "write"), item)[1]

    outcomes = list(overlapped(range(4), lambda item: (fail(item, "read"), item)[1], work, PictureError))
    assert [item for item, _ in outcomes] == [0, 1, 2, 3]
    assert [isinstance(outcome, PictureError) for _, outcome in outcomes] == [False, True, False, False]


def test_no_more_than_one_item_is_read_ahead() -> None:
    read: list[int] = []
    for count, _ in enumerate(
        overlapped(
            range(9), lambda item: read.append(item) or item, lambda item, _: lambda: item, PictureError
        )
    ):
        assert len(read) <= count + 3


def test_a_job_knows_its_folder(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png")
    assert gather([tmp_path / "in"], tmp_path / "out").jobs == (
        Job(tmp_path / "in" / "a.png", tmp_path / "out" / "a.png", tmp_path / "out"),
    )
