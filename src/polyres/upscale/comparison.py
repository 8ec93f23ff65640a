"""Comparisons: a picture enlarged by bicubic interpolation beside the same picture enlarged by the network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from polyres.files import replacing
from polyres.pictures import Picture, bleed, resample, write_picture
from polyres.pictures.slider import before_after_page
from polyres.upscale.planning import Plan

#: Pixels between the two pictures, white.
GAP = 8

#: Pixels of a result up to which a page is written: browsers hold larger pictures badly or not at all.
PAGE_PIXELS = 50_000_000


def bicubic(picture: Picture, work: Plan) -> Picture:
    """``picture`` made as large as ``work`` says, by bicubic interpolation alone."""
    width, height = work.cut_from or (work.width, work.height)
    pixels = resample(bleed(picture), height, width, sharp=False)[work.kept]
    alpha = None if picture.alpha is None else resample(picture.alpha, height, width, sharp=False)[work.kept]
    return dataclasses.replace(picture, pixels=pixels, alpha=alpha)


def side_by_side(left: Picture, right: Picture) -> Picture:
    """One picture of two of the same size, with a gap between."""
    white = np.full_like(right.pixels[:, :1], right.white).repeat(GAP, axis=1)
    alpha = None
    if left.alpha is not None and right.alpha is not None:
        alpha = np.hstack((left.alpha, white[:, :, 0], right.alpha))
    pixels = np.hstack((left.pixels, white, right.pixels))
    return dataclasses.replace(
        right.without_metadata(), pixels=pixels, alpha=alpha, icc_profile=right.icc_profile
    )


def write_comparison(picture: Picture, enlarged: Picture, work: Plan, target: Path) -> tuple[Path, ...]:
    """Write ``NAME_compare.png`` and, up to :data:`PAGE_PIXELS`, ``NAME_compare.html`` beside ``target``.

    The page holds both pictures and a slider between them; it needs no network.

    Args:
        picture: as it came.
        enlarged: by the network.
        work: what was done.
        target: file of the result.

    Returns:
        the files written.

    Raises:
        OutputError: one that cannot be written.
    """
    before = bicubic(picture, work)
    both = target.with_name(f"{target.stem}_compare.png")
    write_picture(side_by_side(before, enlarged), both)
    if enlarged.width * enlarged.height > PAGE_PIXELS:
        return (both,)
    page = both.with_suffix(".html")
    content = before_after_page(before, enlarged, target.stem, ("bicubic", "polyres"))
    with replacing(page) as stream:
        stream.write(content.encode())
    return both, page
