"""The heart: an encoder and an upsampler, joined by one integer, make a model for every scale."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from polyres.encoders import ENCODERS, Encoder
from polyres.errors import ConfigError
from polyres.layers.padding import pad_to
from polyres.scale import Scale, ScaleLike
from polyres.upsamplers import UPSAMPLERS, Upsampler


class PartConfig(BaseModel):
    """A part of the tables, by name, with options on top of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="name in the table of parts of its kind")
    options: dict[str, Any] = Field(
        default_factory=dict, description="options on top of the named entry's own"
    )


class ModelConfig(BaseModel):
    """All that is needed to build a model; stored in every model file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: PartConfig = Field(description="what turns the picture into features")
    upsampler: PartConfig = Field(description="what turns features into the enlarged picture")
    mean: tuple[float, ...] = Field(
        default=(0.0,),
        description="subtracted from the input and added to the output; per channel or one for all",
    )
    value_range: float = Field(default=1.0, gt=0, description="the network works on [0, value_range]")


class SRModel(nn.Module):
    """A super-resolution model: ``model(image, scale)``.

    Args:
        encoder: image to features.
        upsampler: features, image and scale to the enlarged image.
        mean: subtracted from the input and added to the output, in [0, 1]; one number, or one a channel.
        value_range: the network works on [0, ``value_range``].
        config: what the model was built from, if it was; needed to save it.
    """

    def __init__(
        self,
        encoder: Encoder,
        upsampler: Upsampler,
        *,
        mean: tuple[float, ...] = (0.0,),
        value_range: float = 1.0,
        config: ModelConfig | None = None,
    ) -> None:
        super().__init__()
        if upsampler.in_channels != encoder.out_channels:
            raise ConfigError(
                f"the encoder makes {encoder.out_channels} channels but the upsampler takes {upsampler.in_channels}"
            )
        self.encoder, self.upsampler = encoder, upsampler
        self.mean, self.value_range, self.config = mean, value_range, config

    @property
    def context(self) -> int | None:
        """Radius in LR pixels beyond which no input changes an output pixel; None if every pixel may."""
        return total_context(self.encoder, self.upsampler.context)

    def forward(self, image: Tensor, scale: ScaleLike) -> Tensor:
        """The enlarged image.

        Args:
            image: (N, C, H, W) in [0, 1], any size from 1x1.
            scale: exact factor of at least 1: ``2``, ``Fraction(5, 2)``, ``"5/2"``, or a pair (height, width).

        Returns:
            (N, C, round(H * scale), round(W * scale)), not clamped.
        """
        exact = Scale.of(scale)
        rows, columns = exact.output_size(*image.shape[-2:])
        features, padded = self._encoded(image)
        picture = self.upsampler(features, padded, exact)
        return denormalise(picture, self.mean, self.value_range)[..., :rows, :columns]

    def with_base(self, image: Tensor, scale: ScaleLike) -> tuple[Tensor, Tensor]:
        """The enlarged image, and the learned base alone that the upsampler adds its picture to.

        Args:
            image: (N, C, H, W) in [0, 1].
            scale: as in :meth:`forward`.

        Returns:
            Two of (N, C, round(H * scale), round(W * scale)), not clamped. The base is an enlargement of the image
            by itself: no mean belongs to it.

        Raises:
            ConfigError: an upsampler that learns no base.
        """
        exact = Scale.of(scale)
        rows, columns = exact.output_size(*image.shape[-2:])
        features, padded = self._encoded(image)
        picture, base = self.upsampler.with_base(features, padded, exact)
        picture = denormalise(picture, self.mean, self.value_range)
        return picture[..., :rows, :columns], (base / self.value_range)[..., :rows, :columns]

    def _encoded(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The features of ``image``, and itself padded as the upsampler takes it."""
        padded, normalised = prepare(image, self.encoder, self.mean, self.value_range)
        return self.encoder(normalised), padded


def build(config: ModelConfig) -> SRModel:
    """A new model with fresh weights.

    Raises:
        UnknownNameError: a part that is in no table.
        ConfigError: options that a part does not have or refuses.
    """
    encoder = ENCODERS.make(config.encoder.name, **config.encoder.options)
    options = {"in_channels": encoder.out_channels, **config.upsampler.options}
    upsampler = UPSAMPLERS.make(config.upsampler.name, **options)
    return SRModel(encoder, upsampler, mean=config.mean, value_range=config.value_range, config=config)


def prepare(
    image: Tensor, encoder: Encoder, mean: tuple[float, ...], value_range: float
) -> tuple[Tensor, Tensor]:
    """``image`` padded for ``encoder`` and scaled to the range: as the upsampler takes it, and less the mean."""
    padded = pad_to(image, encoder.multiple_of, encoder.minimum_size, encoder.padding)
    if any(mean):
        normalised = (padded - _per_channel(mean, padded)) * value_range
    else:
        normalised = padded * value_range if value_range != 1 else padded
    return (padded * value_range if value_range != 1 else padded), normalised


def denormalise(picture: Tensor, mean: tuple[float, ...], value_range: float) -> Tensor:
    """The network's output brought back to [0, 1]."""
    if value_range != 1:
        picture = picture / value_range
    return picture + _per_channel(mean, picture) if any(mean) else picture


def total_context(encoder: Encoder, upsampler_context: int | None) -> int | None:
    """The context of an encoder and an upsampler together; None if either is unbounded."""
    if encoder.context is None or upsampler_context is None:
        return None
    return encoder.context + upsampler_context


def _per_channel(mean: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(mean).view(1, -1, 1, 1)
