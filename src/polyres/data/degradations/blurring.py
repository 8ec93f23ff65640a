"""Blurs with random kernels: Gaussian, generalised and plateau-shaped, round or elliptic, and sinc filters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from polyres.data.degradations.base import Image, interval
from polyres.data.degradations.kernels import blur, gaussian, sinc

#: Largest side of a kernel.
_LARGEST = 63


class Blur:
    """A blur whose kernel is drawn anew for every picture.

    Args:
        sigma: range of the standard deviations in pixels.
        kernel_size: range of the odd sides in pixels.
        anisotropic: two standard deviations and an angle instead of one.
        beta: range of the shape, log-uniform; see :func:`polyres.data.degradations.kernels.gaussian`.
        plateau: the flat-topped kind.
    """

    def __init__(
        self,
        sigma: Sequence[float] = (0.2, 3.0),
        kernel_size: Sequence[int] = (7, 21),
        anisotropic: bool = False,
        beta: Sequence[float] = (1.0, 1.0),
        plateau: bool = False,
    ) -> None:
        self.sigma = interval("sigma", sigma, 0.01, _LARGEST)
        self.sizes = _odd(kernel_size)
        self.beta = interval("beta", beta, 0.1, 10)
        self.anisotropic, self.plateau = anisotropic, plateau

    def __call__(self, image: Image, random: np.random.Generator, low: tuple[int, int]) -> Image:
        """``image``, blurred; its size stays."""
        size = int(random.choice(self.sizes))
        sigmas = random.uniform(*self.sigma, size=2)
        angle = random.uniform(0, math.pi)
        beta = math.exp(random.uniform(math.log(self.beta[0]), math.log(self.beta[1])))
        sigma = (sigmas[0], sigmas[1]) if self.anisotropic else (sigmas[0], sigmas[0])
        return blur(image, gaussian(size, sigma, angle, beta, self.plateau))


class Sinc:
    """An ideal low-pass: ringing and overshoot, as sharpening and strong compression leave them.

    Args:
        cutoff: range of the cut-off in radians a pixel; pi passes everything.
        kernel_size: range of the odd sides in pixels.
    """

    def __init__(
        self, cutoff: Sequence[float] = (math.pi / 3, math.pi), kernel_size: Sequence[int] = (7, 21)
    ) -> None:
        self.cutoff = interval("cutoff", cutoff, 0.1, math.pi)
        self.sizes = _odd(kernel_size)

    def __call__(self, image: Image, random: np.random.Generator, low: tuple[int, int]) -> Image:
        """``image``, filtered; its size stays."""
        return blur(image, sinc(int(random.choice(self.sizes)), random.uniform(*self.cutoff)))


def _odd(sizes: Sequence[int]) -> list[int]:
    first, last = interval("kernel_size", sizes, 1, _LARGEST)
    odd = [size for size in range(int(first), int(last) + 1) if size % 2]
    if not odd:
        raise ValueError(f"kernel_size is a range with an odd number in it; got {list(sizes)}")
    return odd
