"""Runs of `polyres evaluate`: several pictures at a time, resumed, tabled, beside published rows."""

from __future__ import annotations

import csv
import io
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from polyres.cli.evaluate import evaluate as evaluate_command
from polyres.cli.variadic import VariadicCommand
from polyres.data import Pair, find_pairs, resize
from polyres.errors import CheckpointError, ConfigError, DataError, UnknownNameError, UsageError
from polyres.evaluation import BASELINES, Report, Row, evaluate
from polyres.evaluation.contenders import Contender, Settings, find_contender, refuse_clashes
from polyres.evaluation.judges import read_judges
from polyres.evaluation.pipeline import in_order, longest_first, worker_count
from polyres.evaluation.published import choose, read_published, sources
from polyres.evaluation.tables import to_csv, to_latex, to_markdown
from polyres.evaluation.wrapping import Wrapped, ensemble
from polyres.scale import Scale

TWO, FOUR = Scale.of(2), Scale.of(4)
app = typer.Typer()
app.command(cls=VariadicCommand)(evaluate_command)


def run(*arguments: object) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


@pytest.fixture
def walls(tmp_path: Path) -> Path:
    folder = tmp_path / "walls"
    folder.mkdir()
    for seed, name in enumerate(("brick", "stone", "wood")):
        small = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(resize(small, size=(32, 36))).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def pairs(walls: Path) -> list[Pair]:
    return find_pairs(walls, [TWO, FOUR])


# --- several at a time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_tasks(workers: int) -> None:
    first_waits = threading.Event()

    def work(number: int) -> int:
        if workers > 1 and number == 0:
            assert first_waits.wait(10)  # set by a later task: they do run side by side
        first_waits.set()
        return number * number

    assert list(in_order(range(9), work, workers)) == [n * n for n in range(9)]


def test_the_first_error_comes_in_its_place_and_ends_the_work() -> None:
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise DataError("three")
        return number

    taken: list[int] = []
    with pytest.raises(DataError, match="three"):
        taken.extend(in_order(range(100), work, 2))
    assert taken == [0, 1, 2]
    assert len(begun) < 12


def test_large_pictures_come_first_and_rows_as_listed(walls: Path) -> None:
    Image.new("RGB", (64, 48)).save(walls / "tower.png")
    pairs = find_pairs(walls, [FOUR, TWO])
    assert {(pairs[place].name, str(pairs[place].scale)) for place in longest_first(pairs)[:1]} == {
        ("tower", "2")
    }
    seen: list[str] = []
    report = evaluate(
        BASELINES["nearest"], pairs, workers=2, on_picture=lambda row, _: seen.append(row.picture)
    )
    assert seen[0] == "tower"
    assert [(row.picture, row.scale) for row in report.rows] == [(p.name, str(p.scale)) for p in pairs]
    (walls / "wood.png").write_bytes(b"no picture")
    assert pairs[longest_first(pairs)[0]].name == "wood"


class Counting:
    """An upscaler that notes how many threads are in it at a time."""

    def __init__(self) -> None:
        self.inside, self.most, self.threads, self.lock = 0, 0, set(), threading.Lock()

    def __call__(self, low: np.ndarray, scale: Scale) -> np.ndarray:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.threads.add(threading.get_ident())
        result = BASELINES["bicubic"](low, scale)
        time.sleep(0.01)  # long enough for another thread to come in
        with self.lock:
            self.inside -= 1
        return result


class Sharing(Counting):
    @contextmanager
    def shared(self, workers: int) -> Iterator[Counting]:
        self.workers = workers
        yield self


def test_only_what_threads_may_share_leaves_the_callers_thread(pairs: list[Pair]) -> None:
    own, common = Counting(), Sharing()
    reports = [evaluate(each, pairs, workers=3) for each in (own, common)]
    assert reports[0].rows == reports[1].rows
    assert own.threads == {threading.get_ident()}
    assert common.workers == 3
    assert threading.get_ident() not in common.threads
    assert worker_count(common, None) >= 1
    wrapped = Counting()
    assert evaluate(Wrapped(wrapped, lambda inner: inner), pairs, workers=3).rows == reports[0].rows
    assert wrapped.most == 1


