"""Tables of reports for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from polyres.evaluation import Mean, Report, Row
    from polyres.evaluation.published import Published


def tables(report: Report, per_picture: bool = False, published: Sequence[Published] = ()) -> list[Table]:
    """One table for each set and scale of ``report``, a row a model, with its pictures above if wanted."""
    means = report.means()
    return [
        _table(
            report, [mean for mean in means if (mean.group, mean.scale) == key], per_picture, list(published)
        )
        for key in dict.fromkeys((mean.group, mean.scale) for mean in means)
    ]


def _table(report: Report, means: Sequence[Mean], per_picture: bool, published: Sequence[Published]) -> Table:
    """The table of one set and scale."""
    from rich.table import Table

    from polyres.evaluation.published import beside
    from polyres.evaluation.tables import MARK

    first, names = means[0], list(dict.fromkeys(name for mean in means for name in mean.extra))
    extra = ["MS-SSIM"] if any(mean.ms_ssim is not None for mean in means) else []
    rules = report.protocol if report.route == "rgb" else f"{report.protocol}, route {report.route}"
    table = Table(title=f"{first.group} ×{first.scale} · {rules}", title_justify="left", min_width=50)
    table.add_column("model", overflow="fold")
    if per_picture:
        table.add_column("picture", overflow="fold")
    for title in ("pictures", "PSNR (dB)", "SSIM", *extra, *names):
        table.add_column(title, justify="right", no_wrap=True)
    for each in beside(published, [(first.group, first.scale)]):
        ssim = "" if each.ssim is None else f"{each.ssim:.4f}"
        table.add_row(f"{each.label} {MARK}", *[""] * (1 + per_picture), f"{each.psnr:.2f}", ssim)
    for mean in means:
        rows = [row for row in report.rows if row.key[:3] == (mean.model, mean.group, mean.scale)]
        for row in rows if per_picture else ():
            table.add_row(row.model, row.picture, "", *_scores(row, extra, names))
        texts = [
            mean.model,
            *(["mean"] if per_picture else []),
            str(mean.count),
            *_scores(mean, extra, names),
        ]
        table.add_row(*texts, end_section=per_picture)
    return table


def _scores(scored: Row | Mean, extra: Sequence[str], names: Sequence[str]) -> list[str]:
    values = [scored.ssim, *([scored.ms_ssim] if extra else []), *(scored.extra.get(name) for name in names)]
    return [f"{scored.psnr:.3f}", *("" if value is None else f"{value:.4f}" for value in values)]
