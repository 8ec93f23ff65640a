"""Frames of animations and pages of documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageSequence

from polyres.errors import PictureError
from polyres.pictures import deep
from polyres.pictures.formats import READ_CODECS, Format
from polyres.pictures.metadata import Metadata, own_metadata, read_metadata, upright
from polyres.pictures.modes import cmyk_to_rgb, from_pillow, to_pillow
from polyres.pictures.palette import few_colours
from polyres.pictures.picture import Picture, Pixels
from polyres.pictures.reading import Limits, unlimited_pillow

#: Formats that hold several frames or pages.
ANIMATED = ("png", "webp", "gif", "avif", "tiff")

_USUAL_MILLISECONDS = 100  # where a file does not say how long a frame lasts


@dataclass(frozen=True)
class Timing:
    """How frames follow each other.

    Attributes:
        milliseconds: that each frame is shown.
        loop: how often they are shown; 0 means for ever.
    """

    milliseconds: tuple[float, ...]
    loop: int


def read_frames(stream: BinaryIO, limits: Limits) -> tuple[tuple[Picture, ...], Timing | None]:
    """All frames in ``stream``, as they are seen, of one kind; or all pages of a TIFF, without timing."""
    with unlimited_pillow(), Image.open(stream, formats=READ_CODECS) as image:
        count, name = getattr(image, "n_frames", 1), (image.format or "").lower()
        width, height = image.size
        limits.check(width, height, frames=count)
        if name == "tiff":
            turn, metadata = read_metadata(image, own_metadata(stream, "TIFF"))
            pages = deep.decode_pages(stream, lambda width, height: limits.check(width, height, frames=count))
            return _pictures(pages, turn, metadata, name), None
        shown, milliseconds = [], []
        for frame in ImageSequence.Iterator(image):
            frame.load()
            shown.append(from_pillow(cmyk_to_rgb(frame, None) if frame.mode == "CMYK" else frame))
            milliseconds.append(float(frame.info.get("duration") or _USUAL_MILLISECONDS))
        # A GIF without a count is shown once; the others say 0 for ever.
        loop = int(image.info.get("loop", 1 if name == "gif" else 0))
        image.seek(0)
        turn, metadata = read_metadata(image, {})
    return _pictures(alike(shown), turn, metadata, name), Timing(tuple(milliseconds), loop)


def _pictures(
    frames: Sequence[tuple[Pixels, Pixels | None]], turn: int, metadata: Metadata, name: str
) -> tuple[Picture, ...]:
    """Frames, upright, with the metadata of the whole."""
    return tuple(
        Picture(
            upright(colours, turn),
            None if alpha is None else upright(alpha, turn),
            **metadata,
            format=name,
            notes=(),
        )
        for colours, alpha in frames
    )


def alike(frames: Sequence[tuple[Pixels, Pixels | None]]) -> list[tuple[Pixels, Pixels | None]]:
    """Frames with as many channels as the richest of them, all with opacity if one has it."""
    channels = max(colours.shape[2] for colours, _ in frames)
    has_alpha = any(alpha is not None for _, alpha in frames)
    result = []
    for colours, alpha in frames:
        wide = np.repeat(colours, channels, 2) if colours.shape[2] < channels else colours
        if has_alpha and alpha is None:
            alpha = np.full(colours.shape[:2], 255, np.uint8)
        result.append((wide, alpha))
    return result


def write_frames(
    stream: BinaryIO, pictures: Sequence[Picture], timing: Timing | None, target: Format, quality: int
) -> None:
    """Write several pictures into one file of the format ``target``, which is one of :data:`ANIMATED`."""
    if target.name == "tiff":
        deep.encode_pages(stream, pictures)
        return
    if len({picture.pixels.shape for picture in pictures}) > 1:
        raise PictureError(f"{target.name} needs frames of one size, and these differ; choose tiff")
    images = []
    for picture in pictures:
        flat = picture.at_depth(np.uint8)
        colours = (
            flat.pixels if target.name == "gif" else np.repeat(flat.pixels, 3 // flat.pixels.shape[2], 2)
        )
        images.append((few_colours if target.name == "gif" else to_pillow)(colours, flat.alpha))
    options: dict[str, Any] = {"save_all": True, "append_images": images[1:]}
    if timing is not None:
        options |= {"duration": [round(each) for each in timing.milliseconds]}
        # A GIF of one showing has no count at all.
        options |= {} if target.name == "gif" and timing.loop == 1 else {"loop": timing.loop}
    if target.name == "gif":
        options["disposal"] = 2
    elif target.name in ("webp", "avif"):
        options |= (
            {"quality": quality, "lossless": quality == 100}
            if target.name == "webp"
            else {"quality": quality}
        )
    if pictures[0].icc_profile and "icc" in target.holds:
        options["icc_profile"] = pictures[0].icc_profile
    images[0].save(stream, target.codec, **options)
