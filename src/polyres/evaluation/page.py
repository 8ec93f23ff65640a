"""One page of HTML about a model: card, results, costs, crops and analyses, in one file that loads nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from polyres._version import __version__
from polyres.errors import DataError
from polyres.evaluation.figures import encoded
from polyres.evaluation.pareto import pareto_figure, points
from polyres.evaluation.profiling.results import Profile
from polyres.evaluation.reading import read_text
from polyres.evaluation.report import Report
from polyres.evaluation.worst import Crop
from polyres.pictures.slider import page, slider

_STYLE = """
table { border-collapse: collapse; margin: 0.5rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.6rem; border-bottom: 1px solid #8884; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.card td { text-align: left; }
.wide { overflow-x: auto; }
.note { font-size: 0.85rem; opacity: 0.8; }
.crops { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; }
figure.plot { margin: 0 0 1rem; }
figure.plot img { max-width: 100%; background: #fff; }
"""

#: CSS pixels for each pixel of a crop.
_ZOOM = 3.0


@dataclass(frozen=True)
class Analysed:
    """The picture of an analysis, and what the head of its table says."""

    name: str
    picture: bytes
    notes: tuple[str, ...]


def report_page(
    model: str,
    facts: Mapping[str, str],
    report: Report | None = None,
    profile: Profile | None = None,
    crops: Sequence[Crop] = (),
    analyses: Sequence[Analysed] = (),
) -> str:
    """The page, to be written as UTF-8; sections without content are left out.

    Args:
        model: its name, the page's title.
        facts: the card, one line each.
        report: results of evaluations.
        profile: costs; with ``report`` there are plots of quality against cost.
        crops: of :func:`polyres.evaluation.worst.worst_crops`.
        analyses: of :func:`read_analyses`.

    Raises:
        MissingExtraError: plots are wanted and matplotlib is not installed.
    """
    sections = [_section("Card", _table((), facts.items(), "card"))]
    if report:
        sections.append(_section("Results", _results(report)))
    if profile:
        sections.append(_section("Costs", _costs(profile)))
    if report and profile:
        sections.append(_section("Quality against cost", _plots(report, profile)))
    if crops:
        sections.append(_section("Worst crops", _crops(crops)))
    if analyses:
        sections.append(_section("Analyses", "\n".join(_analysis(each) for each in analyses)))
    title = f"{model}: super-resolution report"
    foot = f'<p class="note">Made by polyres {escape(__version__)}.</p>'
    return page(title, f"<h1>{escape(title)}</h1>\n" + "\n".join(sections) + foot, _STYLE)


def read_analyses(folder: Path) -> list[Analysed]:
    """What ``polyres analyze`` wrote into ``folder``: every picture that has a table of the same name.

    Raises:
        DataError: there is none, or a file cannot be read.
    """
    found = []
    for picture in sorted(folder.glob("*.png")):
        table = picture.with_suffix(".csv")
        if table.is_file():
            lines = read_text(table).splitlines()
            notes = tuple(line.removeprefix("# ") for line in lines if line.startswith("# "))
            found.append(Analysed(picture.stem, picture.read_bytes(), notes))
    if not found:
        raise DataError(
            f"'{folder}' holds no results of polyres analyze; expected a picture (.png) and a table (.csv) of one name"
        )
    return found


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>"


def _table(columns: Sequence[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    """A table; every cell is text, not HTML."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    top = f"<thead><tr>{head}</tr></thead>" if columns else ""
    return f'<div class="wide"><table class="{kind}">{top}<tbody>{body}</tbody></table></div>'


def _results(report: Report) -> str:
    """A table for each set, a row for each scale and model."""
    means, parts = report.means(), []
    order = list(dict.fromkeys(mean.scale for mean in means))
    for group in dict.fromkeys(mean.group for mean in means):
        rows = [
            (
                mean.model,
                f"×{mean.scale}",
                str(mean.count),
                f"{mean.psnr:.3f}",
                "" if mean.ssim is None else f"{mean.ssim:.4f}",
            )
            for mean in sorted(means, key=lambda mean: order.index(mean.scale))
            if mean.group == group
        ]
        parts.append(f"<h3>{escape(group)}</h3>")
        parts.append(_table(("model", "scale", "pictures", "PSNR (dB)", "SSIM"), rows))
    return "\n".join([*parts, _note(report.definition)])


def _costs(profile: Profile) -> str:
    scales = list(dict.fromkeys(scale for size in profile.sizes for scale in size.fused))
    sizes = _table(
        ("parameters", "training", *(f"fused ×{scale}" for scale in scales), "fused, all in one"),
        [
            (
                size.model,
                f"{size.training:,}",
                *(f"{size.fused[scale]:,}" if scale in size.fused else "" for scale in scales),
                f"{size.bundle:,}",
            )
            for size in profile.sizes
        ],
    )
    rows = [
        (
            cost.model,
            f"×{cost.scale}",
            f"{cost.high[1]}×{cost.high[0]}",
            cost.form,
            f"{cost.engine}, {cost.dtype}",
            f"{cost.multiply_adds / 1e9:.2f}",
            "" if cost.peak_bytes is None else f"{cost.peak_bytes / 1e6:.1f}",
            "" if cost.latency is None else f"{cost.latency.median * 1e3:.1f}",
        )
        for cost in profile.costs
    ]
    columns = ("model", "scale", "result", "form", "engine", "G multiply-adds", "peak MB", "median ms")
    return sizes + _table(columns, rows) + _note(f"Measured on {profile.machine}; polyres {profile.version}.")


def _plots(report: Report, profile: Profile) -> str:
    """Quality against multiply-adds for every set and scale that both hold."""
    scales, parts = {cost.scale for cost in profile.costs}, []
    profiled = {cost.model for cost in profile.costs}
    for group, scale in dict.fromkeys(
        (mean.group, mean.scale) for mean in report.means() if mean.scale in scales and mean.model in profiled
    ):
        title = f"{group} ×{scale} · {report.protocol}"
        figure = pareto_figure(points(report, profile, "multiply-adds", group, scale), "multiply-adds", title)
        parts.append(_plot(encoded(figure, ".svg"), "svg+xml", f"PSNR against multiply-adds, {title}"))
    return "\n".join(parts) or _note("The evaluation and the profile have no model and scale in common.")


def _crops(crops: Sequence[Crop]) -> str:
    parts = []
    for crop in crops:
        row, (top, left) = crop.row, crop.corner
        title = f"{row.group} {row.picture} ×{row.scale}, {row.psnr:.2f} dB, from row {top}, column {left}"
        pairs = (
            slider(crop.bicubic, crop.result, ("bicubic", row.model), _ZOOM),
            slider(crop.result, crop.original, (row.model, "original"), _ZOOM),
        )
        parts.append(f'<h3>{escape(title)}</h3><div class="crops">{"".join(pairs)}</div>')
    return "\n".join(parts)


def _analysis(analysed: Analysed) -> str:
    notes = "".join(_note(note) for note in analysed.notes)
    return f"<h3>{escape(analysed.name)}</h3>{_plot(analysed.picture, 'png', analysed.name)}{notes}"


def _plot(content: bytes, kind: str, alt: str) -> str:
    address = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return f'<figure class="plot"><img alt="{escape(alt)}" src="{address}"></figure>'


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'
