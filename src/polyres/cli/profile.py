"""``polyres profile``: what models cost, at every scale and in every form, and quality against cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyres.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from polyres.evaluation.profiling import Cost, Latency, Profile


def profile(
    model: Annotated[
        list[str] | None, typer.Argument(help="Model names, files, or LABEL=FILE, before any option.")
    ] = None,
    scales: Annotated[list[str] | None, typer.Option(help="Scales, such as 2 3 4 or 2,3,4.")] = None,
    output_size: Annotated[
        str, typer.Option(help="Pixels of the result that costs are quoted for.")
    ] = "1280x720",
    runs: Annotated[
        int, typer.Option(min=0, help="Timed runs of each form; 0: count only, no time, no memory.")
    ] = 5,
    warm_up: Annotated[int, typer.Option(min=0, help="Runs before that do not count.")] = 1,
    device: Annotated[str, typer.Option(help="Where torch runs: cpu, cuda, cuda:1, ...")] = "cpu",
    dtypes: Annotated[
        list[str] | None, typer.Option(help="float32, bfloat16, float16; default float32.")
    ] = None,
    engines: Annotated[
        list[str] | None, typer.Option(help="torch, onnxruntime; default: those installed.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write the profile to this JSON file.")] = None,
    read: Annotated[
        Path | None, typer.Option(help="Show and plot this profile again instead of profiling models.")
    ] = None,
    quality: Annotated[Path | None, typer.Option(help="Results of polyres evaluate --json, to plot.")] = None,
    cost: Annotated[
        str, typer.Option(help="Against what: parameters, multiply-adds, memory or latency.")
    ] = "multiply-adds",
    plot: Annotated[
        list[Path] | None, typer.Option(help="Write quality against cost to these files (.png, .svg).")
    ] = None,
) -> None:
    """Count parameters, multiply-adds, memory and time of models, and plot quality against cost."""
    from rich.console import Console

    from polyres.evaluation.profiling import Profile
    from polyres.evaluation.reading import read_text
    from polyres.files import write_file

    if plot and quality is None:
        raise UsageError(
            "--plot shows quality against cost: give the results of an evaluation with --quality"
        )
    if read is not None:
        found = Profile.from_json(read_text(read))
    else:
        names, height_width = model or ["default"], _size(output_size)
        found = _measure(names, scales, height_width, runs, warm_up, device, dtypes, engines)
    if json:
        write_file(json, found.to_json().encode())
    console = Console()
    for table in tables(found):
        console.print(table)
    console.print(f"{found.machine}; polyres {found.version}", soft_wrap=True, highlight=False)
    for path in plot or []:
        if quality is not None:
            _plot(found, read_text(quality), cost, path)


def tables(profile: Profile) -> list[Table]:
    """The table of sizes, then one of costs for each scale."""
    from rich.table import Table

    sizes = Table(title="Parameters", title_justify="left")
    scales = list(dict.fromkeys(scale for size in profile.sizes for scale in size.fused))
    sizes.add_column("model", overflow="fold")
    for title in ("training", *(f"fused ×{scale}" for scale in scales), "fused, all in one"):
        sizes.add_column(title, justify="right", no_wrap=True)
    for size in profile.sizes:
        counts = (size.training, *(size.fused.get(scale, 0) for scale in scales), size.bundle)
        sizes.add_row(size.model, *(f"{count:,}" for count in counts))
    return [sizes, *(_costs([row for row in profile.costs if row.scale == scale]) for scale in scales)]


def _costs(rows: list[Cost]) -> Table:
    """The table of one scale."""
    from rich import box
    from rich.table import Table

    high, low = rows[0].high, rows[0].low
    title = f"×{rows[0].scale} · {low[1]}×{low[0]} to {high[1]}×{high[0]}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("model", overflow="fold", min_width=8)
    table.add_column("form", no_wrap=True)
    table.add_column("engine")  # breaks where 80 columns do not hold all of it; numbers never do
    for name in ("G mult-adds", "peak MB", "ms (quartiles)"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        memory = "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.1f}"
        table.add_row(
            row.model,
            row.form,
            f"{row.engine} {row.dtype}",
            f"{row.multiply_adds / 1e9:.2f}",
            memory,
            _milliseconds(row.latency),
        )
    return table


def _milliseconds(latency: Latency | None) -> str:
    """Median and quartiles."""
    if latency is None:
        return ""
    digits = 1 if latency.median < 0.1 else 0
    median, low, high = (f"{1e3 * each:.{digits}f}" for each in (latency.median, latency.low, latency.high))
    return f"{median} ({low}-{high})"


def _measure(
    names: list[str],
    scales: list[str] | None,
    size: tuple[int, int],
    runs: int,
    warm_up: int,
    device: str,
    dtypes: list[str] | None,
    engines: list[str] | None,
) -> Profile:
    from importlib.util import find_spec

    from polyres.cli.evaluate import parse_scales
    from polyres.evaluation.contenders import split_label
    from polyres.evaluation.profiling import profile as measure
    from polyres.weights import load

    installed = [name for name in ("torch", "onnxruntime") if find_spec(name)]
    return measure(
        {label: load(name) for label, name in map(split_label, names)},
        parse_scales(scales or ["2", "3", "4"]),
        output=size,
        device=device,
        dtypes=[_dtype(word) for word in dtypes or ["float32"]],
        engines=engines or (installed if runs and find_spec("onnxscript") else ["torch"]),
        runs=runs,
        warm_up=warm_up,
    )


def _dtype(word: str) -> torch.dtype:
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if word not in known:
        raise UsageError(f"--dtypes takes {', '.join(known)}; got {word}")
    return known[word]


def _size(word: str) -> tuple[int, int]:
    """``1280x720`` as (height, width)."""
    width, _, height = word.replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"--output-size is WIDTHxHEIGHT, such as 1280x720; got {word}")
    return int(height), int(width)


def _plot(profile: Profile, evaluation: str, cost: str, path: Path) -> None:
    """A figure for each set and scale of the evaluation, named after them if there are several."""
    from polyres.evaluation import Report
    from polyres.evaluation.figures import save_figure
    from polyres.evaluation.pareto import pareto_figure, points

    report = Report.from_json(evaluation)
    scales = {row.scale for row in profile.costs}
    keys = [key for key in dict.fromkeys((m.group, m.scale) for m in report.means()) if key[1] in scales]
    if not keys:
        raise DataError(
            f"the evaluation and the profile have no scale in common: profiled are {', '.join(scales)}"
        )
    for group, scale in keys:
        title = f"{group} ×{scale} · {report.protocol}"
        figure = pareto_figure(points(report, profile, cost, group, scale), cost, title)
        name = path if len(keys) == 1 else path.with_stem(f"{path.stem}-{group}-x{scale}".replace("/", "_"))
        save_figure(figure, name)
