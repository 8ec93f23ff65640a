"""Noise of sensors: Gaussian and Poisson, in colour or equal in the three channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polyres.data.degradations.base import Image, chance, interval


class GaussianNoise:
    """White noise of one strength for the whole picture.

    Args:
        sigma: range of the standard deviations in 8-bit levels.
        grey: how often it is the same in the three channels.
    """

    def __init__(self, sigma: Sequence[float] = (1.0, 30.0), grey: float = 0.4) -> None:
        self.sigma, self.grey = interval("sigma", sigma, 0, 255), chance("grey", grey)

    def __call__(self, image: Image, random: np.random.Generator, low: tuple[int, int]) -> Image:
        """``image`` with noise, clamped to [0, 1]."""
        channels = 1 if random.random() < self.grey else 3
        noise = random.standard_normal((*image.shape[:2], channels), dtype=np.float32)
        return _clamped(image + np.float32(random.uniform(*self.sigma) / 255) * noise)


class PoissonNoise:
    """Noise of counting photons, stronger where the picture is brighter.

    Args:
        strength: range of the factor on the noise of 255 photons for white.
        grey: how often it is that of the grey picture, the same in the three channels.
    """

    def __init__(self, strength: Sequence[float] = (0.05, 3.0), grey: float = 0.4) -> None:
        self.strength, self.grey = interval("strength", strength, 0, 30), chance("grey", grey)

    def __call__(self, image: Image, random: np.random.Generator, low: tuple[int, int]) -> Image:
        """``image`` with noise, clamped to [0, 1]."""
        clean = _clamped(image)
        if random.random() < self.grey:
            clean = clean.mean(axis=2, keepdims=True)
        noise = (random.poisson(clean * 255) / 255 - clean).astype(np.float32)
        return _clamped(image + np.float32(random.uniform(*self.strength)) * noise)


def _clamped(image: Image) -> Image:
    return np.asarray(np.clip(image, 0, 1), dtype=np.float32)
