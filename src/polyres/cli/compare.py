"""``polyres compare``: is one model's mean really better than another's, and where?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from polyres.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from polyres.evaluation.compare import Comparison, Difference, Metric, Side


def compare(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="A.json [B.json]", help="Results of polyres evaluate; one file may hold both models."
        ),
    ],
    models: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", help="Which model of each file, in that order; given twice, or not."),
    ] = None,
    metric: Annotated[str, typer.Option(help="psnr, ssim or ms-ssim.")] = "psnr",
    common: Annotated[
        bool, typer.Option("--common", help="Leave out sets and scales that only one has.")
    ] = False,
    show: Annotated[int, typer.Option(min=0, help="Pictures to list as worst and as best.")] = 3,
    crops: Annotated[
        Path | None, typer.Option(help="Write crops of those side by side, as PNG, to this folder.")
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of --save-pictures; given twice if each model has its own."),
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="Folder of the originals, as for evaluate; repeatable.")
    ] = None,
) -> None:
    """Compare two models picture by picture: mean difference, 95 % bootstrap interval, Wilcoxon's test.

    Positive differences mean that the second is better.
    """
    from rich.console import Console

    from polyres.evaluation.compare import SIGNIFICANCE
    from polyres.evaluation.compare import compare as measure

    score, console = _metric(metric), Console()
    folders = _folders(crops, pictures or [], data or [])
    first, second = _sides(results, models or [])
    comparisons = measure(first, second, score, common_only=common)
    names = f"second: {second.model} ({second.source}), first: {first.model} ({first.source})"
    console.print(names, soft_wrap=True, highlight=False, markup=False)
    console.print(_table(comparisons, metric))
    for one in comparisons:
        console.print(
            f"{one.group} ×{one.scale}: {one.verdict}", soft_wrap=True, highlight=False, markup=False
        )
    console.print(
        f"Differences are second less first, by picture. Interval: 95 %, BCa bootstrap of the mean. p: Wilcoxon's "
        f"signed-rank test, exact, two-sided. Real: the interval leaves out 0 and p is below {SIGNIFICANCE:g}. "
        f"{first.report.definition}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    ends = _ends(comparisons, show)
    for title, differences in ends.items():
        for each in differences:
            row = each.first
            console.print(
                f"{title}: {row.group} ×{row.scale} {row.picture} {each.value:+.4f}",
                markup=False,
                highlight=False,
            )
    if crops and folders:
        _write_crops(crops, ends, folders, data or [])


def _metric(name: str) -> Metric:
    known = ("psnr", "ssim", "ms-ssim")
    if name not in known:
        raise UsageError(f"models are compared by {', '.join(known)}; got '{name}'")
    return cast("Literal['psnr', 'ssim', 'ms_ssim']", name.replace("-", "_"))


def _sides(results: list[Path], models: list[str]) -> tuple[Side, Side]:
    """The two that are compared."""
    from polyres.evaluation.compare import Side
    from polyres.evaluation.journal import read_report

    if len(results) > 2 or len(models) not in (0, 2) or (len(results) == 1 and not models):
        raise UsageError(
            "two results are compared: two files, each of one model, or -m FIRST -m SECOND with one file or two; got "
            f"{len(results)} files and {len(models)} models"
        )
    paths, wanted = [results[0], results[-1]], list[str | None](models) or [None, None]
    first, second = (
        Side.of(str(path), read_report(path), model) for path, model in zip(paths, wanted, strict=True)
    )
    return first, second


def _table(comparisons: Sequence[Comparison], metric: str) -> Table:
    from rich.table import Table

    digits = 3 if metric == "psnr" else 5
    table = Table(title=f"{metric.upper()}, second less first", title_justify="left")
    for name in ("set", "pictures", "difference", "95 % interval", "p", "better on"):
        table.add_column(name, justify="left" if name == "set" else "right", no_wrap=True)
    for each in comparisons:
        table.add_row(
            f"{each.group} ×{each.scale}",
            str(len(each.differences)),
            f"{each.mean:+.{digits}f}",
            f"{each.low:+.{digits}f} to {each.high:+.{digits}f}",
            f"{each.p:.2g}",
            str(each.wins),
        )
    return table


def _ends(comparisons: Sequence[Comparison], count: int) -> dict[str, list[Difference]]:
    """The pictures on which the second loses most, and gains most, over all sets and scales."""
    ranked = sorted(
        (each for one in comparisons if one.group != "all sets" for each in one.differences),
        key=lambda each: each.value,
    )
    worst = [each for each in ranked[:count] if each.value < 0]
    return {"worst": worst, "best": [each for each in ranked[::-1][:count] if each.value > 0]}


def _folders(crops: Path | None, pictures: list[Path], data: list[Path]) -> tuple[Path, Path] | None:
    """Where the pictures of the first and the second lie."""
    if crops is None:
        return None
    if len(pictures) not in (1, 2) or not data:
        raise UsageError(
            "--crops needs --pictures, the folder of --save-pictures (once, or once a model), and --data, the originals"
        )
    return pictures[0], pictures[-1]


def _write_crops(
    folder: Path, ends: dict[str, list[Difference]], pictures: tuple[Path, Path], data: list[Path]
) -> None:
    """A PNG for each of the pictures at the ends."""
    import io

    from polyres.data import find_pairs
    from polyres.errors import DataError
    from polyres.evaluation.crops import crop_sheet
    from polyres.files import write_file
    from polyres.scale import Scale

    scales = list(dict.fromkeys(Scale.from_text(d.first.scale) for each in ends.values() for d in each))
    if not scales:
        return  # no picture differs
    pairs = {(p.group, str(p.scale), p.name): p for each in data for p in find_pairs(each, scales)}
    for title, differences in ends.items():
        for number, each in enumerate(differences, 1):
            key = each.first.key[1:]
            if key not in pairs:
                raise DataError(f"--data holds no {key[2]} of {key[0]}: give the folder that was measured")
            stream = io.BytesIO()
            crop_sheet(each, pairs[key], pictures).save(stream, "PNG")
            name = f"{title}-{number}-{key[0]}-x{key[1].replace('/', '-')}-{key[2]}.png"
            write_file(folder / name, stream.getvalue())
