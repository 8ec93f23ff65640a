"""``polyres upscale``: where results go, what is refused before the work, and the exit statuses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import polyres.cli
from polyres.errors import OutputError, UsageError
from polyres.model import ModelConfig, build
from polyres.pictures import FORMATS, Picture, read_picture, write_picture
from polyres.upscale import batch as batch_module
from polyres.upscale.batch import Job, gather
from polyres.weights import save


def put(path: Path, height: int = 8, width: int = 10, channels: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    write_picture(Picture(values), path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---- results ---------------------------------------------------------------------------------------------------


def test_a_result_lies_beside_its_input(tmp_path: Path, upscale) -> None:
    put(tmp_path / "photo.jpg")
    status, out, err = upscale(tmp_path / "photo.jpg", "-s", 3)
    assert (status, err) == (0, "")
    assert "photo_x3.jpg  10x8 to 30x24" in out
    assert names(tmp_path) == ["photo.jpg", "photo_x3.jpg"]
    assert read_picture(tmp_path / "photo_x3.jpg").pixels.shape == (24, 30, 3)


@pytest.mark.parametrize("name", sorted(name for name, entry in FORMATS.items() if entry.by_default))
def test_every_format_comes_out_as_it_went_in(tmp_path: Path, upscale, name: str) -> None:
    source = put(tmp_path / f"photo{FORMATS[name].suffixes[0]}")
    assert upscale(source)[0] == 0
    assert read_picture(source.with_stem("photo_x2")).format == name


def test_what_is_not_written_becomes_png(tmp_path: Path, upscale) -> None:
    from PIL import Image

    Image.new("RGB", (5, 4)).save(tmp_path / "still.ppm")
    assert upscale(tmp_path / "still.ppm")[0] == 0
    assert "still_x2.png" in names(tmp_path)


def test_scale_in_the_name_is_fit_for_a_file(tmp_path: Path, upscale) -> None:
    source = put(tmp_path / "photo.png", 9, 9)
    assert upscale(source, "-s", "7/3")[0] == 0
    assert read_picture(tmp_path / "photo_x7-3.png").pixels.shape == (21, 21, 3)


def test_an_output_with_a_suffix_is_the_file(tmp_path: Path, upscale) -> None:
    source = put(tmp_path / "photo.png")
    assert upscale(source, "-o", tmp_path / "new" / "big.webp")[0] == 0
    assert read_picture(tmp_path / "new" / "big.webp").format == "webp"


def test_folders_files_and_trees_go_into_one_folder(tmp_path: Path, upscale) -> None:
    put(tmp_path / "in" / "a.png")
    put(tmp_path / "in" / "deep" / "b.PNG")
    put(tmp_path / "c.jpg")
    out = tmp_path / "out"
    assert (
        upscale(tmp_path / "in", tmp_path / "c.jpg", "-o", out, "-r", "-f", "webp", "--suffix", "_new")[0]
        == 0
    )
    assert names(out) == ["a_new.webp", "c_new.webp", "deep/b_new.webp"]


def test_a_folder_alone_gets_a_folder_beside_it_without_junk(tmp_path: Path, upscale) -> None:
    put(tmp_path / "in" / "a.png")
    put(tmp_path / "in" / "deep" / "b.png")
    put(tmp_path / "in" / ".hidden.png")
    for junk in ("Thumbs.db", ".DS_Store", "notes.txt"):
        (tmp_path / "in" / junk).write_text("junk")
    assert upscale(tmp_path / "in")[0] == 0
    assert names(tmp_path / "in_x2") == ["a_x2.png"]


def test_the_results_of_an_earlier_run_are_no_inputs(tmp_path: Path, upscale) -> None:
    put(tmp_path / "in" / "a.png")
    for _ in range(2):
        assert upscale(tmp_path / "in", "-r", "-o", tmp_path / "in" / "out")[0] == 0
    assert names(tmp_path / "in") == ["a.png", "out/a_x2.png"]


def test_tiles_do_not_show(tmp_path: Path, upscale) -> None:
    source = put(tmp_path / "photo.png", 40, 50)
    for tile in ("0", "16", "auto"):
        assert upscale(source, "-t", tile, "-o", tmp_path / f"{tile}.png", "--precision", "float32")[0] == 0
    first, *others = (read_picture(tmp_path / f"{tile}.png").pixels for tile in ("0", "16", "auto"))
    assert all((first == other).all() for other in others)


def test_verbose_tells_the_plan(tmp_path: Path, upscale) -> None:
    source = put(tmp_path / "photo.png", 40, 50)
    _, _, err = upscale(source, "-s", 2.5, "-t", 16, "-v", "--precision", "float32", "--device", "cpu")
    assert "x2.5 by the network; about " in err
    assert "MB of memory; 12 tiles of 16x16" in err
    assert "exact; torch, float32 on cpu" in err


# ---- some fail -------------------------------------------------------------------------------------------------


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path, upscale) -> None:
    for name in ("a.png", "z.png"):
        put(tmp_path / "in" / name)
    (tmp_path / "in" / "m.png").write_text("no picture")
    put(tmp_path / "in" / "thin.png", 1, 9)
    status, out, err = upscale(tmp_path / "in", tmp_path / "missing.png")
    assert status == 2
    assert out.count("10x8 to 20x16") == 2
    assert "9x1 to 18x2" in out
    assert "3 of 5 done, 2 failed" in err
    assert "not a picture" in err
    assert "no such file" in err
    assert names(tmp_path / "in_x2") == ["a_x2.png", "thin_x2.png", "z_x2.png"]


def test_nothing_done_is_status_1(tmp_path: Path, upscale) -> None:
    status, _, err = upscale(tmp_path / "a.png", tmp_path / "b.png")
    assert status == 1
    assert "0 of 2 done, 2 failed" in err


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing.png", None, "no such file"),
        ("text.png", b"hello", "not a picture"),
        ("empty.png", b"", "the file is empty"),
    ],
)
def test_a_single_failure_is_one_line(
    tmp_path: Path, upscale, name: str, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    before = names(tmp_path)
    status, out, err = upscale(tmp_path / name)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert reason in err
    assert names(tmp_path) == before


def test_a_truncated_jpeg_is_refused(tmp_path: Path, upscale) -> None:
    content = put(tmp_path / "photo.jpg", 200, 200).read_bytes()
    (tmp_path / "photo.jpg").write_bytes(content[: len(content) // 2])
    status, _, err = upscale(tmp_path / "photo.jpg")
    assert (status, err.count("\n")) == (1, 1)
    assert "photo.jpg: damaged, cut short" in err
    assert names(tmp_path) == ["photo.jpg"]


def test_damaged_metadata_is_no_noise(tmp_path: Path, upscale, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "photo.tif").write_bytes(b"II*\0" + b"\1" * 30)
    assert upscale(tmp_path / "photo.tif")[0] == 1
    assert not [warning for warning in recwarn if "PIL" in warning.filename]


def test_a_folder_without_pictures_is_an_error(tmp_path: Path, upscale) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").touch()
    status, _, err = upscale(tmp_path / "in")
    assert (status, err.count("\n")) == (1, 1)
    assert "the folder holds no pictures" in err


def test_larger_pictures_than_allowed_are_refused(tmp_path: Path, upscale) -> None:
    status, _, err = upscale(put(tmp_path / "photo.png", 40, 50), "--max-megapixels", "0.001")
    assert status == 1
    assert "at most 0.001 are read" in err


# ---- wrong requests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["0", "-1", "abc", "100", "nan", "1/0"])
def test_scales_that_do_not_exist(tmp_path: Path, upscale, scale: str) -> None:
    status, _, err = upscale(put(tmp_path / "photo.png"), f"--scale={scale}")
    assert (status, err.count("\n")) == (2, 1)
    assert "a scale is" in err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("-t", "big"), "--tile is a number"),
        (("-f", "xyz"), "no picture format is called"),
        (("--precision", "half"), "--precision is one of"),
        (("--device", "abacus"), "--device abacus is not there"),
        (("--suffix", "../x"), "has no slashes"),
        (("-o", "out.png", "-f", "jpeg"), "contradict each other"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, upscale, words: tuple[str, ...], reason: str) -> None:
    status, _, err = upscale(put(tmp_path / "photo.png"), *words)
    assert (status, err.count("\n")) == (2, 1)
    assert reason in err
    assert names(tmp_path) == ["photo.png"]


def test_a_scale_that_the_model_cannot_make_ends_the_run(tmp_path: Path, polyres_command) -> None:
    encoder = {"name": "edsr", "options": {"channels": 4, "blocks": 1}}
    upsampler = {"name": "spconv", "options": {"scales": [2]}}
    save(
        build(ModelConfig.model_validate({"encoder": encoder, "upsampler": upsampler})),
        tmp_path / "m.safetensors",
    )
    sources = [put(tmp_path / name) for name in ("a.png", "b.png")]
    status, _, err = polyres_command("upscale", *sources, "-s", 3, "-n", tmp_path / "m.safetensors")
    assert (status, err.count("\n")) == (2, 1)
    assert "weights for x2, not for x3" in err


def test_unknown_models_are_told(tmp_path: Path, polyres_command) -> None:
    status, _, err = polyres_command("upscale", put(tmp_path / "photo.png"), "-n", "defualt")
    assert (status, err.count("\n")) == (2, 1)
    assert "defualt" in err


def test_a_folder_that_cannot_be_made_is_told_before_the_work(tmp_path: Path, upscale) -> None:
    (tmp_path / "file").touch()
    status, out, err = upscale(put(tmp_path / "photo.png"), "-o", tmp_path / "file" / "out")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "cannot be made a folder" in err


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path: Path, monkeypatch) -> None:
    batch = gather([put(tmp_path / "photo.png")], tmp_path / "out")
    monkeypatch.setattr(batch_module.os, "access", lambda folder, mode: False)  # tests may run as root
    with pytest.raises(OutputError, match="the folder cannot be written"):
        batch_module.prepare_folders(batch)


# ---- where results go ------------------------------------------------------------------------------------------


def test_inputs_are_never_replaced(tmp_path: Path) -> None:
    source = put(tmp_path / "photo.png")
    (tmp_path / "link.png").symlink_to(source)
    for output in (tmp_path, source, tmp_path / "link.png"):
        with pytest.raises(UsageError, match="would replace the input"):
            gather([source], output)


def test_two_inputs_never_become_one_file(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png")
    put(tmp_path / "in" / "a.jpg")
    with pytest.raises(UsageError, match="would both become"):
        gather([tmp_path / "in"], tmp_path / "out", target_format=FORMATS["png"])
    assert len(gather([tmp_path / "in"], tmp_path / "out").jobs) == 2


def test_an_input_given_twice_is_done_once(tmp_path: Path) -> None:
    source = put(tmp_path / "photo.png")
    assert gather([source, source], suffix="_x2").jobs == (Job(source, tmp_path / "photo_x2.png"),)


def test_several_inputs_need_a_folder(tmp_path: Path) -> None:
    first, second = put(tmp_path / "in" / "a.png"), put(tmp_path / "in" / "b.png")
    with pytest.raises(UsageError, match="several inputs need a folder"):
        gather([first, second], tmp_path / "out.png")
    with pytest.raises(UsageError, match="--output must be a folder"):
        gather([tmp_path / "in"], tmp_path / "out.png")
    (tmp_path / "out.png").mkdir()  # a folder may be called what it likes
    assert len(gather([first, second], tmp_path / "out.png").jobs) == 2


def test_the_folder_that_one_is_in_has_a_name(tmp_path: Path, monkeypatch) -> None:
    put(tmp_path / "in" / "a.png")
    monkeypatch.chdir(tmp_path / "in")
    assert gather([Path()], suffix="_x2").jobs[0].target.resolve() == tmp_path / "in_x2" / "a_x2.png"


def test_names_of_any_kind(tmp_path: Path, upscale) -> None:
    for name in ("ünï çødé 🖼.png", "a[b]c.png", "two..dots.png", "-dash.png", "x" * 251 + ".png"):
        shutil.copy(put(tmp_path / "in" / "first.png"), tmp_path / "in" / name)
    status, _, err = upscale(tmp_path / "in")
    assert (status, err) == (0, "")
    assert len(names(tmp_path / "in_x2")) == 6
    longest = max(names(tmp_path / "in_x2"), key=len)  # had no room left for a suffix
    assert len(longest) == 255
    assert longest.startswith("x" * 200)
    assert longest.endswith("_x2.png")


# ---- the program -----------------------------------------------------------------------------------------------


def test_help_loads_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from polyres.cli import app\n"
        "result = CliRunner().invoke(app, ['upscale', '--help'])\n"
        "assert result.exit_code == 0 and 'Enlarge pictures' in result.output\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules), 'the help loads what it does not need'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_interruption_leaves_nothing_half_written(tmp_path: Path, upscale, monkeypatch) -> None:
    source = put(tmp_path / "photo.png")

    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("polyres.pictures.writing.encode_picture", interrupt)
    assert upscale(source)[0] == 130
    assert names(tmp_path) == ["photo.png"]


def test_no_input_is_a_wrong_request() -> None:
    assert CliRunner().invoke(polyres.cli.app, ["upscale"]).exit_code == 2
