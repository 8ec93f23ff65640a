"""Evaluation: layouts are understood or refused by name, tables equal the published bicubic rows, reports come back."""

from __future__ import annotations

import io
import json
import math
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from polyres.cli.evaluate import evaluate as evaluate_command
from polyres.cli.evaluate import parse_scales
from polyres.cli.variadic import VariadicCommand, spread
from polyres.data import Pair, find_pairs, read_rgb, resize
from polyres.errors import (
    DataError,
    OutputError,
    PictureError,
    PolyresError,
    ScaleError,
    UnknownNameError,
    UsageError,
)
from polyres.evaluation import BASELINES, Report, Row, evaluate, save_picture
from polyres.files import write_file
from polyres.scale import Scale

TWO, FOUR = Scale.of(2), Scale.of(4)

#: Rows of shared/data/README.md: (scored like a network), (published, by the older route); PSNR and SSIM x2, x3, x4.
BICUBIC_ROWS = {
    "Set5": ("33.673 .9303 30.403 .8689 28.429 .8111", "33.66 .9299 30.39 .8682 28.42 .8104"),
    "Set14": ("30.325 .8699 27.631 .7759 26.088 .7048", "30.24 .8688 27.55 .7742 26.00 .7027"),
    "BSD100": ("29.560 .8434 27.209 .7391 25.961 .6681", "29.56 .8431 27.21 .7385 25.96 .6675"),
}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def put(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {".webp": {"lossless": True}, ".avif": {"quality": 100}}.get(path.suffix, {})
    Image.fromarray(picture).save(path, **options)
    return path


def low(high: np.ndarray, scale: int) -> np.ndarray:
    return resize(high, scale=Fraction(1, scale))


# --- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("high", "low_name", "group", "name"),
    [
        ("Set5/HR/baby.png", "Set5/LR_bicubic/X4/babyx4.png", "Set5", "baby"),
        ("Set5/HR/baby.webp", "Set5/LR_bicubic/X4/baby.bmp", "Set5", "baby"),
        ("Set5/GTmod12/baby.PNG", "Set5/LRbicx4/baby.png", "Set5", "baby"),
        (
            "DIV2K/DIV2K_valid_HR/0801.png",
            "DIV2K/DIV2K_valid_LR_bicubic/X4/0801x4.png",
            "DIV2K_valid",
            "0801",
        ),
        ("Urban/img_001_SRF_4_HR.png", "Urban/img_001_SRF_4_LR.png", "Urban", "img_001"),
        (
            "Set14/image_SRF_4/img_001_SRF_4_HR.png",
            "Set14/image_SRF_4/img_001_SRF_4_LR.png",
            "Set14",
            "img_001",
        ),
        ("Odd/HR/wallx4.png", "Odd/LR_bicubic/X4/wallx4.png", "Odd", "wallx4"),
    ],
)
def test_pairs_are_found_in_the_layouts_of_the_field(tmp_path, high, low_name, group, name):
    picture = noise(50, 61)
    put(tmp_path / high, picture)
    put(tmp_path / low_name, low(picture[:48, :60], 4))
    (tmp_path / high).parent.joinpath("Thumbs.db").write_bytes(b"x")
    root = tmp_path / Path(high).parts[0]
    for folder in (root, tmp_path):  # the set itself, or a folder of sets
        (pair,) = find_pairs(folder, [FOUR])
        assert (pair.group, pair.name, pair.low) == (group, name, tmp_path / low_name)
        made, kept = pair.read()
        assert (made.shape, kept.shape) == ((12, 15, 3), (48, 60, 3))
        np.testing.assert_array_equal(kept, picture[:48, :60])


@pytest.mark.parametrize("ending", ["png", "webp", "avif", "bmp", "tif", "JPG"])
def test_a_plain_folder_gets_low_resolution_made_by_matlabs_rule(tmp_path, ending):
    put(tmp_path / f"wall.{ending}", noise(23, 21))
    (pair,) = find_pairs(tmp_path, [FOUR])
    made, high = pair.read()
    assert high.shape == (20, 20, 3)
    np.testing.assert_array_equal(made, low(high, 4))
    np.testing.assert_array_equal(high, read_rgb(tmp_path / f"wall.{ending}")[:20, :20])


