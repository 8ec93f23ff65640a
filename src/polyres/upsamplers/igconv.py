"""IGConv and IGConv+: one hypernetwork writes the sub-pixel convolution of any scale.

Lee, Yun, Ro, "Implicit Grid Convolution for Multi-Scale Image Super-Resolution", arXiv 2408.09674; rational
scales are ours.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.errors import ScaleError
from polyres.layers.equivariance import GROUP_SIZES, Symmetry, has_turns, symmetric
from polyres.layers.phases import embed, phase_conv2d
from polyres.scale import Scale, ScaleLike
from polyres.upsamplers.base import FixedUpsampler, Upsampler, add_base
from polyres.upsamplers.forms import cheapest
from polyres.upsamplers.igsample import IGSample
from polyres.upsamplers.kernels import KernelField, symmetrise

#: What the generated picture is added to: a :data:`Base`, or the picture sampled at learned positions.
SampledBase = Literal["none", "bilinear", "nearest", "sample"]

#: Longest period per axis that is generated directly; beyond it a resample of a near scale is the right way.
MAX_PHASES = 64


class IGConv(Upsampler):
    """Implicit grid convolution.

    Args:
        in_channels: channels of the features.
        out_channels: channels of the picture.
        kernel_size: side of the generated kernels, odd.
        width: channels of the hypernetwork.
        hidden_layers: its layers before the last.
        geometric: average each kernel over its 8 flips and quarter turns (IGConv+).
        base: what the generated picture is added to: nothing, the picture enlarged in a fixed way, or the
            picture sampled at learned positions (``"sample"``, IGConv+).
        sample_width: channels of each of the sampler's two networks.
        sample_layers: their layers before the last.
        sample_kernel_size: side of the sampler's generated kernels, odd.
        max_scale: largest scale that the hypernetworks are told; larger ones are evaluated as this one on a
            finer grid.
        colour_map: a learned linear map of the generated colours, as RCAN's trainable mean shift is.
        spread: see :class:`KernelField`; the sampler keeps the published one.
        equivariant: treat flips and quarter turns alike, or negatives too, for features of an encoder that does
            (:mod:`polyres.layers.equivariance`); not with a learned base, whose offsets are directions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 3,
        kernel_size: int = 3,
        width: int = 256,
        hidden_layers: int = 4,
        geometric: bool = False,
        base: SampledBase = "none",
        sample_width: int = 128,
        sample_layers: int = 2,
        sample_kernel_size: int = 3,
        max_scale: float = 4,
        colour_map: bool = False,
        spread: float = 0.02,
        equivariant: Symmetry | None = None,
    ) -> None:
        super().__init__()
        size = 1 if equivariant is None else GROUP_SIZES[equivariant]
        if in_channels % size or (equivariant is not None and base == "sample"):
            raise ValueError(
                f"equivariant: {equivariant} is for features in groups of {size} channels and bases other than "
                f"'sample'; got {in_channels} channels and base '{base}'"
            )
        if not kernel_size % 2 or not sample_kernel_size % 2:
            raise ValueError(
                f"kernel_size and sample_kernel_size must be odd; got {kernel_size} and {sample_kernel_size}"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.geometric, self.equivariant = geometric, equivariant
        self.base, self.learns_base = base, base == "sample"
        reach = {"none": 0, "nearest": 1, "bilinear": 1, "sample": None}[
            base
        ]  # learned offsets have no bound
        self.context = None if reach is None else max(kernel_size // 2, reach)
        self.kernels = KernelField(
            in_channels, out_channels, kernel_size, width, hidden_layers, max_scale=max_scale, spread=spread
        )
        if base != "none":
            self.kernels.damp()
        self.sampler: IGSample | None = None
        if base == "sample":
            self.sampler = IGSample(
                in_channels, sample_kernel_size, sample_width, sample_layers, max_scale, out_channels
            )
        self.colour_map = nn.Linear(out_channels, out_channels) if colour_map else None
        self._cache = _Cache()

    def forward(self, features: Tensor, image: Tensor, scale: ScaleLike) -> Tensor:
        """See :meth:`Upsampler.forward`. In eval mode without gradients the kernels are computed once a scale."""
        exact = self._checked(scale)
        return _compose(self._maps(features, exact), image, exact, self.base)

    def with_base(self, features: Tensor, image: Tensor, scale: ScaleLike) -> tuple[Tensor, Tensor]:
        """See :meth:`Upsampler.with_base`: the base is the picture sampled at learned positions."""
        if not self.learns_base:
            return super().with_base(features, image, scale)
        exact = self._checked(scale)
        return _sampled(self._maps(features, exact), image, exact)

    def at(self, scale: ScaleLike) -> FixedUpsampler:
        """A plain convolution and the base at ``scale``; the hypernetwork is evaluated here, once."""
        exact = self._checked(scale)
        with torch.no_grad():
            conv = cheapest(*self.weights(exact), exact, symmetric=self.geometric)
        return FixedIGConv(conv, exact, self.base, self.context)

    def supports(self, scale: Scale) -> bool:
        """Every rational scale of at least 1 whose period is not absurdly long."""
        return min(scale.y, scale.x) >= 1 and max(scale.phases) <= MAX_PHASES

    def weights(self, scale: Scale) -> tuple[Tensor, Tensor | None]:
        """The convolution at ``scale``: weight as :func:`embed` lays it out, and the bias if there is one.

        Rows are the colours, followed by the sampler's offsets and gates if there is one.
        """
        rows = self._symmetric(scale)
        bias: Tensor | None = None
        if self.colour_map is not None:
            rows = torch.einsum("or,r...->o...", self.colour_map.weight, rows)
            bias = self.colour_map.bias
        if self.sampler is not None:
            rows = torch.cat(_of_one_size(rows, self.sampler.kernels(scale)))
            bias = bias if bias is None else F.pad(bias, (0, self.sampler.rows))
        if self.geometric:
            rows = symmetrise(rows)
        phases = scale.phases[0] * scale.phases[1]
        return embed(rows, scale), bias if bias is None else bias.repeat_interleave(phases)

    def _symmetric(self, scale: Scale) -> Tensor:
        """What the hypernetwork writes, or its mean over the symmetry of positions, kernels and channels."""
        rows: Tensor = self.kernels(scale)
        if self.equivariant is None:
            return rows
        alone = scale.is_uniform or not has_turns(self.equivariant)
        swapped = None if alone else self.kernels(Scale(scale.x, scale.y))
        return symmetric(rows, self.equivariant, [3], [(1, 2), (4, 5)], changes_sign=True, transposed=swapped)

    def _maps(self, features: Tensor, scale: Scale) -> Tensor:
        """What the generated convolution makes of the features."""
        if self.training or torch.is_grad_enabled():
            self._cache.clear()
            weight, bias = self.weights(scale)
        else:
            weight, bias = self._cache.get(self, scale)
        return phase_conv2d(features, weight, bias, scale)

    def _checked(self, scale: ScaleLike) -> Scale:
        exact = Scale.of(scale)
        if not self.supports(exact):
            raise ScaleError(
                f"this upsampler makes scales p/q of at least 1 with p up to {MAX_PHASES}; got {exact}. "
                "Use an Upscaler, which plans any target size."
            )
        return exact


class FixedIGConv(FixedUpsampler):
    """IGConv at one scale: a plain convolution, depth to space, and the base."""

    def __init__(self, conv: nn.Module, scale: Scale, base: SampledBase, context: int | None) -> None:
        super().__init__()
        self.conv, self.scale, self.base, self.context = conv, scale, base, context

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """See :meth:`FixedUpsampler.forward`."""
        return _compose(self.conv(features), image, self.scale, self.base)


def _of_one_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Kernels (..., k, k) of odd sizes, the smaller ones with zeros around them."""
    margin = (first.shape[-1] - second.shape[-1]) // 2
    return F.pad(first, (max(-margin, 0),) * 4), F.pad(second, (max(margin, 0),) * 4)


def _compose(maps: Tensor, image: Tensor, scale: Scale, base: SampledBase) -> Tensor:
    """The generated colours plus the base; the rows after the colours are the sampler's."""
    return _sampled(maps, image, scale)[0] if base == "sample" else add_base(maps, image, scale, base)


def _sampled(maps: Tensor, image: Tensor, scale: Scale) -> tuple[Tensor, Tensor]:
    """The generated colours plus the sampled picture, and the latter alone."""
    colours = image.shape[1]
    base = IGSample.sample(image, maps[:, colours:], scale)
    return maps[:, :colours].to(image.dtype) + base, base


class _Cache:
    """Generated convolutions by scale, dropped as soon as any parameter has changed, moved or been replaced."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._entries: dict[Scale, tuple[Tensor, Tensor | None]] = {}

    def get(self, module: IGConv, scale: Scale) -> tuple[Tensor, Tensor | None]:
        key = tuple(_identity(p) for p in module.parameters())
        if key != self._key:
            self._key, self._entries = key, {}
        if scale not in self._entries:
            self._entries[scale] = module.weights(scale)
        return self._entries[scale]

    def clear(self) -> None:
        self._key, self._entries = (), {}

    def __deepcopy__(self, memo: dict[int, object]) -> _Cache:
        return _Cache()

    def __reduce__(self) -> tuple[type[_Cache], tuple[()]]:
        return _Cache, ()  # a pickled or copied module starts with an empty cache


def _identity(parameter: Tensor) -> tuple[object, ...]:
    """What changes when ``parameter`` is written to, moved, cast or replaced."""
    version = 0 if parameter.is_inference() else parameter._version
    return id(parameter), parameter.data_ptr(), version, parameter.dtype