def test_no_thread_waits_for_the_first_picture_of_a_scale(pairs: list[Pair]) -> None:
    import polyres
    from polyres.evaluation.models import model_upscaler

    model, both = polyres.load("default"), threading.Barrier(2)

    def meet(*_: object) -> None:
        both.wait(60)  # broken unless two come together

    model.encoder.register_forward_pre_hook(meet)
    assert len(evaluate(model_upscaler(model), pairs[:2], workers=2).rows) == 2


def test_networks_give_the_same_numbers_however_many_threads(pairs: list[Pair]) -> None:
    torch = pytest.importorskip("torch")
    import polyres
    from polyres.evaluation.models import model_upscaler

    before, seen = torch.get_num_threads(), []
    upscale = model_upscaler(polyres.load("default"))
    try:
        torch.set_num_threads(2)
        alone, together = (evaluate(upscale, pairs, workers=n) for n in (1, 3))
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
    finally:
        torch.set_num_threads(before)
    assert seen == [2]  # threads that come after have as many as before
    for a, b in zip(alone.rows, together.rows, strict=True):
        assert a.key == b.key
        assert a.psnr == pytest.approx(b.psnr, abs=1e-3)


# --- the self-ensemble -----------------------------------------------------------------------------------------------


def test_the_ensemble_is_the_mean_over_the_dihedral_group() -> None:
    def uneven(low: np.ndarray, scale: Scale) -> np.ndarray:
        tall = low.astype(np.float64).repeat(int(scale.y), 0).repeat(int(scale.x), 1)
        return tall * np.linspace(0, 1, tall.shape[1])[None, :, None]  # brighter to the right

    low = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    plain = low.astype(np.float64).repeat(2, 0).repeat(3, 1)
    result = ensemble(uneven)(low, Scale.of((2, 3)))
    np.testing.assert_allclose(result, plain / 2)  # a ramp and its mirror image average to a half


def test_the_ensemble_leaves_an_equivariant_upscaler_alone() -> None:
    low = np.random.default_rng(0).integers(0, 256, (7, 6, 3), dtype=np.uint8)
    plain = BASELINES["nearest"](low, TWO)
    np.testing.assert_allclose(ensemble(BASELINES["nearest"])(low, TWO), plain, atol=1e-15)


# --- contenders ------------------------------------------------------------------------------------------------------


