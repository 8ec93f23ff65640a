"""``polyres evaluate``: models on benchmark sets, one table for each set and scale, the protocol named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyres.cli.report_tables import tables
from polyres.errors import ScaleError, UsageError, nearest
from polyres.scale import Scale

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from polyres.data import Pair
    from polyres.evaluation import Report
    from polyres.evaluation.contenders import Contender
    from polyres.evaluation.journal import Journal
    from polyres.evaluation.judges import Judge
    from polyres.evaluation.published import Published
    from polyres.evaluation.run import OnPicture
    from polyres.metrics import Protocol

METRICS = ("psnr", "ssim", "ms-ssim")


@dataclass(frozen=True)
class Plan:
    """What applies to every model of a run."""

    protocol: Protocol
    route: str
    metrics: frozenset[str]
    judges: list[Judge]
    pictures: Path | None
    workers: int | None


def evaluate(
    data: Annotated[
        list[Path],
        typer.Option(help="Folder of HR pictures, a set with HR and LR, or a folder of sets; repeatable."),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Model name or file (.safetensors, .pth, .onnx), or bicubic, lanczos, nearest; LABEL=FILE names its "
            "rows; repeatable."
        ),
    ] = None,
    scales: Annotated[list[str] | None, typer.Option(help="Scales, such as 2 3 4 or 2,3,4.")] = None,
    protocol: Annotated[
        str, typer.Option(help="How results are compared: paper-y, rgb, edsr-div2k, or a YAML file.")
    ] = "paper-y",
    route: Annotated[
        str, typer.Option(help="rgb, as networks are measured, or y8, as older papers measured bicubic.")
    ] = "rgb",
    metrics: Annotated[list[str] | None, typer.Option(help="Of psnr, ssim, ms-ssim.")] = None,
    perceptual: Annotated[
        list[str] | None,
        typer.Option(help="Metric in an ONNX file of two pictures, NAME=FILE.onnx; repeatable."),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(help="YAML file with the network_g of original checkpoints, or MODEL=FILE; repeatable."),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(help="Keep every picture's scores in this JSON file; a rerun skips what is in it."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write every picture's scores as CSV.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write the table as Markdown.")] = None,
    latex: Annotated[Path | None, typer.Option(help="Also write the table as LaTeX.")] = None,
    published: Annotated[
        list[str] | None,
        typer.Option(help="Methods whose published rows stand beside ours: names, all, or a CSV file."),
    ] = None,
    save_pictures: Annotated[
        Path | None, typer.Option(help="Keep the results as PNG below this folder.")
    ] = None,
    per_picture: Annotated[bool, typer.Option("--per-picture", help="A row for every picture, too.")] = False,
    chop: Annotated[
        str, typer.Option(help="none, or quadrants: four overlapping parts, as EDSR's --chop cuts.")
    ] = "none",
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Average eight turned and mirrored copies (x8).")
    ] = False,
    device: Annotated[str, typer.Option(help="Where models run: cpu, cuda, cuda:1, ...")] = "cpu",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Pictures measured at a time. Default: one a core.")
    ] = None,
) -> None:
    """Measure models on pictures whose original is known, by a named protocol."""
    # Several pictures are compared at a time; a BLAS with threads of its own would only make them wait. numpy reads
    # this when it is first imported, which is below.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from rich.console import Console

    from polyres.data import find_pairs
    from polyres.evaluation.contenders import find_contender, refuse_clashes
    from polyres.evaluation.judges import read_judges
    from polyres.metrics import protocol_from

    plan = Plan(
        protocol_from(protocol),
        route,
        _metrics(metrics),
        read_judges(perceptual or []),
        save_pictures,
        workers,
    )
    rows, wanted = _published(published, plan.protocol), parse_scales(scales or ["2", "3", "4"])
    pairs = [pair for folder in data for pair in find_pairs(folder, wanted)]
    settings = _settings(chop, ensemble, device, options or [])
    contenders = [find_contender(name, settings) for name in model or ["default"]]
    refuse_clashes(contenders, wanted)
    report = _run(plan, contenders, pairs, json, Console(stderr=True, soft_wrap=True, highlight=False))
    console = Console()
    for table in tables(report, per_picture, rows):
        console.print(table)
    console.print(report.definition, soft_wrap=True, highlight=False)
    _write(report, rows, {csv: "csv", markdown: "markdown", latex: "latex"}, console)


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


def _metrics(words: list[str] | None) -> frozenset[str]:
    """Names of the fields of a row that are wanted."""
    chosen = [part for word in words or ["psnr", "ssim"] for part in word.lower().split(",")]
    for name in chosen:
        if name not in METRICS:
            raise UsageError(
                f"no metric is called '{name}'; there are {', '.join(METRICS)}.{nearest(name, METRICS)}"
            )
    return frozenset(name.replace("-", "_") for name in chosen) | {"psnr"}


def _settings(chop: str, ensemble: bool, device: str, options: list[str]) -> Any:
    """How models are called, from the options of that name."""
    from polyres.cli.convert import read_network_g
    from polyres.evaluation.contenders import Settings

    if chop not in ("none", "quadrants"):
        raise UsageError(f"pictures are cut by --chop none or quadrants; got {chop}")
    networks = {}
    for text in options:
        name, sign, file = text.rpartition("=")
        networks[name if sign else ""] = read_network_g(Path(file))
    return Settings(device, chop == "quadrants", ensemble, networks)


def _published(words: list[str] | None, protocol: Protocol) -> list[Published]:
    from polyres.evaluation import published as file

    if words and protocol.name != file.PROTOCOL:
        raise UsageError(f"published rows are by {file.PROTOCOL}; they cannot stand beside {protocol.name}")
    return file.choose(words or [])


def _run(
    plan: Plan, contenders: list[Contender], pairs: list[Pair], path: Path | None, errors: Console
) -> Report:
    """Measure what ``path`` does not hold already, and keep it there whatever happens."""
    from polyres.evaluation import Report
    from polyres.evaluation.journal import Journal
    from polyres.evaluation.routes import find_route
    from polyres.evaluation.run import define, distinct, evaluate

    listed, way = distinct(pairs), find_route(plan.route)
    definition = define(plan.protocol, way, plan.judges)
    empty = Report(protocol=plan.protocol.name, definition=definition, route=plan.route, rows=())
    journal = Journal(path, empty)
    todo = {each.label + each.fingerprint: _missing(journal, plan, each, listed) for each in contenders}
    _tell(journal, contenders, listed, todo, errors)
    try:
        with _progress(errors) as progress:
            step = _stepper(progress, sum(map(len, todo.values())), journal, plan.pictures)
            for each in contenders:
                if missing := todo[each.label + each.fingerprint]:
                    evaluate(
                        each.upscale,
                        missing,
                        plan.protocol,
                        name=each.label,
                        route=plan.route,
                        with_ssim="ssim" in plan.metrics,
                        with_ms_ssim="ms_ssim" in plan.metrics,
                        on_picture=step,
                        judges=plan.judges,
                        made_by=each.fingerprint,
                        workers=plan.workers,
                    )
            journal.sort([_key(each, pair) for each in contenders for pair in listed])
    finally:
        journal.write()
    return journal.report


def _missing(journal: Journal, plan: Plan, contender: Contender, pairs: list[Pair]) -> list[Pair]:
    """The pairs that ``contender`` makes and whose row, or wanted picture, is not there."""
    from polyres.evaluation import picture_path

    def is_there(pair: Pair) -> bool:
        path = plan.pictures and picture_path(plan.pictures, *_key(contender, pair))
        return journal.has(contender, pair, plan.metrics) and (path is None or path.is_file())

    return [pair for pair in pairs if contender.supports(pair.scale) and not is_there(pair)]


def _key(contender: Contender, pair: Pair) -> tuple[str, str, str, str]:
    return contender.label, pair.group, str(pair.scale), pair.name


def _tell(
    journal: Journal,
    contenders: list[Contender],
    pairs: list[Pair],
    todo: Mapping[str, list[Pair]],
    errors: Console,
) -> None:
    """Say which combinations are left out, and what is not measured again."""
    scales = dict.fromkeys(pair.scale for pair in pairs)
    for each in contenders:
        if out := [f"×{scale}" for scale in scales if not each.supports(scale)]:
            errors.print(
                f"{each.label}: not measured at {', '.join(out)}, which it does not make", markup=False
            )
    for label in sorted(journal.changed):
        errors.print(f"{label}: has changed since it was measured, so it is measured again", markup=False)
    possible = sum(each.supports(pair.scale) for each in contenders for pair in pairs)
    if done := possible - sum(map(len, todo.values())):
        errors.print(f"{done} of {possible} pictures were measured before and are kept", markup=False)


def _write(
    report: Report, published: list[Published], files: Mapping[Path | None, str], console: Console
) -> None:
    """Write the tables that were asked for, and name the sources of published rows."""
    from polyres.evaluation import tables
    from polyres.evaluation.published import sources
    from polyres.files import write_file

    for line in sources(tables.published_beside(report, published)):
        console.print(f"{tables.MARK} {line}", soft_wrap=True, highlight=False, markup=False)
    for path, kind in files.items():
        if path:
            text = {
                "csv": lambda: tables.to_csv(report),
                "markdown": lambda: tables.to_markdown(report, published),
                "latex": lambda: tables.to_latex(report, published),
            }[kind]()
            write_file(path, text.encode())


def _progress(errors: Console) -> Progress:
    """A bar on standard error, so that tables can be piped."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=errors, transient=True)


def _stepper(progress: Progress, total: int, journal: Journal, folder: Path | None) -> OnPicture:
    """What is done after each picture: keep its row and, with ``folder``, the result; move the bar."""
    import numpy as np
    import numpy.typing as npt

    from polyres.evaluation import Row, save_picture

    task = progress.add_task("", total=total)

    def step(row: Row, picture: npt.NDArray[np.uint8]) -> None:
        if folder:
            save_picture(folder, row, picture)
        journal.add(row)
        progress.update(
            task, advance=1, description=f"{row.group} ×{row.scale} {row.picture} {row.psnr:.2f} dB"
        )

    return step
