"""Options of how pictures are handled besides being enlarged: colours, depth, metadata, frames and bands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polyres.errors import UsageError, nearest

if TYPE_CHECKING:
    from polyres.pictures import Handling
    from polyres.pictures.stacks import Kind

SpaceOption = Annotated[
    str,
    typer.Option(
        help="Where the network works: in the values 'own' to the file, with the tone curve of 'srgb', "
        "or in 'linear' light. The result is in the profile of the picture again."
    ),
]
DepthOption = Annotated[
    int | None, typer.Option(help="Bits a colour of the result: 8, 16, or 32 (float). Default: as the input.")
]
DitherOption = Annotated[
    bool, typer.Option("--dither", help="Break up steps between 8-bit values; the same way every time.")
]
StripOption = Annotated[
    bool, typer.Option("--strip-metadata", help="Leave out EXIF, XMP and IPTC; the colour profile stays.")
]
FramesOption = Annotated[
    bool,
    typer.Option("--all-frames", help="All frames of animations and pages of TIFFs, not only the first."),
]
BandsOption = Annotated[
    bool, typer.Option("--bands", help="Each channel by itself, any number of any kind in a TIFF.")
]

_SPACES = ("own", "srgb", "linear")


def handling_of(space: str, depth: int | None, dither: bool, strip_metadata: bool) -> Handling:
    """What the options ask for.

    Raises:
        UsageError: a space or depth that there is not.
    """
    from polyres.pictures import DEPTHS, Handling

    if space not in _SPACES:
        raise UsageError(f"--space is one of {', '.join(_SPACES)}; got '{space}'.{nearest(space, _SPACES)}")
    if depth is not None and depth not in DEPTHS:
        raise UsageError(f"--depth is one of {', '.join(map(str, DEPTHS))}; got {depth}")
    return Handling(space, depth, dither, strip_metadata)  # type: ignore[arg-type]  # checked above


def kind_of(all_frames: bool, bands: bool) -> Kind:
    """What of each file is read.

    Raises:
        UsageError: both.
    """
    if all_frames and bands:
        raise UsageError("give --all-frames or --bands, not both")
    return "frames" if all_frames else "bands" if bands else "picture"