def test_labels_settings_and_files_make_a_contender(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import polyres
    from polyres.weights import resolve

    plain = find_contender("default", Settings())
    cut = find_contender("mine=default", Settings(quadrants=True, ensemble=True))
    assert (plain.label, cut.label) == ("default", "mine, in quadrants, ×8 ensemble")
    assert plain.fingerprint != cut.fingerprint
    assert plain.supports(Scale.of("5/2"))
    assert not cut.supports(Scale.of("5/2"))
    copy = tmp_path / "a=b.safetensors"
    copy.write_bytes(resolve("default").read_bytes())
    assert find_contender(str(copy), Settings()).fingerprint == plain.fingerprint
    polyres.save(polyres.load("default"), copy)
    assert find_contender(str(copy), Settings()).fingerprint != plain.fingerprint
    kernel = find_contender("bicubic", Settings(quadrants=True))
    assert (kernel.label, kernel.upscale) == ("bicubic", BASELINES["bicubic"])


def test_options_go_to_the_checkpoints_that_need_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    import polyres.weights

    own, given, original = polyres.load("default"), {}, tmp_path / "net.pth"
    torch.save({"params": {"weight": torch.zeros(1)}}, original)
    monkeypatch.setattr(
        polyres.weights, "load", lambda name, network_g: given.update({name: network_g}) or own
    )
    settings = Settings(networks={"": {"type": "A"}, "mine": {"type": "B"}})
    for text in ("default", str(original)):
        find_contender(text, settings)
    assert given == {"default": None, str(original): {"type": "A"}}
    find_contender(f"mine={original}", settings)
    assert given[str(original)] == {"type": "B"}


def test_models_that_clash_or_make_no_scale_are_refused() -> None:
    def contender(label: str, *scales: Scale) -> Contender:
        return Contender(label, BASELINES["bicubic"], lambda scale: scale in scales, "")

    refuse_clashes([contender("net", TWO), contender("net", FOUR)], [TWO, FOUR])
    with pytest.raises(UsageError, match="'net' at scale 2"):
        refuse_clashes([contender("net", TWO), contender("net", TWO, FOUR)], [TWO, FOUR])
    with pytest.raises(UsageError, match="none of the scales 2"):
        refuse_clashes([contender("net", FOUR)], [TWO])


def test_an_onnx_file_is_measured_at_its_own_scale(pairs: list[Pair], walls: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="nearest", nearest_mode="floor",
                            coordinate_transformation_mode="asymmetric")  # fmt: skip
    shapes = [helper.make_tensor_value_info(name, real, [1, 3, None, None]) for name in "xy"]
    factors = helper.make_tensor("s", real, [4], [1, 1, 2, 2])
    graph = helper.make_graph([node], "nearest", shapes[:1], shapes[1:], [factors])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "nearest.onnx"
    path.write_bytes(model.SerializeToString())
    _, told = run("--data", walls, "--scales", 2, 4, "--model", path, "--json", tmp_path / "r.json")
    assert "not measured at ×4" in told
    report = Report.from_json((tmp_path / "r.json").read_text())
    expected = evaluate(BASELINES["nearest"], [pair for pair in pairs if pair.scale == TWO])
    assert [row.psnr for row in report.rows] == [row.psnr for row in expected.rows]
    with pytest.raises(UsageError, match="CPU"):
        find_contender(str(path), Settings(device="cuda"))


def metric_file(path: Path, operator: str = "Sub") -> Path:
    """An ONNX file: mean absolute difference of two pictures."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node(operator, ["a", "b"], ["d"]),
        helper.make_node("Abs", ["d"], ["e"]),
        helper.make_node("ReduceMean", ["e"], ["m"], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info(name, real, [1, 3, None, None]) for name in "ab"]
    outputs = [helper.make_tensor_value_info("m", real, [])]
    model = helper.make_model(
        helper.make_graph(nodes, "mae", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path.write_bytes(model.SerializeToString())
    return path


def test_metrics_from_onnx_files_stand_beside_the_others(walls: Path, tmp_path: Path) -> None:
    file, out = metric_file(tmp_path / "mae.onnx"), tmp_path / "r"
    arguments = ("--data", walls, "--scales", 4, "--model", "nearest", "--json", out / "r.json")
    text, _ = run(
        *arguments, "--perceptual", f"MAE={file}", "--csv", out / "r.csv", "--markdown", out / "r.md"
    )
    (pair, *_) = find_pairs(walls, [FOUR])
    low, high = pair.read()
    error = np.abs(BASELINES["nearest"](low, FOUR) - high / 255)[4:-4, 4:-4].mean()
    report = Report.from_json((out / "r.json").read_text())
    assert report.rows[0].extra == {"MAE": pytest.approx(error, abs=1e-6)}
    mean = np.mean([row.extra["MAE"] for row in report.rows])
    assert f"{mean:.4f}" in text
    assert "MAE: the network in mae.onnx (SHA-256" in text
    assert f" / {mean:.4f} |" in (out / "r.md").read_text()
    assert "PSNR (dB) / SSIM / MAE." in (out / "r.md").read_text()
    assert float(next(csv.DictReader((out / "r.csv").open()))["MAE"]) == report.rows[0].extra["MAE"]
    metric_file(file, "Add")  # another metric by the same name
    with pytest.raises(DataError, match="other rules"):
        run(*arguments, "--perceptual", f"MAE={file}")


@pytest.mark.parametrize(
    ("text", "error", "what"),
    [
        ("ssim={}", UsageError, "name of its own"),
        ("a/b={}", UsageError, "name of its own"),
        ("gone.onnx", CheckpointError, "no file"),
        ("bad={}.txt", CheckpointError, "no ONNX network"),
    ],
)
def test_metric_files_that_are_wrong_are_refused(tmp_path: Path, text: str, error: type, what: str) -> None:
    file = metric_file(tmp_path / "mae.onnx")
    (tmp_path / "mae.onnx.txt").write_text("no network")
    with pytest.raises(error, match=what):
        read_judges([text.format(file)])


def test_metrics_from_files_need_colour(walls: Path, pairs: list[Pair], tmp_path: Path) -> None:
    judges = read_judges([str(metric_file(tmp_path / "mae.onnx"))])
    assert judges[0].name == "mae"
    with pytest.raises(UsageError, match="leave them out with route y8"):
        evaluate(BASELINES["bicubic"], pairs, route="y8", judges=judges)


# --- resumed runs ----------------------------------------------------------------------------------------------------


def test_a_run_goes_on_where_it_was_cut_off(walls: Path, tmp_path: Path) -> None:
    arguments = ("--data", walls, "--scales", 2, 4, "--model", "bicubic", "nearest", "--json")
    run(*arguments, tmp_path / "whole.json")
    whole = Report.from_json((tmp_path / "whole.json").read_text())
    part = whole.model_copy(update={"rows": whole.rows[:2] + whole.rows[7:9]})
    (tmp_path / "part.json").write_text(part.to_json())
    _, told = run(*arguments, tmp_path / "part.json")
    assert "4 of 12 pictures were measured before" in told
    assert (tmp_path / "part.json").read_text() == (tmp_path / "whole.json").read_text()


def test_an_interrupted_run_leaves_what_it_measured(
    walls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polyres.evaluation.routes import ROUTES

    original, calls = ROUTES["rgb"].measure, []

    def failing(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setitem(ROUTES, "rgb", type(ROUTES["rgb"])("rgb", ROUTES["rgb"].definition, failing))
    arguments = ["--data", walls, "--scales", 2, "--model", "bicubic", "--workers", 1]
    CliRunner().invoke(app, [str(a) for a in [*arguments, "--json", tmp_path / "r.json"]])
    assert len(Report.from_json((tmp_path / "r.json").read_text()).rows) == 2


def test_what_has_changed_is_measured_again(walls: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    arguments = ("--data", walls, "--scales", 2, "--model", "bicubic", "--json", path)
    run(*arguments)
    report = Report.from_json(path.read_text())
    other = [row.model_copy(update={"made_by": "another", "psnr": 1.0}) for row in report.rows]
    path.write_text(report.model_copy(update={"rows": tuple(other)}).to_json())
    _, told = run(*arguments)
    assert "bicubic: has changed" in told
    assert Report.from_json(path.read_text()) == report
    Image.fromarray(np.full((32, 36, 3), 7, np.uint8)).save(walls / "stone.png")
    _, told = run(*arguments)
    assert "2 of 3 pictures" in told
    assert Report.from_json(path.read_text()).rows[1].psnr == math.inf


def test_missing_metrics_and_pictures_are_made_up_for(walls: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    arguments = ("--data", walls, "--scales", 2, "--model", "bicubic", "--json", path)
    run(*arguments, "--metrics", "psnr")
    assert Report.from_json(path.read_text()).rows[0].ssim is None
    _, told = run(*arguments)
    assert "measured before" not in told
    assert Report.from_json(path.read_text()).rows[0].ssim is not None
    run(*arguments, "--save-pictures", tmp_path / "p")
    assert len(list((tmp_path / "p").rglob("*.png"))) == 3
    run("--data", walls, "--scales", 4, "--model", "bicubic", "--json", path)
    assert [row.scale for row in Report.from_json(path.read_text()).rows] == ["2"] * 3 + ["4"] * 3


def test_a_file_by_other_rules_is_refused_and_left_alone(walls: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    arguments = ("--data", walls, "--scales", 2, "--model", "bicubic", "--json", path)
    run(*arguments)
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"r\.json.*paper-y.*rgb"):
        run(*arguments, "--protocol", "rgb")
    assert path.read_bytes() == before
    path.write_text("{}")
    with pytest.raises(DataError, match=r"r\.json.*no report"):
        run(*arguments)


def test_a_protocol_from_a_file_is_named_in_the_table(walls: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: my-rgb\ncolour: rgb\nshave_pixels: 1\n")
    text, _ = run("--data", walls, "--scales", 2, "--model", "bicubic", "--protocol", tmp_path / "mine.yaml")
    assert "walls ×2 · my-rgb" in text
    assert "s + 1 pixels shaved" in text


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        (["--metrics", "vmaf"], UsageError, "psnr, ssim, ms-ssim"),
        (["--metrics", "ms-ssim"], DataError, "161×161"),
        (["--published", "IMDM"], UnknownNameError, "Did you mean 'IMDN'"),
        (["--published", "IMDN", "--protocol", "rgb"], UsageError, "cannot stand beside rgb"),
        (["--chop", "tiles"], UsageError, "quadrants"),
        (["--options", "x=gone.yml"], ConfigError, "gone.yml"),
        (["--model", "a=bicubic", "a=nearest"], UsageError, "LABEL=FILE"),
        (["--model", "gone.onnx"], CheckpointError, "gone.onnx"),
    ],
)
def test_bad_requests_say_what_to_do(walls: Path, options: list[str], error: type, what: str) -> None:
    if "gone.onnx" in options:
        pytest.importorskip("onnxruntime")
    with pytest.raises(error, match=what):
        run("--data", walls, "--scales", 2, "--model", "bicubic", *options)


# --- tables ----------------------------------------------------------------------------------------------------------


def report(**scores: float | None) -> Report:
    rows = [
        Row(model="my_net", group=group, scale=scale, picture=picture, psnr=30.123, **{"ssim": 0.9, **scores})
        for scale in ("2", "4")
        for group in ("Set5", "my_set")
        for picture in ("a", "b,c")
    ]
    return Report(protocol="paper-y", definition="What it means.", route="rgb", rows=tuple(rows))


def test_markdown_has_a_column_a_set_and_states_protocol_and_sources() -> None:
    text = to_markdown(report(), choose(["IMDN"]))
    lines = text.splitlines()
    assert lines[0] == "| scale | method | Set5 | my_set |"
    assert lines[2] == "| ×2 | IMDN † | 38.00 / 0.9605 |  |"
    assert lines[3] == "| ×2 | my_net | 30.12 / 0.9000 | 30.12 / 0.9000 |"
    assert text.count("What it means.") == 1
    assert "Table 5" in text
    assert "†" not in to_markdown(report())


def test_latex_is_escaped_and_balanced() -> None:
    text = to_latex(report(ms_ssim=0.95), choose(["IMDN"]))
    assert r"$\times$2 & my\_net & 30.12 / 0.9000 / 0.9500 & 30.12 / 0.9000 / 0.9500 \\" in text
    assert r"Scale & Method & Set5 & my\_set \\" in text
    assert text.count(r"\midrule") == 2
    assert text.index(r"\begin{tabular}{llcc}") < text.index(r"\end{tabular}")
    assert all(line.startswith("%") for line in text.split(r"\end{tabular}")[1].strip().splitlines())


def test_csv_holds_every_picture_exactly() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(report(ssim=None)))))
    assert len(rows) == 8
    assert rows[1] | {"polyres": ""} == {
        "model": "my_net", "set": "Set5", "scale": "2", "picture": "b,c", "psnr": "30.123", "ssim": "",
        "ms_ssim": "", "protocol": "paper-y", "route": "rgb", "polyres": "",
    }  # fmt: skip


def test_published_rows_are_shown_beside_ours_with_their_source(walls: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text(
        "method,source,training,scale,set,psnr,ssim,note\nTheirs,A paper,DF2K,2,Walls,31.5,0.91,by hand\n"
    )
    out = tmp_path / "t.md"
    text, _ = run(
        "--data", walls, "--scales", 2, "--model", "bicubic", "--published", own, "IMDN", "--markdown", out
    )
    assert "Theirs (DF2K) †" in text
    assert "A paper: Theirs: by hand" in text
    assert "IMDN" not in text  # it has no row of this set
    assert "| ×2 | Theirs (DF2K) † | 31.50 / 0.9100 |" in out.read_text()


def test_the_published_rows_are_sound() -> None:
    rows = read_published()
    assert len({(row.method, row.training, row.scale, row.group) for row in rows}) == len(rows)
    for row in rows:
        assert row.scale in "234"
        assert 23 < row.psnr < 42
        assert row.ssim is None or 0.65 < row.ssim < 0.99
        assert row.source
    by_key = {(row.method, row.scale, row.group): row.psnr for row in rows}
    assert by_key["SMFANet+-SPConv", "4", "Set5"] == 32.51
    assert by_key["CFGN", "3", "BSD100"] == 29.16  # printed under Urban100
    for (method, scale, group), psnr in by_key.items():
        if scale != "2" and (method, "2", group) in by_key:
            assert psnr < by_key[method, "2", group]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a,b\n1,2\n", "first line"),
        ("method,source,training,scale,set,psnr,ssim,note\nA,B,,2,Set5,fast,,\n", "line 2"),
        ("method,source,training,scale,set,psnr,ssim,note\nA,B\n", "line 2"),
    ],
)
def test_files_of_published_rows_that_are_wrong_say_where(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=what) as caught:
        choose([str(path)])
    assert "rows.csv" in str(caught.value)


def test_sources_gather_methods() -> None:
    (line,) = sources(choose(["IMDN", "RFDN"]))
    assert line.endswith(": IMDN; RFDN")
