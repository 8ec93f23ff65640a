"""``polyres upscale``: pictures and folders in, enlarged pictures out, one bad file never stopping the rest."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polyres.cli.sizes import (
    HeightOption,
    LongSideOption,
    MaxPixelsOption,
    ModeOption,
    ScaleOption,
    ShortSideOption,
    SizeOption,
    WidthOption,
    target_of,
)
from polyres.errors import PictureError, PolyresError, UsageError, nearest
from polyres.scale import Scale

if TYPE_CHECKING:
    import torch
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from polyres.pictures import Picture
    from polyres.upscale import Target, Upscaler
    from polyres.upscale.batch import Batch, Job


@dataclass(frozen=True)
class Settings:
    """What applies to every picture of a run."""

    target: Target
    quality: int
    max_pixels: int
    verbose: bool
    trained: tuple[Scale, ...]
    told: set[str] = field(default_factory=set)


def upscale(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Pictures, and folders of pictures.")
    ],
    scale: ScaleOption = None,
    width: WidthOption = None,
    height: HeightOption = None,
    size: SizeOption = None,
    mode: ModeOption = None,
    short_side: ShortSideOption = None,
    long_side: LongSideOption = None,
    max_pixels: MaxPixelsOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder for the results, or the file for one. "
            "Default: photo.jpg becomes photo_x2.jpg beside it, and the folder photos becomes photos_x2.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("-n", "--model", help="Name of a model, or a model file.")
    ] = "default",
    tile: Annotated[
        str,
        typer.Option("-t", "--tile", help="Side of the tiles in pixels of the input, 0 for none, or auto."),
    ] = "auto",
    target_format: Annotated[
        str | None,
        typer.Option("-f", "--format", help="png, jpeg, webp, tiff, bmp or avif. Default: as the input."),
    ] = None,
    suffix: Annotated[
        str | None,
        typer.Option("--suffix", help="Put after each name. Default: the scale or size, as _x2 or _w3840."),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Also take the folders inside folders, and mirror them.")
    ] = False,
    quality: Annotated[
        int, typer.Option("-q", "--quality", min=1, max=100, help="Of JPEG, WebP (100: lossless) and AVIF.")
    ] = 95,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ... Default: the GPU if any.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16, float16, or auto: the fastest that is good enough.")
    ] = "auto",
    max_megapixels: Annotated[
        float, typer.Option(min=0, help="Larger pictures are refused, not decoded.")
    ] = 256,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Tell how each picture is made.")] = False,
) -> None:
    """Enlarge pictures.

    Depth, colour profile, EXIF data and transparency are kept. Inputs are never replaced; results of an earlier
    run are. Exit status: 0, or 1 if nothing could be made, or 2 if some pictures failed or the request is wrong.
    """
    from rich.console import Console

    from polyres.pictures.formats import format_named
    from polyres.upscale.batch import gather, prepare_folders

    target = target_of(scale, width, height, size, mode, short_side, long_side, max_pixels)
    side = _tile(tile)
    batch = gather(
        inputs,
        output,
        suffix=f"_{target.label}" if suffix is None else suffix,
        target_format=format_named(target_format) if target_format else None,
        recursive=recursive,
    )
    prepare_folders(batch)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    made, failures = 0, list(batch.failures)
    if batch.jobs:
        upscaler, trained = _upscaler(model, device, precision, side)
        settings = Settings(target, quality, round(max_megapixels * 1e6), verbose, trained)
        made, failed = _run(batch, upscaler, settings, errors)
        failures += failed
    _report(made, failures, errors)


def _upscaler(
    model: str, device: str | None, precision: str, tile: int | Literal["auto"]
) -> tuple[Upscaler, tuple[Scale, ...]]:
    """The model, loaded, in an upscaler, and the scales that it was trained at, as far as its file tells."""
    from polyres.upscale import Upscaler
    from polyres.weights import load
    from polyres.weights.store import load_card

    upscaler = Upscaler(load(model), device=_device(device), dtype=_dtype(precision), tile=tile)
    return upscaler, tuple(Scale.of(text) for text in load_card(model).scales)


def _run(
    batch: Batch, upscaler: Upscaler, settings: Settings, errors: Console
) -> tuple[int, list[tuple[Path, PolyresError]]]:
    """Do all jobs; the number of results, and the inputs that failed."""
    from rich.console import Console
    from rich.markup import escape

    failures: list[tuple[Path, PolyresError]] = []
    results = Console(soft_wrap=True, highlight=False)
    with _progress(errors) as progress, warnings.catch_warnings():
        # Pillow tells of damaged metadata in several lines; what matters is in the notes and errors.
        warnings.filterwarnings("ignore", module="PIL")
        bar = progress.add_task("", total=len(batch.jobs))
        for index, job in enumerate(batch.jobs):
            progress.update(bar, completed=index, description=escape(job.source.name))
            step = partial(_advance, progress, bar, index)
            try:
                results.print(_one(job, upscaler, settings, errors, step), markup=False)
            except PolyresError as error:
                if isinstance(error, UsageError) and not isinstance(error, PictureError):
                    raise  # the next picture would fail for the same reason
                failures.append((job.source, error))
    return len(batch.jobs) - len(failures), failures


def _one(
    job: Job, upscaler: Upscaler, settings: Settings, errors: Console, on_progress: Callable[[float], None]
) -> str:
    """Do one job; a line that tells what was made."""
    from polyres.pictures import Limits, read_picture, write_picture

    started = time.monotonic()
    picture = read_picture(job.source, Limits(settings.max_pixels, min_side=2))
    for note in picture.notes:
        errors.print(f"{job.source}: {note}", markup=False)
    _tell(job, picture, upscaler, settings, errors)
    enlarged = upscaler(picture, target=settings.target, on_progress=on_progress)
    write_picture(enlarged, job.target, settings.quality)
    seconds = time.monotonic() - started
    sizes = f"{picture.width}x{picture.height} to {enlarged.width}x{enlarged.height}"
    return f"{job.target}  {sizes}, {seconds:.1f} s"


def _tell(job: Job, picture: Picture, upscaler: Upscaler, settings: Settings, errors: Console) -> None:
    """How ``picture`` will be made, if asked; what a person should know of it, once a run."""
    from polyres.upscale.planning import remarks

    work = upscaler.plan(picture, target=settings.target)
    if settings.verbose:
        how = str(work)
        if work.model_scale is not None:
            tiling = upscaler.tiling(picture.height, picture.width, work.model_scale)
            how = f"{how}; {tiling}; {upscaler.describe(work.model_scale)}"
        errors.print(f"{job.source}: {how}", markup=False)
    for remark in remarks(work, picture.height, picture.width, settings.trained):
        if remark not in settings.told:
            settings.told.add(remark)
            errors.print(f"{job.source}: {remark}", markup=False)


def _report(made: int, failures: list[tuple[Path, PolyresError]], errors: Console) -> None:
    """Tell what failed, and leave with the exit status that says so."""
    from rich.table import Table
    from rich.text import Text

    if not failures:
        return
    if not made and len(failures) == 1:
        raise failures[0][1]
    table = Table(
        title=f"{made} of {made + len(failures)} done, {len(failures)} failed", title_justify="left"
    )
    table.add_column("input", overflow="fold")
    table.add_column("reason", overflow="fold")
    for source, error in failures:
        reason = str(error).removeprefix(f"{source}: ")
        table.add_row(Text(str(source)), Text(reason))
    errors.print(table)
    raise typer.Exit(2 if made else 1)


def _progress(errors: Console) -> Progress:
    """A bar on standard error, if that is a terminal; standard output stays clean for a pipe."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = errors.is_terminal
    return Progress(
        *columns, console=errors, transient=True, disable=not shown, redirect_stdout=sys.stdout.isatty()
    )


def _advance(progress: Progress, bar: TaskID, index: int, part: float) -> None:
    progress.update(bar, completed=index + part)


def _tile(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise UsageError(f"--tile is a number of pixels, 0 for no tiles, or auto; got '{text}'")
    return int(text)


def _device(name: str | None) -> torch.device | None:
    import torch

    if name is None:
        return None
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"--device {name} is not there: expected cpu, or cuda with a GPU; {reason}"
        ) from None


def _dtype(precision: str) -> torch.dtype | None:
    import torch

    known = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if precision not in known:
        raise UsageError(
            f"--precision is one of {', '.join(known)}; got '{precision}'.{nearest(precision, known)}"
        )
    return known[precision]
