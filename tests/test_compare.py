"""Comparing two models: statistics equal scipy's, verdicts follow them, unlike results are refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from polyres.cli.compare import compare as compare_command
from polyres.data import find_pairs, resize
from polyres.errors import DataError, PictureError, UnknownNameError, UsageError
from polyres.evaluation import BASELINES, Report, Row, evaluate, save_picture
from polyres.evaluation.compare import Side, compare
from polyres.evaluation.crops import SIDE, ZOOM, crop_sheet
from polyres.evaluation.statistics import interval, least_p, wilcoxon
from polyres.scale import Scale

app = typer.Typer()
app.command()(compare_command)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


# --- statistics ------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.floats(-1, 1, width=32).filter(lambda x: abs(x) > 1e-6), min_size=1, max_size=40, unique_by=abs
    )
)
def test_without_ties_the_test_is_scipys_exact_one(values: list[float]) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert wilcoxon(values) == pytest.approx(stats.wilcoxon(values, method="exact").pvalue, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_with_ties_it_counts_all_signs(values: list[int]) -> None:
    ranked = pytest.importorskip("scipy.stats").rankdata
    kept = np.array([value for value in values if value])
    if not len(kept):
        assert wilcoxon(values) == 1
        return
    ranks = ranked(np.abs(kept))
    signs = (np.arange(2 ** len(kept))[:, None] >> np.arange(len(kept))) & 1
    sums, found = signs @ ranks, ranks[kept > 0].sum()
    least = min((sums <= found + 1e-9).mean(), (sums >= found - 1e-9).mean())
    assert wilcoxon(values) == pytest.approx(min(1, 2 * least), abs=1e-12)


def test_a_hundred_pictures_and_the_least_p() -> None:
    assert wilcoxon([0.1 * n for n in range(1, 6)]) == least_p(range(1, 6)) == 0.0625
    assert wilcoxon(range(1, 101)) == pytest.approx(2**-99)
    assert least_p([0, 0]) == wilcoxon([0, 0]) == 1


def test_the_interval_is_scipys_bca(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(3).exponential(1, 30)  # skewed: a plain percentile interval differs
    ends = interval(list(values))
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", random_state=1)
    spread = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ends == pytest.approx(tuple(theirs.confidence_interval), abs=0.03 * spread)
    assert ends == interval(list(values))
    monkeypatch.setattr("polyres.evaluation.statistics._CHUNK", 1000)
    assert interval(list(values)) == pytest.approx(ends)


def test_an_interval_of_no_spread_has_no_width() -> None:
    assert interval([0.25, 0.25, 0.25]) == (0.25, 0.25)
    assert interval([0.5]) == (0.5, 0.5)


# --- comparisons -----------------------------------------------------------------------------------------------------


def report(psnr: list[float], model: str = "a", **changes: object) -> Report:
    rows = tuple(
        Row(model=model, group="Set5", scale="2", picture=f"p{n}", psnr=value, ssim=0.9, made_from="f")
        for n, value in enumerate(psnr)
    )
    return Report(protocol="paper-y", definition="D.", route="rgb", rows=rows).model_copy(update=changes)


def of(a: Report, b: Report, **options: object) -> list:
    return compare(Side.of("A.json", a), Side.of("B.json", b), **options)


BASE = [30 + 0.1 * n for n in range(25)]


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([0.03 + 0.001 * n for n in range(20)], "real: the second is better"),
        ([-0.03 - 0.001 * n for n in range(20)], "real: the second is worse"),
        ([(-1) ** n * 0.03 * (n + 1) for n in range(20)], "not shown: may be chance"),
        ([0.03] * 5, "too few pictures to tell: p cannot fall below 0.0625"),
        ([0.0] * 20, "identical"),
        ([-0.01 * (n + 1) for n in range(22)] + [1.0, 1.1, 1.2], "doubtful: interval and test disagree"),
    ],
)
def test_verdicts(gains: list[float], verdict: str) -> None:
    base = BASE[: len(gains)]
    (found,) = of(report(base), report([x + gain for x, gain in zip(base, gains, strict=True)], "b"))
    assert found.mean == pytest.approx(np.mean(gains), abs=1e-12)
    assert found.low <= found.mean <= found.high
    assert found.verdict == verdict
    assert found.wins == sum(gain > 0 for gain in gains)
    values = [each.value for each in found.ranked()]
    assert values == sorted(values)


def test_sets_of_a_scale_are_also_taken_together() -> None:
    def two(model: str, gain: float) -> Report:
        one = report([value + gain for value in BASE], model)
        return one.model_copy(
            update={"rows": (*one.rows, *(r.model_copy(update={"group": "Set14"}) for r in one.rows))}
        )

    found = of(two("a", 0), two("b", 0.1))
    assert [(each.group, len(each.differences)) for each in found] == [
        ("Set5", 25),
        ("Set14", 25),
        ("all sets", 50),
    ]


def test_equally_perfect_pictures_do_not_differ() -> None:
    (found,) = of(report([math.inf, 30.0]), report([math.inf, 31.0], "b"))
    assert found.mean == 0.5
    with pytest.raises(DataError, match="p0 of Set5 ×2 is perfect"):
        of(report([math.inf, 30.0]), report([29.0, 31.0], "b"))


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (report(BASE, protocol="rgb", definition="E."), r"A\.json.*paper-y.*B\.json.*rgb"),
        (report(BASE, definition="E."), r"definitions differ: D\. / E\."),
        (report(BASE, route="y8"), "route y8"),
        (report(BASE[:-1]), r"'A\.json' holds pictures that 'B\.json' does not: p24 of Set5 ×2"),
        (report([*BASE, 1, 2, 3, 4]), r"'B\.json' holds .* and 1 more"),
        (
            report(BASE, rows=tuple(r.model_copy(update={"made_from": "g"}) for r in report(BASE).rows)),
            "different files",
        ),
        (report(BASE, rows=()), "0 models"),
    ],
)
def test_unlike_results_are_refused(other: Report, what: str) -> None:
    with pytest.raises(DataError, match=what):
        of(report(BASE), other)


def test_missing_scores_are_named() -> None:
    with pytest.raises(DataError, match="--metrics ms-ssim"):
        of(report(BASE), report(BASE), metric="ms_ssim")
    (found,) = of(report(BASE), report(BASE), metric="ssim")
    assert found.mean == 0


def test_only_what_is_common_on_request() -> None:
    a = report(BASE)
    more = tuple(row.model_copy(update={"scale": "4"}) for row in a.rows)
    b = a.model_copy(update={"rows": (*a.rows, *more)})
    with pytest.raises(DataError, match="×4"):
        of(a, b)
    assert [each.scale for each in of(a, b, common_only=True)] == ["2"]
    with pytest.raises(DataError, match="no set and scale in common"):
        of(a, a.model_copy(update={"rows": more}), common_only=True)


def test_models_are_found_in_their_report() -> None:
    both = report(BASE).model_copy(update={"rows": (*report(BASE).rows, *report(BASE, "other").rows)})
    with pytest.raises(DataError, match="2 models"):
        Side.of("A.json", both)
    with pytest.raises(UnknownNameError, match="Did you mean 'other'"):
        Side.of("A.json", both, "othr")
    assert Side.of("A.json", both, "other").model == "other"


# --- crops and the command -------------------------------------------------------------------------------------------


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Six pictures, by bicubic and by nearest, with their results kept."""
    folder = tmp_path / "walls"
    folder.mkdir()
    for seed in range(6):
        small = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(resize(small, size=(100, 120))).save(folder / f"wall{seed}.png")
    pairs = find_pairs(folder, [Scale.of(2)])
    for name in ("bicubic", "nearest"):
        made = evaluate(
            BASELINES[name],
            pairs,
            name=name,
            on_picture=lambda row, picture: save_picture(tmp_path / "results", row, picture) and None,
        )
        (tmp_path / f"{name}.json").write_text(made.to_json())
    return tmp_path


