"""How the LR of a training crop is made: MATLAB's or Pillow's kernel, or degradations before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from polyres.data.degradations import Degradation
from polyres.data.resize import resize

Pixels: TypeAlias = npt.NDArray[np.uint8]
LowKernel: TypeAlias = Literal["matlab", "matlab-double", "pil"]
LowOn: TypeAlias = Literal["picture", "crop"]

#: LR pixels around a crop that its LR is made from: half the support of the stretched cubic is two.
_MARGIN = 3
#: The same where degradations come before: room for their blurs too.
_WIDE_MARGIN = 8


class Lowering(Protocol):
    """From HR to LR.

    Attributes:
        margin: LR pixels around the crop that take part; the sampler cuts them off again.
    """

    @property
    def margin(self) -> int:
        """LR pixels."""
        ...

    def __call__(self, high: Pixels, size: tuple[int, int], random: np.random.Generator) -> Pixels:
        """``high`` (H, W, 3) uint8 as LR of ``size`` (height, width), a function of the arguments alone."""
        ...


class Bicubic:
    """LR by one of the kernels that papers train with.

    Args:
        kernel: ``matlab`` rounds after each axis, as all published test sets; ``matlab-double`` once at the end, as
            BasicSR and KAIR; ``pil`` is Pillow's, as IGConv's repository.
        on: ``picture`` gives the crop of the whole picture's LR; ``crop`` knows no pixels beyond the crop, so that
            its outermost pixels come out differently.
    """

    def __init__(self, kernel: LowKernel = "matlab", on: LowOn = "picture") -> None:
        self.kernel, self.margin = kernel, _MARGIN if on == "picture" else 0

    def __call__(self, high: Pixels, size: tuple[int, int], random: np.random.Generator) -> Pixels:
        """``high`` resized to ``size``; nothing is random about it."""
        if self.kernel == "pil":
            return np.asarray(Image.fromarray(high).resize((size[1], size[0]), Image.Resampling.BICUBIC))
        return resize(high, size=size, quantise="each" if self.kernel == "matlab" else "once")


class Degraded:
    """Degradations in their order, then bicubic to the size of LR if none of them went there; rounded at the end.

    Args:
        steps: as :func:`polyres.data.degradations.make_steps` makes them.
        on: as for :class:`Bicubic`.
    """

    def __init__(self, steps: Sequence[Degradation], on: LowOn = "picture") -> None:
        self.steps, self.margin = tuple(steps), _WIDE_MARGIN if on == "picture" else 0

    def __call__(self, high: Pixels, size: tuple[int, int], random: np.random.Generator) -> Pixels:
        """A degraded LR of ``size``."""
        image: npt.NDArray[np.float32] = high.astype(np.float32) / np.float32(255)
        for step in self.steps:
            image = step(image, random, size)
        if image.shape[:2] != size:
            image = resize(image, size=size)
        return np.asarray(np.clip(image * 255 + 0.5, 0, 255), dtype=np.uint8)
