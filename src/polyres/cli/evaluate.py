"""``polyres evaluate``: models on benchmark sets, one table for each set and scale, the protocol named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyres.errors import ScaleError, UsageError
from polyres.scale import Scale

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.progress import Progress
    from rich.table import Table

    from polyres.evaluation import Mean, Report, Row, Upscale
    from polyres.evaluation.run import OnPicture


def evaluate(
    data: Annotated[
        list[Path],
        typer.Option(help="Folder of HR pictures, a set with HR and LR, or a folder of sets; repeatable."),
    ],
    model: Annotated[
        list[str] | None, typer.Option(help="Model name or file, or bicubic, lanczos, nearest; repeatable.")
    ] = None,
    scales: Annotated[list[str] | None, typer.Option(help="Scales, such as 2 3 4 or 2,3,4.")] = None,
    protocol: Annotated[
        str, typer.Option(help="How results are compared: paper-y, rgb, edsr-div2k.")
    ] = "paper-y",
    route: Annotated[
        str, typer.Option(help="rgb, as networks are measured, or y8, as older papers measured bicubic.")
    ] = "rgb",
    json: Annotated[
        Path | None, typer.Option(help="Also write every picture's scores to this JSON file.")
    ] = None,
    save_pictures: Annotated[
        Path | None, typer.Option(help="Keep the results as PNG below this folder.")
    ] = None,
    per_picture: Annotated[bool, typer.Option("--per-picture", help="A row for every picture, too.")] = False,
    chop: Annotated[
        str, typer.Option(help="none, or quadrants: four overlapping parts, as EDSR's --chop cuts.")
    ] = "none",
    device: Annotated[str, typer.Option(help="Where models run: cpu, cuda, cuda:1, ...")] = "cpu",
) -> None:
    """Measure models on pictures whose original is known, by a named protocol."""
    from rich.console import Console

    from polyres.data import find_pairs
    from polyres.evaluation import Report, write_file
    from polyres.evaluation import evaluate as measure
    from polyres.metrics import find_protocol

    rules, wanted = find_protocol(protocol), parse_scales(scales or ["2", "3", "4"])
    pairs = [pair for folder in data for pair in find_pairs(folder, wanted)]
    upscalers = dict(_upscaler(name, device, chop) for name in model or ["default"])
    with _progress() as progress:
        step = _stepper(progress, len(pairs) * len(upscalers), save_pictures)
        reports = [
            measure(upscale, pairs, rules, name=name, route=route, on_picture=step)
            for name, upscale in upscalers.items()
        ]
    report = Report.joined(reports)
    if json:
        write_file(json, report.to_json().encode())
    console = Console()
    for table in tables(report, per_picture):
        console.print(table)
    console.print(report.definition, soft_wrap=True, highlight=False)


def parse_scales(words: Iterable[str]) -> list[Scale]:
    """The scales in ``words``, each ``2``, ``2.5``, ``7/3`` or several separated by commas, in order, once each.

    Raises:
        ScaleError: no scale, or one below 1.
    """
    scales = [Scale.of(part) for word in words for part in word.split(",")]
    for scale in scales:
        if min(scale.y, scale.x) < 1:
            raise ScaleError(f"measuring needs a scale of at least 1, such as 2 or 2.5; got {scale}")
    return list(dict.fromkeys(scales))


def tables(report: Report, per_picture: bool = False) -> list[Table]:
    """One table for each set and scale of ``report``, a row a model, with its pictures above if wanted."""
    means = report.means()
    return [
        _table(report, [mean for mean in means if (mean.group, mean.scale) == key], per_picture)
        for key in dict.fromkeys((mean.group, mean.scale) for mean in means)
    ]


def _table(report: Report, means: Sequence[Mean], per_picture: bool) -> Table:
    """The table of one set and scale."""
    from rich.table import Table

    first = means[0]
    rules = report.protocol if report.route == "rgb" else f"{report.protocol}, route {report.route}"
    table = Table(title=f"{first.group} ×{first.scale} · {rules}", title_justify="left", min_width=50)
    table.add_column("model", overflow="fold")
    if per_picture:
        table.add_column("picture", overflow="fold")
    for title in ("pictures", "PSNR (dB)", "SSIM"):
        table.add_column(title, justify="right", no_wrap=True)
    for mean in means:
        if per_picture:
            for row in report.rows:
                if (row.model, row.group, row.scale) == (mean.model, mean.group, mean.scale):
                    table.add_row(row.model, row.picture, "", *_scores(row))
        table.add_row(
            mean.model,
            *(["mean"] if per_picture else []),
            str(mean.count),
            *_scores(mean),
            end_section=per_picture,
        )
    return table


def _scores(scored: Row | Mean) -> tuple[str, str]:
    return f"{scored.psnr:.3f}", "" if scored.ssim is None else f"{scored.ssim:.4f}"


def _upscaler(name: str, device: str, chop: str) -> tuple[str, Upscale]:
    """What the row is called, and the baseline or the network called ``name``."""
    from polyres.evaluation import BASELINES
    from polyres.evaluation.quadrants import in_quadrants

    if chop not in ("none", "quadrants"):
        raise UsageError(f"pictures are cut by --chop none or quadrants; got {chop}")
    if name in BASELINES:
        return name, BASELINES[name]
    from polyres.evaluation.models import model_upscaler
    from polyres.weights import load

    upscale = model_upscaler(load(name), device)
    return (f"{name}, in quadrants", in_quadrants(upscale)) if chop == "quadrants" else (name, upscale)


def _progress() -> Progress:
    """A bar on standard error, so that tables can be piped."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _stepper(progress: Progress, total: int, folder: Path | None) -> OnPicture:
    """What is done after each picture: move the bar and, with ``folder``, keep the result."""
    from polyres.evaluation import save_picture

    task = progress.add_task("", total=total)

    def step(row: Row, picture: npt.NDArray[np.uint8]) -> None:
        progress.update(
            task, advance=1, description=f"{row.group} ×{row.scale} {row.picture} {row.psnr:.2f} dB"
        )
        if folder:
            save_picture(folder, row, picture)

    return step
