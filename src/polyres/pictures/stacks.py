"""Stacks: the pictures of one file where it has several, its frames or its bands, worked on one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from polyres.errors import OutputError, PictureError
from polyres.files import replacing
from polyres.pictures.bands import merged, read_bands, write_bands
from polyres.pictures.formats import format_of
from polyres.pictures.frames import ANIMATED, Timing, read_frames, write_frames
from polyres.pictures.picture import Picture
from polyres.pictures.reading import Limits, decoding, read_picture
from polyres.pictures.writing import QUALITY, write_picture

#: What of a file is read: its (first) picture, all its frames, or each band by itself.
Kind = Literal["picture", "frames", "bands"]


@dataclass(frozen=True)
class Stack:
    """What was read from one file.

    Attributes:
        pictures: one; or frames or pages in their order; or bands, each a grey picture.
        kind: which of these.
        timing: how frames follow each other; None where they are pages.
        ranges: the least and greatest value of each band, where these are not those of a picture.
    """

    pictures: tuple[Picture, ...]
    kind: Kind = "picture"
    timing: Timing | None = None
    ranges: tuple[tuple[float, float, str], ...] | None = None

    def mapped(self, function: Callable[[Picture], Picture]) -> Stack:
        """The stack with ``function`` applied to each picture."""
        return replace(self, pictures=tuple(map(function, self.pictures)))


def read_stack(path: str | Path, limits: Limits | None = None, kind: Kind = "picture") -> Stack:
    """The pictures in the file at ``path``; errors as of :func:`polyres.read_picture`.

    Args:
        path: of the file.
        limits: which hold for all frames together.
        kind: ``"frames"`` reads all frames of GIF, WebP, PNG and AVIF and all pages of TIFF; ``"bands"`` reads each
            channel as a grey picture, any number of them from TIFF, whose values may be of any kind.
    """
    if kind == "picture":
        return Stack((read_picture(path, limits),))
    with decoding(path) as stream:
        return _read(stream, limits or Limits(), kind)


def _read(stream: BinaryIO, limits: Limits, kind: Kind) -> Stack:
    if kind == "frames":
        frames, timing = read_frames(stream, limits)
        return Stack(frames, kind, timing)
    bands, ranges = read_bands(stream, limits)
    return Stack(bands, kind, None, ranges)


def write_stack(stack: Stack, path: str | Path, quality: int = QUALITY, *, dither: bool = False) -> None:
    """Write ``stack`` to ``path``, in the format that its suffix names; errors as of :func:`polyres.write_picture`."""
    path = Path(path)
    if len(stack.pictures) == 1 and stack.ranges is None:
        write_picture(stack.pictures[0], path, quality, dither=dither)
        return
    target = format_of(path)
    if stack.kind == "bands" and (target is None or target.name != "tiff"):
        if stack.ranges is not None or len(stack.pictures) > 4:
            raise OutputError(f"{path}: only tiff holds {len(stack.pictures)} bands; choose --format tiff")
        write_picture(merged(stack.pictures), path, quality, dither=dither)
        return
    if target is None or (stack.kind == "frames" and target.name not in ANIMATED):
        raise OutputError(
            f"{path}: {len(stack.pictures)} frames need one of {', '.join(ANIMATED)}; choose another --format"
        )
    try:
        with replacing(path) as file:
            if stack.kind == "bands":
                write_bands(file, stack.pictures, stack.ranges)
            else:
                write_frames(file, stack.pictures, stack.timing, target, quality)
    except PictureError as error:
        raise OutputError(f"{path}: {error}") from error
