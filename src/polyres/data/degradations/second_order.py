"""Real-ESRGAN's second-order chain: blur, resize, noise and JPEG, twice, then ringing, in its published ranges.

Source: Wang et al. 2021, arXiv 2107.10833, and the options of its x4plus network. Three things differ: resizing
is antialiased as everywhere in polyres, sinc filters share one range of cut-offs, and the clean picture is not
sharpened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polyres.data.degradations.base import Degradation
from polyres.data.degradations.blurring import Blur, Sinc
from polyres.data.degradations.combining import InSequence, OneOf, Sometimes
from polyres.data.degradations.compression import Jpeg
from polyres.data.degradations.noise import GaussianNoise, PoissonNoise
from polyres.data.degradations.resizing import RandomResize, ToLow

_ANY = ("bicubic", "bilinear", "box")
#: How often a blur is Gaussian, generalised and plateau-shaped, each round and elliptic.
_KINDS = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)


def second_order(strength: float = 1.0) -> Degradation:
    """The whole chain.

    Args:
        strength: factor on the ranges of blur and noise, above 0; 1 is as published.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength is above 0 and at most 1; got {strength}")
    ringing = Sometimes(Sinc(), 0.8)
    last = [InSequence([ToLow(_ANY), ringing, Jpeg()]), InSequence([Jpeg(), ToLow(_ANY), ringing])]
    return InSequence(
        [
            _blurs(3.0 * strength),
            RandomResize((0.15, 1.5), (0.2, 0.7, 0.1)),
            _noises(30.0 * strength, 3.0 * strength),
            Jpeg((30, 95)),
            Sometimes(_blurs(1.5 * strength), 0.8),
            RandomResize((0.3, 1.2), (0.3, 0.4, 0.3), relative_to="low"),
            _noises(25.0 * strength, 2.5 * strength),
            OneOf(last),
        ]
    )


def _blurs(sigma: float) -> Degradation:
    extent: dict[str, Any] = {"sigma": (min(0.2, sigma), sigma)}
    shapes: Sequence[dict[str, Any]] = ({}, {"beta": (0.5, 4.0)}, {"beta": (1.0, 2.0), "plateau": True})
    kinds = [Blur(**extent, **shape, anisotropic=each) for shape in shapes for each in (False, True)]
    return OneOf([OneOf(kinds, _KINDS), Sinc()], (0.9, 0.1))


def _noises(sigma: float, strength: float) -> Degradation:
    return OneOf([GaussianNoise((min(1.0, sigma), sigma)), PoissonNoise((min(0.05, strength), strength))])
