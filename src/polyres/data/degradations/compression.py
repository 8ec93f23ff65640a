"""Compression artefacts: a picture through an encoder and back."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow

from polyres.data.degradations.base import Image, interval


class Jpeg:
    """JPEG of a random quality.

    Args:
        quality: range of the quality, 1 to 100, whole numbers.
    """

    def __init__(self, quality: Sequence[int] = (30, 95)) -> None:
        self.quality = interval("quality", quality, 1, 100)

    def __call__(self, image: Image, random: np.random.Generator, low: tuple[int, int]) -> Image:
        """``image`` rounded to 8 bits, compressed and decoded."""
        quality = int(random.integers(int(self.quality[0]), int(self.quality[1]) + 1))
        pixels = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Pillow.fromarray(pixels).save(stream, "JPEG", quality=quality)
        with Pillow.open(stream) as decoded:
            result: Image = np.asarray(decoded, dtype=np.float32) / np.float32(255)
        return result