def test_scales_without_a_folder_are_made_and_every_scale_is_listed(tmp_path):
    picture = noise(24, 24)
    put(tmp_path / "Set5/HR/baby.png", picture)
    put(tmp_path / "Set5/LR_bicubic/X2/babyx2.png", low(picture, 2))
    found = find_pairs(tmp_path / "Set5", [TWO, FOUR])
    assert [(str(pair.scale), pair.low is None) for pair in found] == [("2", False), ("4", True)]


def test_rational_scales_crop_to_their_numerator(tmp_path):
    put(tmp_path / "wall.png", noise(24, 23))
    (pair,) = find_pairs(tmp_path, [Scale.of("5/2")])
    made, high = pair.read()
    assert (made.shape, high.shape) == ((8, 8, 3), (20, 20, 3))
    row = evaluate(BASELINES["bicubic"], [pair], with_ssim=False).rows[0]
    assert row.scale == "2.5"
    assert math.isfinite(row.psnr)


def test_unequal_axes_keep_their_own_scale(tmp_path):
    put(tmp_path / "wall.png", noise(26, 31))
    (pair,) = find_pairs(tmp_path, [Scale.of((2, 3))])
    made, high = pair.read()
    assert (made.shape, high.shape) == ((13, 10, 3), (26, 30, 3))
    assert evaluate(BASELINES["bicubic"], [pair], with_ssim=False).rows[0].scale == "2,3"


def test_partners_that_are_missing_are_named(tmp_path):
    for name in ("baby", "bird"):
        put(tmp_path / f"HR/{name}.png", noise(16, 16))
    put(tmp_path / "LR_bicubic/X4/babyx4.png", noise(4, 4))
    with pytest.raises(DataError, match=r"X4.*bird\.png"):
        find_pairs(tmp_path, [FOUR])
    put(tmp_path / "LR_bicubic/X4/birdx4.png", noise(4, 4))
    put(tmp_path / "LR_bicubic/X4/headx4.png", noise(4, 4))
    with pytest.raises(DataError, match=r"HR.*headx4\.png"):
        find_pairs(tmp_path, [FOUR])


def test_twins_are_refused(tmp_path):
    put(tmp_path / "HR/baby.png", noise(16, 16))
    put(tmp_path / "HR/baby.bmp", noise(16, 16))
    with pytest.raises(DataError, match="has the name of another"):
        find_pairs(tmp_path, [FOUR])


@pytest.mark.parametrize("size", [(3, 4), (5, 4), (4, 3)])
def test_sizes_that_do_not_fit_the_scale_name_both_files(tmp_path, size):
    put(tmp_path / "HR/baby.png", noise(17, 19))
    put(tmp_path / "LR_bicubic/X4/babyx4.png", noise(*size))
    (pair,) = find_pairs(tmp_path, [FOUR])
    with pytest.raises(DataError, match=r"babyx4\.png.*baby\.png"):
        pair.read()


@pytest.mark.parametrize("grey", ["HR/baby.png", "LR_bicubic/X4/babyx4.png"])
def test_grey_against_colour_names_both_files(tmp_path, grey):
    picture = noise(16, 20)
    files = {"HR/baby.png": picture, "LR_bicubic/X4/babyx4.png": low(picture, 4)}
    for name, pixels in files.items():
        put(tmp_path / name, pixels[..., 0] if name == grey else pixels)
    (pair,) = find_pairs(tmp_path, [FOUR])
    words = ("is grey", "is in colour") if grey.startswith("LR") else ("is in colour", "is grey")
    with pytest.raises(DataError, match=rf"babyx4\.png' {words[0]}.*baby\.png' {words[1]}"):
        evaluate(BASELINES["bicubic"], [pair])
    put(tmp_path / "HR/baby.png", picture[..., 0])
    put(tmp_path / "LR_bicubic/X4/babyx4.png", low(picture[..., :1].repeat(3, 2), 4))
    made, high = pair.read()  # one channel beside three equal ones is the same picture
    assert (made == made[..., :1]).all()
    assert (high == high[..., :1]).all()


