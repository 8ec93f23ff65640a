"""Partial evaluation of a model at one scale: every re-parameterised convolution folded, no hypernetwork left."""

from __future__ import annotations

from torch import Tensor, nn

from polyres.encoders import Encoder
from polyres.layers.folding import fold
from polyres.model import SRModel, denormalise, prepare, total_context
from polyres.scale import ScaleLike
from polyres.upsamplers import FixedUpsampler


class FusedModel(nn.Module):
    """A model at one scale: ``fused(image)``. Made by :func:`fuse`.

    Attributes:
        scale: the one scale.
        context: radius in LR pixels beyond which no input changes an output pixel; None if every pixel may.
        multiple_of: tiles should start at multiples of this many LR pixels.
    """

    def __init__(
        self, encoder: Encoder, upsampler: FixedUpsampler, mean: tuple[float, ...], value_range: float
    ) -> None:
        super().__init__()
        self.encoder, self.upsampler = encoder, upsampler
        self.mean, self.value_range, self.scale = mean, value_range, upsampler.scale
        self.context = total_context(encoder, upsampler.context)
        self.multiple_of = encoder.multiple_of

    def whole(self) -> FusedModel:
        """A model that computes the same with all products of its encoder, as processors with matrix units prefer."""
        encoder = self.encoder.whole()
        if encoder is self.encoder:
            return self
        return FusedModel(encoder, self.upsampler, self.mean, self.value_range).eval()

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to (N, C, round(H * scale), round(W * scale)), not clamped."""
        rows, columns = self.scale.output_size(*image.shape[-2:])
        padded, normalised = prepare(image, self.encoder, self.mean, self.value_range)
        picture = self.upsampler(self.encoder(normalised), padded)
        return denormalise(picture, self.mean, self.value_range)[..., :rows, :columns]


def fuse(model: SRModel, scale: ScaleLike) -> FusedModel:
    """A new plain module that equals ``model`` in eval mode at ``scale``; ``model`` is left as it is.

    Of an encoder that treats negatives alike half of the weights are left (:meth:`Encoder.halved`).

    Raises:
        ScaleError: a scale that the model's upsampler cannot make.
    """
    upsampler = model.upsampler.at(scale)
    fused = FusedModel(fold(model.encoder).halved(), upsampler, model.mean, model.value_range)
    return fused.eval().requires_grad_(False)
