"""Transparency: colour carried under transparent pixels, so that enlarging brings out no fringe."""

from __future__ import annotations

import numpy as np

from polyres.pictures.picture import Picture, Pixels


def bleed(picture: Picture) -> Pixels:
    """The colours (H, W, C) of ``picture``, those of transparent pixels replaced by their surroundings'.

    What lies under a transparent pixel is arbitrary, mostly black or white, and a network (or a filter) mixes
    it into visible neighbours. Pixels with any opacity keep their colour. A picture without transparency, or
    with nothing else, comes back as it is.
    """
    if picture.alpha is None:
        return picture.pixels
    hidden = picture.alpha == 0
    if not hidden.any() or hidden.all():
        return picture.pixels
    opacity = (picture.alpha / np.float32(picture.white)).astype(np.float32)[:, :, None]
    filled = _pull_push(picture.pixels * opacity, opacity)
    if picture.pixels.dtype.kind != "f":
        filled = np.rint(filled)
    return np.where(hidden[:, :, None], filled.astype(picture.pixels.dtype), picture.pixels)


def _pull_push(weighted: Pixels, weight: Pixels) -> Pixels:
    """Colours everywhere: averages over 2x2 blocks, those without weight filled from the next coarser level.

    Args:
        weighted: (H, W, C) colours times weight.
        weight: (H, W, 1), not zero everywhere.
    """
    height, width = weight.shape[:2]
    known = weight > 0
    colours = weighted / np.where(known, weight, 1)
    if known.all():
        return colours
    coarse = _pull_push(_halved(weighted), _halved(weight))
    wide = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(known, colours, wide)


def _halved(values: Pixels) -> Pixels:
    """Sums over 2x2 blocks of (H, W, C), with zeros beyond an odd edge."""
    odd = [(0, size % 2) for size in values.shape[:2]]
    padded = np.pad(values, [*odd, (0, 0)])
    height, width, channels = padded.shape
    blocks: Pixels = padded.reshape(height // 2, 2, width // 2, 2, channels).sum(axis=(1, 3))
    return blocks
