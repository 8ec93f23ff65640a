"""Reports as text for papers and spreadsheets: Markdown, LaTeX and CSV, the protocol stated in each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from polyres.evaluation.published import Published, beside, sources
from polyres.evaluation.report import Mean, Report

#: Marks a row that was printed elsewhere, not measured here.
MARK = "†"

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "×": r"$\times$", "·": r"$\cdot$",
    MARK: r"$^\dagger$",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line of a table: the scores of a method at one scale.

    Attributes:
        scale: such as ``4``.
        method: its name, marked if published.
        cells: the scores by set, as text.
    """

    scale: str
    method: str
    cells: dict[str, str]


def to_markdown(report: Report, published: Sequence[Published] = ()) -> str:
    """The means as a Markdown table, published rows above ours, and below it what the numbers mean."""
    groups, lines, notes = _layout(report, published)
    head = ["scale", "method", *groups]
    rows = [head, ["---"] * len(head)]
    rows += [
        [f"×{line.scale}", line.method, *(line.cells.get(group, "") for group in groups)] for line in lines
    ]
    table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    return "\n\n".join([table, *notes]) + "\n"


def to_latex(report: Report, published: Sequence[Published] = ()) -> str:
    """The means as a LaTeX ``tabular`` for the package booktabs; what the numbers mean is in comments below it."""
    groups, lines, notes = _layout(report, published)
    body, before = [], None
    for line in lines:
        if before not in (None, line.scale):
            body.append(r"\midrule")
        cells = [f"×{line.scale}", line.method, *(line.cells.get(group, "") for group in groups)]
        body.append(f"{' & '.join(_escaped(cell) for cell in cells)} \\\\")
        before = line.scale
    head = " & ".join(["Scale", "Method", *(_escaped(group) for group in groups)])
    table = [rf"\begin{{tabular}}{{ll{'c' * len(groups)}}}", r"\toprule", rf"{head} \\", r"\midrule"]
    return (
        "\n".join([*table, *body, r"\bottomrule", r"\end{tabular}", *(f"% {note}" for note in notes)]) + "\n"
    )


def to_csv(report: Report) -> str:
    """Every picture's scores, a line each, with the protocol and route in columns of their own."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    extra = list(dict.fromkeys(name for row in report.rows for name in row.extra))
    metrics = ["psnr", "ssim", "ms_ssim", *extra]
    writer.writerow(["model", "set", "scale", "picture", *metrics, "protocol", "route", "polyres"])
    for row in report.rows:
        values = [row.psnr, row.ssim, row.ms_ssim, *(row.extra.get(name) for name in extra)]
        scores = ("" if value is None else value for value in values)
        writer.writerow([*row.key, *scores, report.protocol, report.route, report.version])
    return stream.getvalue()


def published_beside(report: Report, published: Iterable[Published]) -> list[Published]:
    """Those of ``published`` that stand beside a mean of ``report``: of its sets and scales."""
    return beside(list(published), [(mean.group, mean.scale) for mean in report.means()])


def _layout(report: Report, published: Sequence[Published]) -> tuple[list[str], list[Line], list[str]]:
    """The sets, the lines in the order of the scales, and the notes below."""
    means, shown = report.means(), published_beside(report, published)
    groups = list(dict.fromkeys(mean.group for mean in means))
    lines = [
        line
        for scale in dict.fromkeys(mean.scale for mean in means)
        for line in [*_printed(shown, scale, groups), *_measured(means, scale)]
    ]
    kinds = "PSNR (dB) / SSIM" + (" / MS-SSIM" if any(mean.ms_ssim is not None for mean in means) else "")
    kinds = " / ".join([kinds, *dict.fromkeys(name for mean in means for name in mean.extra)])
    notes = [f"{kinds}. {report.definition} polyres {report.version}."]
    notes += [f"{MARK} As printed, not measured here. {line}." for line in sources(shown)]
    return groups, lines, notes


def _measured(means: Sequence[Mean], scale: str) -> list[Line]:
    lines: dict[str, dict[str, str]] = {}
    for mean in means:
        if mean.scale == scale:
            others = (mean.ssim, mean.ms_ssim, *mean.extra.values())
            lines.setdefault(mean.model, {})[mean.group] = _scores(mean.psnr, *others)
    return [Line(scale, model, cells) for model, cells in lines.items()]


def _printed(published: Sequence[Published], scale: str, groups: Sequence[str]) -> list[Line]:
    names = {group.lower(): group for group in groups}
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in published:
        if row.scale == scale:
            cells = lines.setdefault((row.label, row.source), {})
            cells[names[row.group.lower()]] = _scores(row.psnr, row.ssim)
    return [Line(scale, f"{label} {MARK}", cells) for (label, _), cells in lines.items()]


def _scores(psnr: float, *others: float | None) -> str:
    """With as many digits as papers print."""
    return " / ".join([f"{psnr:.2f}", *(f"{value:.4f}" for value in others if value is not None)])


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
