"""Reports: one page that holds everything, loads nothing, escapes all names, and shows where a model is worst."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import polyres
from polyres.data import Pair
from polyres.errors import DataError
from polyres.evaluation import evaluate
from polyres.evaluation.baselines import BASELINES
from polyres.evaluation.page import read_analyses, report_page
from polyres.evaluation.profiling import Cost, Profile, Size
from polyres.evaluation.report import Report
from polyres.evaluation.worst import worst_crops
from polyres.scale import Scale

EVIL = "</td><script>alert('x')</script><img src=http://example.com/x.png>"


class Page(HTMLParser):
    """Tags with their attributes, the text outside scripts and styles, and the styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text, self.style, self._inside = "", "", ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.style += data
        elif self._inside != "script":
            self.text += data

    def images(self) -> list[bytes]:
        """The content of every picture on the page."""
        sources = [attributes["src"] for tag, attributes in self.tags if tag == "img"]
        return [base64.b64decode(source.split(";base64,", 1)[1]) for source in sources]


def check_contained(html: str) -> Page:
    """The page, after every way in which it could refer to something else has been looked for."""
    page = Page(html)
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "base", "form", "audio", "video"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "srcset", "data", "poster", "action", "background"):
                assert value.startswith("data:"), (tag, name, value[:80])
    assert "url(" not in page.style
    assert "@import" not in page.style
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert [tag for tag, _ in page.tags].count("script") == 1
    return page


def folder_of_pairs(folder: Path, names: tuple[str, ...] = ("a", "b")) -> list[Pair]:
    rng = np.random.default_rng(0)
    (folder / "Mini").mkdir()
    pairs = []
    for index, name in enumerate(names):
        pixels = np.full((64, 80, 3), 120, dtype=np.uint8)
        pixels[40:56, 8:24] = rng.integers(0, 60 + 100 * index, (16, 16, 3))
        Image.fromarray(pixels).save(folder / "Mini" / f"{name}.png")
        pairs.append(Pair("Mini", name, Scale.of(2), folder / "Mini" / f"{name}.png"))
    return pairs


@pytest.fixture
def measured(tmp_path: Path) -> tuple[Report, list[Pair]]:
    pairs = folder_of_pairs(tmp_path)
    return evaluate(BASELINES["nearest"], pairs, name=EVIL), pairs


def costs() -> Profile:
    row = Cost(
        model=EVIL,
        scale="2",
        form="fused",
        engine="torch",
        dtype="float32",
        low=(9, 9),
        high=(18, 18),
        multiply_adds=10**9,
    )
    size = Size(model=EVIL, training=1234, fused={"2": 1000}, bundle=1000)
    return Profile(machine="a <machine>", sizes=(size,), costs=(row,))


def test_crops_are_of_the_worst_pictures_at_their_worst_place(measured: tuple[Report, list[Pair]]) -> None:
    report, pairs = measured
    crops = worst_crops(report, EVIL, BASELINES["nearest"], pairs, count=5, side=16)
    assert [crop.row.picture for crop in crops] == ["b", "a"]
    assert abs(crops[0].corner[0] - 40) <= 2
    assert abs(crops[0].corner[1] - 8) <= 2
    rows, columns = (slice(start, start + 16) for start in crops[0].corner)
    assert np.array_equal(crops[0].original.pixels, pairs[1].read()[1][rows, columns])
    low = pairs[1].read()[0]
    expected = low.repeat(2, axis=0).repeat(2, axis=1)[rows, columns]
    assert np.array_equal(crops[0].result.pixels, expected)
    assert len(worst_crops(report, EVIL, BASELINES["nearest"], pairs, count=1)) == 1
    with pytest.raises(DataError, match="none of the 2 pictures"):
        worst_crops(report, "another", BASELINES["nearest"], pairs)


def test_a_page_of_everything_contains_itself(measured: tuple[Report, list[Pair]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report, pairs = measured
    crops = worst_crops(report, EVIL, BASELINES["nearest"], pairs, side=16)
    Image.new("RGB", (20, 10)).save(tmp_path / "spectrum.png")
    (tmp_path / "spectrum.csv").write_text(f"# formula: a < b {EVIL}\na,b\n1,2\n")
    page = check_contained(
        report_page(EVIL, {"licence": EVIL}, report, costs(), crops, read_analyses(tmp_path))
    )
    for words in (EVIL, "Mini", "PSNR (dB)", "1,234", "a <machine>", "paper-y", "formula: a < b", "1.00"):
        assert words in page.text
    assert [tag for tag, _ in page.tags].count("input") == 4  # two sliders a crop
    images = page.images()
    assert len(images) == 1 + 2 * 2 * 2 + 1
    assert images[0].startswith(b"<?xml")
    assert Image.open(io.BytesIO(images[1])).size == (16, 16)
    assert Image.open(io.BytesIO(images[-1])).size == (20, 10)


def test_sections_without_content_are_left_out() -> None:
    page = check_contained(report_page("small", {"licence": "Apache-2.0"}))
    assert [tag for tag, _ in page.tags].count("h2") == 1
    assert "Apache-2.0" in page.text


def test_folders_without_analyses_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "alone.png")
    with pytest.raises(DataError, match="no results of polyres analyze"):
        read_analyses(tmp_path)


def test_the_command_writes_a_page_of_the_bundled_model(tmp_path: Path) -> None:
    from polyres.cli import app

    pairs = folder_of_pairs(tmp_path, ("a",))
    report = evaluate(BASELINES["bicubic"], pairs, name="default")  # whose rows they are does not matter here
    (tmp_path / "e.json").write_text(report.to_json())
    page = tmp_path / "out" / "page.html"
    words = [
        "--evaluation",
        str(tmp_path / "e.json"),
        "--data",
        str(tmp_path / "Mini"),
        "--output",
        str(page),
    ]
    result = CliRunner().invoke(app, ["report", "default", *words])
    assert result.exit_code == 0, result.output
    found = check_contained(page.read_text(encoding="utf-8"))
    assert "Worst crops" in found.text
    assert f"{sum(p.numel() for p in polyres.load('default').parameters()):,}" in found.text
    result = CliRunner().invoke(app, ["report", "default", "--data", str(tmp_path)])
    assert "--evaluation" in str(result.exception)