def test_sixteen_bits_beside_eight_are_refused_by_name(tmp_path):
    put(tmp_path / "HR/wall.png", noise(4, 8))
    path = tmp_path / "LR_bicubic/X4/wallx4.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(_png(16, 2, b"\1\2\3\4\5\6" * 2, 2))
    with pytest.raises(PictureError, match=r"wallx4\.png.*16-bit.*8-bit"):
        evaluate(BASELINES["bicubic"], find_pairs(tmp_path, [FOUR]))


def test_folders_without_pictures_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match="no pictures"):
        find_pairs(tmp_path, [FOUR])
    with pytest.raises(DataError, match="not a folder"):
        find_pairs(tmp_path / "notes.txt", [FOUR])
    (tmp_path / "HR").mkdir()
    with pytest.raises(DataError, match="HR"):
        find_pairs(tmp_path, [FOUR])


def test_a_suffix_layout_without_the_scale_says_so(tmp_path):
    put(tmp_path / "img_SRF_4_HR.png", noise(16, 16))
    put(tmp_path / "img_SRF_4_LR.png", noise(4, 4))
    with pytest.raises(DataError, match="_SRF_2_HR"):
        find_pairs(tmp_path, [TWO])


# --- files -----------------------------------------------------------------------------------------------------------


def test_grey_is_repeated(tmp_path):
    grey = noise(5, 6)[..., 0]
    np.testing.assert_array_equal(
        read_rgb(put(tmp_path / "grey.png", grey)), np.repeat(grey[..., None], 3, 2)
    )


def _png(depth: int, kind: int, line: bytes, width: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + line)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def _jpeg(height: int, width: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(noise(height, width)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"no picture at all", "not a picture"),
        (_jpeg(64, 64)[:2000], "cannot be read"),
        (_png(16, 2, b"\1\2\3\4\5\6" * 4, 4), "16-bit"),
        (_png(16, 0, b"\1\2" * 4, 4), "8-bit"),
        (_png(8, 6, b"\1\2\3\4" * 4, 4), "transparency"),
        (None, "no picture at"),
    ],
)
def test_files_unfit_for_measuring_are_refused_by_name(tmp_path, content, what):
    path = tmp_path / "wall.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PictureError, match=what) as caught:
        read_rgb(path)
    assert "wall.png" in str(caught.value)


# --- evaluate --------------------------------------------------------------------------------------------------------


def _rows(text: str) -> list[tuple[float, float]]:
    numbers = [float(word) for word in text.split()]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


SETS = ["Set5", *(pytest.param(name, marks=pytest.mark.slow) for name in ("Set14", "BSD100"))]


@pytest.mark.parametrize("group", SETS)
@pytest.mark.parametrize(
    ("route", "place", "decibel", "ssim"), [("rgb", 0, 0.0006, 6e-5), ("y8", 1, 0.01, 1e-3)]
)
def test_the_published_bicubic_rows(shared: Path, group, route, place, decibel, ssim):
    pairs = find_pairs(shared / "data" / "bench" / group, [Scale.of(s) for s in (2, 3, 4)])
    report = evaluate(BASELINES["bicubic"], pairs, route=route)
    for mean, expected in zip(report.means(), _rows(BICUBIC_ROWS[group][place]), strict=True):
        assert mean.psnr == pytest.approx(expected[0], abs=decibel), mean.scale
        assert mean.ssim == pytest.approx(expected[1], abs=ssim), mean.scale


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    folder = tmp_path / "walls"
    for seed, name in enumerate(("brick", "stone")):
        put(folder / f"{name}.png", resize(noise(8, 9, seed), size=(32, 36)))
    return find_pairs(folder, [TWO, FOUR])


