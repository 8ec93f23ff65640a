"""Sub-images: a large picture cut into overlapping squares, HR and LR alike, so that each reads little."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from polyres.errors import ConfigError

Pixels: TypeAlias = npt.NDArray[np.uint8]

#: Windows begin at multiples of this in HR, which every LR of x2, x3 and x4 hits in whole pixels.
GRID = 12


@dataclass(frozen=True)
class Windows:
    """How pictures are cut.

    Attributes:
        side: of the squares, in HR pixels, a multiple of 12.
        step: from one to the next, in HR pixels, a multiple of 12; the last ones lie at the border.

    Raises:
        ConfigError: sides or steps that do not fit the grid.
    """

    side: int = 480
    step: int = 240

    def __post_init__(self) -> None:
        if min(self.side, self.step) < GRID or self.side % GRID or self.step % GRID or self.step > self.side:
            raise ConfigError(
                f"sub-images have a side and a step, no longer than the side, that are multiples of {GRID}; "
                f"got {self.side} and {self.step}"
            )

    def cut(self, picture: Pixels, scale: int = 1) -> Iterator[Pixels]:
        """The squares of an HR picture, or of its LR of ``scale``, row by row; none if it is too small."""
        side = self.side // scale
        for top in self._starts(picture.shape[0] * scale):
            for left in self._starts(picture.shape[1] * scale):
                yield picture[top // scale :, left // scale :][:side, :side]

    def _starts(self, length: int) -> list[int]:
        last = length // GRID * GRID - self.side
        starts = list(range(0, last + 1, self.step))
        return starts if not starts or starts[-1] == last else [*starts, last]
