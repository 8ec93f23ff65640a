"""Profiles: counts that agree with torch and with the closed form, forms that agree, and the front of a plot."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

import polyres
from polyres.cli.profile import tables
from polyres.deploy.cost import multiply_adds, parameters, take_turns
from polyres.errors import DataError, UsageError
from polyres.evaluation.profiling import Latency, Profile, forms, profile
from polyres.evaluation.report import Report, Row
from polyres.layers.recalibration import recalibrate
from polyres.scale import Scale

OUTPUT = (24, 36)


def tiny(upsampler: str = "igconv") -> polyres.SRModel:
    torch.manual_seed(0)
    narrow = {"width": 8, "hidden_layers": 1} if upsampler == "igconv" else {}
    parts = {
        "encoder": {"name": "edsr", "options": {"channels": 4, "blocks": 1}},
        "upsampler": {"name": upsampler, "options": narrow},
    }
    return polyres.build(polyres.ModelConfig.model_validate(parts)).eval()


@pytest.fixture(scope="module")
def measured() -> Profile:
    return profile({"a": tiny(), "b": tiny("spconv")}, [2, 3], output=OUTPUT, runs=2)


def row(found: Profile, model: str, scale: str, form: str) -> polyres.evaluation.profiling.Cost:
    return next(c for c in found.costs if (c.model, c.scale, c.form) == (model, scale, form))


def test_multiply_adds_are_those_of_the_closed_form_and_of_torch(measured: Profile) -> None:
    pixels = 12 * 18
    head, body, tail = (
        3 * 4 * 9,
        3 * 4 * 4 * 9,
        4 * 3 * 4 * 9,
    )  # first, two of the block and one after, x2 head
    assert row(measured, "a", "2", "fused").multiply_adds == pixels * (head + body + tail)
    fused = polyres.fuse(tiny(), 2)
    with FlopCounterMode(display=False) as counter:
        fused(torch.rand(1, 3, 12, 18))
    assert 2 * row(measured, "a", "2", "fused").multiply_adds == counter.get_total_flops()


def test_generating_kernels_counts_in_the_dynamic_form_alone(measured: Profile) -> None:
    tokens, phases, width = 4 * 9, 4, 8
    generation = tokens * phases * (width * width + 3 * width)
    counts = {form: row(measured, "a", "2", form).multiply_adds for form in ("dynamic", "cached", "fused")}
    assert counts["cached"] == counts["fused"]
    assert counts["dynamic"] == pytest.approx(
        counts["fused"] + generation, abs=width
    )  # the phase's own layer
    assert row(measured, "b", "2", "dynamic").multiply_adds == row(measured, "b", "2", "fused").multiply_adds


def test_sizes_are_of_training_of_each_scale_and_of_all_in_one(measured: Profile) -> None:
    size, model = measured.sizes[0], tiny()
    encoder = parameters(model.encoder)
    assert size.training == parameters(model)
    assert size.fused == {"2": encoder + 27 * 4 * 4, "3": encoder + 27 * 4 * 9}
    assert size.bundle == encoder + 27 * 4 * 4 + 27 * 4 * 9


def test_recalibration_is_folded_before_counting() -> None:
    plain, mixed = tiny(), tiny()
    recalibrate(mixed, select=lambda name, part: isinstance(part, torch.nn.Conv2d))
    before = {key: value.clone() for key, value in mixed.state_dict().items()}
    sizes = profile({"plain": plain, "mixed": mixed}, [2], output=OUTPUT, runs=0).sizes
    assert sizes[0].fused == sizes[1].fused
    assert sizes[1].training > sizes[0].training
    assert all(torch.equal(value, mixed.state_dict()[key]) for key, value in before.items())


def test_all_forms_give_the_same_picture() -> None:
    model, scale, image = tiny(), Scale.of(3), torch.rand(1, 3, 7, 9)
    with torch.inference_mode():
        expected = model(image, 3)
    for form in (
        forms.dynamic(model, scale),
        forms.cached(model, scale),
        forms.no_grad(polyres.fuse(model, 3)),
    ):
        exact = forms.in_precision(form, image.device, torch.float32)(image)
        assert torch.allclose(exact, expected, atol=1e-5)
        rough = forms.in_precision(form, image.device, torch.bfloat16)(image)
        assert not torch.equal(rough, exact)
        assert torch.allclose(rough.float(), expected, atol=0.05)


def test_rows_say_sizes_memory_and_time(measured: Profile) -> None:
    fused = row(measured, "b", "3", "fused")
    assert (fused.low, fused.high) == ((8, 12), (24, 36))
    assert fused.peak_bytes is not None
    assert fused.peak_bytes >= 24 * 36 * 3 * 4
    assert fused.latency is not None
    assert fused.latency.runs == 2
    assert fused.latency.low <= fused.latency.median <= fused.latency.high
    assert "torch" in measured.machine
    assert Profile.from_json(measured.to_json()) == measured


def test_counting_alone_takes_no_time() -> None:
    found = profile({"a": tiny()}, ["5/2"], output=OUTPUT, runs=0)
    assert {(cost.latency, cost.peak_bytes) for cost in found.costs} == {(None, None)}
    assert [cost.form for cost in found.costs] == ["dynamic", "cached", "fused"]


def test_competitors_take_turns_after_warming_up() -> None:
    calls: list[str] = []
    competitors = {name: partial(calls.append, name) for name in "abc"}
    seconds = take_turns(competitors, 7, warm_up=1)
    rounds = ["".join(calls[begin : begin + 3]) for begin in range(0, len(calls), 3)]
    assert len(rounds) == 8
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len(set(rounds)) > 2  # who runs after whom changes
    assert list(seconds) == ["a", "b", "c"]
    assert [len(times) for times in seconds.values()] == [7, 7, 7]


def test_latency_is_the_median_between_quartiles() -> None:
    assert Latency.of([4, 1, 3, 2, 5], 1) == Latency(median=3, low=2, high=4, runs=5, warm_up=1)
    assert Latency.of([7], 0) == Latency(median=7, low=7, high=7, runs=1, warm_up=0)


def test_eighty_columns_hold_the_times_of_slow_models(measured: Profile) -> None:
    latency = Latency(median=12.345, low=11, high=13.5, runs=5, warm_up=1)
    slow = {"engine": "onnxruntime", "latency": latency}
    changed = measured.model_copy(update={"costs": [each.model_copy(update=slow) for each in measured.costs]})
    written = io.StringIO()
    Console(file=written, width=80).print(*tables(changed))
    lines = [line.split() for line in written.getvalue().splitlines()]
    assert ["a", "dynamic", "12345", "(11000-13500)"] in [line[:2] + line[-2:] for line in lines]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engines": ["tensorrt"]}, "no engine is called 'tensorrt'"),
        ({"device": "nowhere"}, "no device"),
        ({"scales": []}, "at least one"),
        ({"runs": -1}, "counts from 0"),
    ],
)
def test_impossible_profiles_are_refused(changes: dict, message: str) -> None:
    options = {"models": {"a": tiny()}, "scales": [2], "output": OUTPUT, **changes}
    with pytest.raises(UsageError, match=message):
        profile(**options)


def test_other_files_are_no_profiles() -> None:
    with pytest.raises(DataError, match="no result of polyres profile"):
        Profile.from_json('{"rows": []}')


def test_multiply_adds_need_no_values() -> None:
    with torch.device("meta"):
        conv, image = torch.nn.Conv2d(3, 8, 3, padding=1), torch.empty(1, 3, 1000, 1000)
    assert multiply_adds(lambda: conv(image)) == 27 * 8 * 1000 * 1000


# ---- quality against cost --------------------------------------------------------------------------------------


def report(**quality: float) -> Report:
    rows = [
        Row(model=name, group="Set5", scale="2", picture="baby", psnr=psnr) for name, psnr in quality.items()
    ]
    return Report(protocol="paper-y", definition="by luma", route="rgb", rows=tuple(rows))


def test_the_front_holds_what_nothing_beats() -> None:
    from polyres.evaluation.pareto import Point, front

    small, good, bad, twin = Point("s", 1, 30), Point("g", 9, 33), Point("b", 9, 31), Point("t", 1, 30)
    assert front([bad, good, small, twin]) == [small, twin, good]


def test_points_join_both_runs(measured: Profile) -> None:
    from polyres.evaluation.pareto import points

    found = points(report(a=30.0, b=31.0, other=40.0), measured, "multiply-adds", "Set5", "2")
    assert [(point.model, point.quality) for point in found] == [("a", 30.0), ("b", 31.0)]
    assert found[0].cost == row(measured, "a", "2", "fused").multiply_adds
    with pytest.raises(DataError, match="no model has both"):
        points(report(other=40.0), measured, "parameters", "Set5", "2")
    with pytest.raises(UsageError, match="no cost is called 'price'"):
        points(report(a=30.0), measured, "price", "Set5", "2")


def test_the_command_counts_reads_and_plots(tmp_path: Path, measured: Profile) -> None:
    pytest.importorskip("matplotlib")
    from polyres.cli import app

    saved, quality = tmp_path / "p.json", tmp_path / "e.json"
    saved.write_text(measured.to_json())
    quality.write_text(report(a=30.0, b=31.0).to_json())
    plots = [str(tmp_path / "plot.png"), str(tmp_path / "plot.svg")]
    words = ["profile", "--read", str(saved), "--quality", str(quality), "--plot", *plots]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "fused" in result.output
    assert Image.open(io.BytesIO((tmp_path / "plot.png").read_bytes())).size[0] > 300
    assert "<svg" in (tmp_path / "plot.svg").read_text()
    result = CliRunner().invoke(
        app, ["profile", "default", "--scales", "2", "3", "--runs", "0", "--json", str(saved)]
    )
    assert result.exit_code == 0, result.output
    found = Profile.from_json(saved.read_text())
    assert [(cost.scale, cost.low) for cost in found.costs if cost.form == "fused"] == [
        ("2", (360, 640)),
        ("3", (240, 426)),
    ]