def test_a_report_lists_every_picture_and_its_means(pairs):
    seen = []
    report = evaluate(
        BASELINES["bicubic"], pairs, name="mine", on_picture=lambda row, result: seen.append((row, result))
    )
    keys = [(row.group, row.scale, row.picture) for row in report.rows]
    assert keys == [("walls", s, p) for s in ("2", "4") for p in ("brick", "stone")]
    assert [row for row, _ in seen] == list(report.rows)
    assert all(r.shape == (32, 36, 3) and r.dtype == np.uint8 for _, r in seen)
    first = report.means()[0]
    assert (first.model, first.count) == ("mine", 2)
    assert first.psnr == pytest.approx((report.rows[0].psnr + report.rows[1].psnr) / 2)
    assert report.protocol == "paper-y"
    assert "BT.601" in report.definition


def test_the_better_upscaler_scores_higher(pairs):
    good, bad = (evaluate(BASELINES[name], pairs).means()[0] for name in ("bicubic", "nearest"))
    assert good.psnr > bad.psnr
    assert good.ssim > bad.ssim


def test_ssim_may_be_left_out(pairs):
    report = evaluate(BASELINES["bicubic"], pairs, with_ssim=False)
    assert report.rows[0].ssim is None
    assert report.means()[0].ssim is None


def test_what_cannot_be_evaluated_is_refused(pairs):
    with pytest.raises(DataError, match="empty"):
        evaluate(BASELINES["bicubic"], [])
    with pytest.raises(DataError, match=r"brick\.png.*both called brick"):
        evaluate(BASELINES["bicubic"], [pairs[0], Pair(**vars(pairs[0]))])
    with pytest.raises(DataError, match=r"brick\.png' at scale 2.*shape"):
        evaluate(lambda low, scale: low / 255, pairs)
    with pytest.raises(UsageError, match="y8"):
        evaluate(lambda low, scale: low / 255, pairs, route="y8")
    with pytest.raises(UsageError, match="luma"):
        evaluate(BASELINES["bicubic"], pairs, "rgb", route="y8")
    with pytest.raises(UnknownNameError, match="route"):
        evaluate(BASELINES["bicubic"], pairs, route="y9")


def test_reports_survive_json_and_join_only_by_the_same_rules(pairs):
    report = evaluate(BASELINES["bicubic"], pairs)
    assert Report.from_json(report.to_json()) == report
    perfect = report.model_copy(
        update={"rows": (Row(model="m", group="g", scale="2", picture="p", psnr=math.inf, ssim=1.0),)}
    )
    assert json.loads(perfect.to_json())["rows"][0]["psnr"] == "Infinity"
    assert Report.from_json(perfect.to_json()).means()[0].psnr == math.inf
    assert len(Report.joined([report, perfect]).rows) == len(report.rows) + 1
    with pytest.raises(DataError, match=r"paper-y.*rgb"):
        Report.joined([report, evaluate(BASELINES["bicubic"], pairs, "rgb")])
    with pytest.raises(DataError):
        Report.joined([])
    for broken in ("{", "{}", report.to_json().replace('"psnr"', '"psrn"')):
        with pytest.raises(DataError, match="no report"):
            Report.from_json(broken)


def test_a_network_is_called_as_models_are(pairs):
    torch = pytest.importorskip("torch")
    from polyres.evaluation.models import model_upscaler

    class Nearest(torch.nn.Module):
        def forward(self, image, scale):
            assert (image.dtype, image.shape[:2], image.min() >= 0, image.max() <= 1) == (
                torch.float32,
                (1, 3),
                1,
                1,
            )
            assert not self.training
            assert not torch.is_grad_enabled()
            factor = int(Scale.of(scale).y)
            return image.repeat_interleave(factor, 2).repeat_interleave(factor, 3)

    network, baseline = (evaluate(u, pairs) for u in (model_upscaler(Nearest()), BASELINES["nearest"]))
    assert [row.psnr for row in network.rows] == [row.psnr for row in baseline.rows]

    class Flat(torch.nn.Module):
        def forward(self, image, scale):
            return image[:, :1]

    with pytest.raises(DataError, match=r"\(1, 3, H, W\)"):
        evaluate(model_upscaler(Flat()), pairs)
    with pytest.raises(UsageError, match="no model can run on device 'abacus'"):
        model_upscaler(torch.nn.Linear(1, 1), "abacus")


