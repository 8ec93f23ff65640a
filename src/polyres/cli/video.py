"""``polyres video``: the frames of a video enlarged, everything else carried over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyres.cli.options import ModelOption
from polyres.cli.sizes import (
    HeightOption,
    LongSideOption,
    ScaleOption,
    ShortSideOption,
    WidthOption,
    target_of,
)


def video(
    source: Annotated[Path, typer.Argument(help="Video to read.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="File to write (.mkv, .mp4, .mov). Default: NAME_x2.mkv beside the video."
        ),
    ] = None,
    scale: ScaleOption = None,
    width: WidthOption = None,
    height: HeightOption = None,
    short_side: ShortSideOption = None,
    long_side: LongSideOption = None,
    model: ModelOption = "default",
    engine: Annotated[
        str, typer.Option(help="torch, onnxruntime, openvino, or auto: the fastest, tried once.")
    ] = "auto",
) -> None:
    """Enlarge a video (extra: video). Started again after an interruption, it goes on where it was."""
    from rich.console import Console
    from rich.progress import Progress

    from polyres.upscale import Upscaler
    from polyres.upscale.choice import check_engine
    from polyres.upscale.video import upscale_video
    from polyres.weights import load

    wanted = target_of(scale, width, height, None, None, short_side, long_side, None)
    target = output or source.with_name(f"{source.stem}_{wanted.label}.mkv")
    upscaler = Upscaler(load(model), engine=check_engine(engine))
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        bar = progress.add_task(source.name, total=None)
        upscale_video(
            upscaler,
            source,
            target,
            wanted,
            lambda done, total: progress.update(bar, completed=done, total=total),
        )
    typer.echo(str(target))
