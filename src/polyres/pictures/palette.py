"""Pictures of 256 colours: what GIF holds."""

from __future__ import annotations

import numpy as np
from PIL import Image

from polyres.pictures.picture import Pixels

_CLEAR = 255  # the palette entry of transparent pixels


def few_colours(pixels: Pixels, alpha: Pixels | None) -> Image.Image:
    """An image with a palette, of ``pixels`` (H, W, 1 or 3) of 8 bits.

    Where there are no more colours than the palette has room for, they stay as they are; otherwise the nearest
    stand in for them, their errors spread over the neighbours. Pixels less than half opaque become transparent.
    """
    if pixels.shape[2] == 1 and alpha is None:
        return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0]))
    colours = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    visible = np.ones(pixels.shape[:2], bool) if alpha is None else alpha >= 128
    shown = np.where(visible[:, :, None], colours, 0).astype(np.uint8)
    room = 256 if visible.all() else _CLEAR
    distinct, index = np.unique(shown.reshape(-1, 3), axis=0, return_inverse=True)
    if len(distinct) <= room:
        palette, chosen = distinct, index.reshape(visible.shape)
    else:
        reduced = Image.fromarray(shown).quantize(room, dither=Image.Dither.FLOYDSTEINBERG)
        palette, chosen = np.reshape(reduced.getpalette() or [], (-1, 3)), np.asarray(reduced)
    image = Image.fromarray(np.where(visible, chosen, _CLEAR).astype(np.uint8), "L")
    image.putpalette(palette.astype(np.uint8).tobytes())
    if not visible.all():
        image.info["transparency"] = _CLEAR
    return image
