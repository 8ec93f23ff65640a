"""``polyres upscale``: pictures and folders in, enlarged pictures out, one bad file never stopping the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polyres.cli.batches import Run, Settings
from polyres.cli.handling import (
    BandsOption,
    DepthOption,
    DitherOption,
    FramesOption,
    SpaceOption,
    StripOption,
    handling_of,
    kind_of,
)
from polyres.cli.options import ModelOption
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
from polyres.errors import UsageError, nearest
from polyres.scale import Scale

if TYPE_CHECKING:
    import torch

    from polyres.upscale import Upscaler
    from polyres.upscale.choice import EngineName


def upscale(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Pictures, folders of pictures, patterns such as 'in/**/*.jpg', or - for standard input.",
        ),
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
            help="Folder for the results, or the file for one, or - for standard output. "
            "Default: photo.jpg becomes photo_x2.jpg beside it, and the folder photos becomes photos_x2.",
        ),
    ] = None,
    model: ModelOption = "default",
    tile: Annotated[
        str,
        typer.Option("-t", "--tile", help="Side of the tiles in pixels of the input, 0 for none, or auto."),
    ] = "auto",
    target_format: Annotated[
        str | None,
        typer.Option(
            "-f",
            "--format",
            help="png, jpeg, webp, tiff, bmp, avif, jp2 or gif. Default: as the input, or png.",
        ),
    ] = None,
    suffix: Annotated[
        str | None,
        typer.Option("--suffix", help="Put after each name. Default: the scale or size, as _x2 or _w3840."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Template of the names, of {stem}, {size} (x2, w3840), {scale} (2) and {ext} (.jpg)."
        ),
    ] = None,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing", help="Leave alone results that are there, whole and of the right size."
        ),
    ] = False,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Also write a picture and a page (offline HTML) that compare with bicubic."
        ),
    ] = False,
    verify_tiling: Annotated[
        bool,
        typer.Option("--verify-tiling", help="Measure, on the centre of each picture, what tiles change."),
    ] = False,
    log: Annotated[
        Path | None, typer.Option(help="Write what became of each input to this JSON file.")
    ] = None,
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Also take the folders inside folders, and mirror them.")
    ] = False,
    quality: Annotated[
        int, typer.Option("-q", "--quality", min=1, max=100, help="Of JPEG, WebP (100: lossless) and AVIF.")
    ] = 95,
    space: SpaceOption = "own",
    depth: DepthOption = None,
    dither: DitherOption = False,
    strip_metadata: StripOption = False,
    all_frames: FramesOption = False,
    bands: BandsOption = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ... Default: the GPU if any.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16, float16, or auto: the fastest that is good enough.")
    ] = "auto",
    engine: Annotated[
        str,
        typer.Option(
            help="torch, onnxruntime, openvino, or auto: the fastest that is installed, tried once for a model."
        ),
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
    from polyres.upscale.batch import PIPE, gather, prepare_folders
    from polyres.upscale.naming import NameTemplate

    target = target_of(scale, width, height, size, mode, short_side, long_side, max_pixels)
    side = _tile(tile)
    handling, kind = handling_of(space, depth, dither, strip_metadata), kind_of(all_frames, bands)
    if name is not None and suffix is not None:
        raise UsageError("give --name or --suffix, not both: a template holds what a suffix would add")
    wanted_format = format_named(target_format) if target_format else None
    batch = gather(
        inputs,
        output,
        suffix=f"_{target.label}" if suffix is None else suffix,
        target_format=wanted_format,
        recursive=recursive,
        template=None if name is None else NameTemplate(name),
        size=target.label,
    )
    if compare and any(job.target == PIPE for job in batch.jobs):
        raise UsageError("--compare writes files beside the result, and standard output is beside nothing")
    prepare_folders(batch)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    upscaler, trained = _upscaler(model, device, precision, side, engine)
    run = Run(
        batch,
        upscaler,
        Settings(
            target,
            quality,
            round(max_megapixels * 1e6),
            verbose,
            trained,
            skip_existing,
            compare,
            verify_tiling,
            wanted_format,
            handling,
            kind,
        ),
        errors,
    )
    try:
        run.go()
    finally:
        if log is not None:
            run.write_log(log, model)
    run.report()


def _upscaler(
    model: str, device: str | None, precision: str, tile: int | Literal["auto"], engine: str
) -> tuple[Upscaler, tuple[Scale, ...]]:
    """The model, loaded, in an upscaler, and the scales that it was trained at, as far as its file tells."""
    from polyres.upscale import Upscaler
    from polyres.weights import load
    from polyres.weights.store import load_card

    upscaler = Upscaler(
        load(model),
        device=_device(device),
        dtype=_dtype(precision),
        tile=tile,
        engine=_engine_name(engine),
    )
    return upscaler, tuple(Scale.of(text) for text in load_card(model).scales)


def _engine_name(name: str) -> EngineName:
    from polyres.upscale.choice import check_engine

    return check_engine(name)


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
