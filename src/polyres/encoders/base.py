"""The encoder contract: a picture becomes features of the same size, and no encoder knows of a scale."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """Maps a normalised picture (N, ``in_channels``, H, W) to features (N, ``out_channels``, H, W).

    Attributes:
        in_channels: channels of the picture.
        out_channels: channels of the features; all that an upsampler needs to know.
        multiple_of: H and W must be multiples of this. Callers pad and crop; :class:`polyres.SRModel` does.
        minimum_size: H and W must be at least this; callers pad here too.
        padding: how such padding must continue the picture for the encoder to work as published:
            ``"reflect"`` mirrors about the edge pixel, ``"symmetric"`` repeats it.
        context: radius in pixels beyond which no input changes a feature; None if every pixel may
            (global statistics, or attention whose reach is the whole picture).
        centre: of the picture's values, about which a negative is taken; the encoder subtracts it. None if it looks at
            differences of values alone, so that every value will do.
    """

    in_channels: int
    out_channels: int
    multiple_of: int = 1
    minimum_size: int = 1
    padding: ClassVar[Literal["reflect", "symmetric"]] = "reflect"
    context: int | None
    centre: float | None = 0.0

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Features (N, ``out_channels``, H, W) of ``image`` (N, ``in_channels``, H, W)."""

    def halved(self) -> Encoder:
        """An encoder for inference that computes the same with fewer weights and products; itself if there is none.

        There is one if features of a negative are those of the picture in exchanged channels: half of the products are
        left out, and half of the weights. It may share others with this one.
        """
        return self

    def whole(self) -> Encoder:
        """The encoder that :meth:`halved` made this one of, for what leaves out products by itself; or itself."""
        return self