def test_nothing_but_the_models_imports_torch():
    code = "import sys, polyres.evaluation, polyres.cli.evaluate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_results_are_kept_inside_the_folder_and_whole(tmp_path):
    row = Row(model="../../x/net.pth", group="Set5", scale="7/3", picture="baby", psnr=1.0)
    path = save_picture(tmp_path / "out", row, noise(4, 4))
    assert path.resolve().is_relative_to((tmp_path / "out").resolve())
    np.testing.assert_array_equal(read_rgb(path), noise(4, 4))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_file(tmp_path / "file" / "out.json", b"x")
    with pytest.raises(OutputError):
        write_file(tmp_path / "out", b"a folder is there already")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "out"]


# --- the command -----------------------------------------------------------------------------------------------------

app = typer.Typer()
app.command(cls=VariadicCommand)(evaluate_command)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("scales", [["2", "4"], ["2,4"], ["2", "--scales", "4"], ["2", "4", "2.0"]])
def test_the_command_prints_a_table_for_each_scale_and_the_definition_once(pairs, scales):
    folder = pairs[0].high.parent
    text = run("--scales", *scales, "--model", "bicubic", "nearest", "--data", folder)
    assert text.index("walls ×2 · paper-y") < text.index("walls ×4 · paper-y")
    assert text.count("walls ×") == 2
    assert text.count("nearest") == 2
    assert text.count("BT.601") == 1
    mean = evaluate(BASELINES["nearest"], pairs).means()[1]
    assert f"{mean.psnr:.3f}" in text
    assert f"{mean.ssim:.4f}" in text


def test_a_table_names_a_route_that_is_not_the_usual_one(pairs):
    text = run("--data", pairs[0].high.parent, "--scales", 2, "--model", "bicubic", "--route", "y8")
    assert "walls ×2 · paper-y, route y8" in text


def test_the_command_writes_json_and_pictures(pairs, tmp_path):
    folder, out = pairs[0].high.parent, tmp_path / "results"
    options = ("--data", folder, "--scales", 4, "--json", out / "r.json", "--save-pictures", out / "p")
    text = run("--model", "bicubic", *options, "--protocol", "rgb", "--per-picture")
    report = Report.from_json((out / "r.json").read_text())
    assert report.protocol == "rgb"
    assert [row.picture for row in report.rows] == ["brick", "stone"]
    assert all(f"{row.psnr:.3f}" in text for row in report.rows)
    kept = read_rgb(out / "p" / "bicubic" / "walls" / "x4" / "brick.png")
    np.testing.assert_array_equal(kept, resize(pairs[2].read()[0], scale=4))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--scales", "abc"], ScaleError),
        (["--scales", "0"], ScaleError),
        (["--scales", "1/2"], ScaleError),
        (["--scales", "2,"], ScaleError),
        (["--protocol", "papery"], UnknownNameError),
        (["--route", "y9"], UnknownNameError),
        (["--data", "/nowhere"], DataError),
    ],
)
def test_the_command_refuses_bad_requests(pairs, options, error):
    with pytest.raises(error) as caught:
        run("--data", pairs[0].high.parent, "--model", "bicubic", *options)
    assert isinstance(caught.value, PolyresError)
    assert "\n" not in str(caught.value)


def test_scales_are_read_in_order_once_each():
    assert parse_scales(["4,2.5", "5/2", "3"]) == [Scale.of(4), Scale.of("5/2"), Scale.of(3)]


def test_values_in_a_row_belong_to_the_option_before_them():
    words = ["--scales", "2", "3", "--json", "out", "--data", "a", "b", "--x"]
    spread_out = ["--scales", "2", "--scales", "3", "--json", "out", "--data", "a", "--data", "b", "--x"]
    assert spread(words, ["--scales", "--data"]) == spread_out