def test_the_command_tells_the_verdict_and_writes_crops(measured: Path) -> None:
    a, b, out = measured / "bicubic.json", measured / "nearest.json", measured / "crops"
    text = run(a, b, "--crops", out, "--pictures", measured / "results", "--data", measured / "walls")
    assert "walls ×2: real: the second is worse" in text
    assert "0.031" in text  # the exact p of six out of six
    assert text.count("worst: walls ×2") == 3
    assert "best: walls" not in text
    files = sorted(path.name for path in out.iterdir())
    assert len(files) == 3
    assert files[0].startswith("worst-1-walls-x2-wall")
    with Image.open(out / files[0]) as sheet:
        assert sheet.width > 3 * SIDE * ZOOM
        assert sheet.height > SIDE * ZOOM
    assert "better" in run(b, a)


def test_one_file_may_hold_both(measured: Path) -> None:
    reports = [Report.from_json((measured / f"{name}.json").read_text()) for name in ("bicubic", "nearest")]
    path = measured / "both.json"
    path.write_text(Report.joined(reports).to_json())
    assert "real" in run(path, "-m", "nearest", "-m", "bicubic", "--metric", "ssim")
    with pytest.raises(UsageError, match="1 files and 0 models"):
        run(path)


def test_a_sheet_shows_where_the_better_one_gains_most(measured: Path) -> None:
    (pair, *_) = find_pairs(measured / "walls", [Scale.of(2)])
    reports = [Report.from_json((measured / f"{name}.json").read_text()) for name in ("bicubic", "nearest")]
    (found,) = compare(Side.of("A", reports[0]), Side.of("B", reports[1]))
    difference = next(each for each in found.differences if each.first.picture == pair.name)
    original = np.asarray(Image.open(pair.high))
    spoilt = original.copy()
    spoilt[90:, 100:] = 255 - spoilt[90:, 100:]  # one bad corner
    for row, picture in ((difference.first, original), (difference.second, spoilt)):
        save_picture(measured / "results", row, picture)
    sheet = np.asarray(crop_sheet(difference, pair, (measured / "results",) * 2))
    corner = original[-SIDE:, -SIDE:].repeat(ZOOM, 0).repeat(ZOOM, 1)
    np.testing.assert_array_equal(sheet[-SIDE * ZOOM :, : SIDE * ZOOM], corner)
    Image.fromarray(original[:50]).save(measured / "walls" / f"{pair.name}.png")
    with pytest.raises(DataError, match="not the picture that was measured"):
        crop_sheet(difference, pair, (measured / "results",) * 2)


def test_crops_need_pictures_and_data(measured: Path) -> None:
    a, b, out = measured / "bicubic.json", measured / "nearest.json", measured / "crops"
    with pytest.raises(UsageError, match="--pictures"):
        run(a, b, "--crops", out)
    with pytest.raises(DataError, match="--data holds no"):
        run(
            a, b, "--crops", out, "--pictures", measured, "--data", measured / "results" / "bicubic" / "walls"
        )
    with pytest.raises(PictureError, match="no picture at"):
        run(a, b, "--crops", out, "--pictures", measured / "gone", "--data", measured / "walls")
    (measured / "bad.json").write_text("[]")
    with pytest.raises(DataError, match=r"bad\.json"):
        run(a, measured / "bad.json")
    with pytest.raises(UsageError, match="psnr, ssim, ms-ssim"):
        run(a, b, "--metric", "lpips")
