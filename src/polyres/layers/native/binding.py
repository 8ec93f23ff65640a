"""The kernels as functions of tensors.

Features are blocked here, (N, chunks, H, W, lanes): a chunk is as many neighbouring channels as a vector register
holds, and lanes beyond the last channel are zero. All tensors are float32, on the CPU.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from polyres.layers.equivariance import from_halves, halves
from polyres.layers.native.compiling import CompilationError, compiled
from polyres.layers.native.team import torchs_team

_log = logging.getLogger(__name__)

_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_float
_SIGNATURES = {
    "polyres_use_team": [_POINTER],
    "polyres_lanes": [],
    "polyres_vectors": [],
    "polyres_in_huge_pages": [_POINTER, ctypes.c_size_t],
    "polyres_pairs": [_POINTER] * 2 + [_LONG] * 4 + [_INT, _POINTER, _POINTER, _INT, _INT],
    "polyres_convolution": [_POINTER] * 4 + [_LONG] * 3 + [_INT, _INT],
    "polyres_end_of_block": [_POINTER] * 2 + [_INT] + [_POINTER] * 2 + [_LONG] * 3 + [_POINTER] * 2 + [_INT],
    "polyres_add_block": [_POINTER] * 5 + [_LONG] * 3 + [_INT, _INT],
    "polyres_has_pairs": [],
    "polyres_attention": [_POINTER] * 4 + [_LONG] * 2 + [_FLOAT, _INT, _INT],
    "polyres_attention_gradient": [_POINTER] * 6 + [_LONG] * 2 + [_FLOAT, _INT, _INT, _INT],
    "polyres_narrow_attention": [_POINTER] * 4 + [_LONG] * 2 + [_FLOAT, _INT],
    "polyres_narrow_attention_gradient": [_POINTER] * 6 + [_LONG] * 2 + [_INT],
    "polyres_narrow_rectified": [_POINTER] * 4 + [_LONG] * 2 + [_INT],
    "polyres_narrow_sum": [_POINTER] * 3 + [_LONG] * 2 + [_INT],
    "polyres_winograd": [_POINTER] * 6 + [_LONG] * 6 + [_FLOAT, _INT, _INT, _INT],
    "polyres_winograd_residual": [_POINTER] * 9 + [_LONG] * 5 + [_FLOAT] + [_INT] * 5,
    "polyres_winograd_weight": [_POINTER] * 3 + [_LONG] * 6 + [_INT, _INT, _INT],
}


class Layer(ctypes.Structure):
    """A dense convolution and its LeakyReLU as the kernels see it: of the tensors, only where they lie.

    Attributes:
        weights: see :mod:`polyres.layers.native.packing`.
        bias: as many lanes as the chunks computed together have.
        in_channels: of the input.
        out_chunks: of the output.
        size: of the kernel.
        slope: of the LeakyReLU; 1 for none.
    """

    _fields_ = (
        ("weights", _POINTER),
        ("bias", _POINTER),
        ("in_channels", _LONG),
        ("out_chunks", _LONG),
        ("size", _INT),
        ("slope", _FLOAT),
    )


class Attention(NamedTuple):
    """Of pixel attention what kernels need (:class:`polyres.layers.pixel_attention.PixelAttention`).

    Attributes:
        weight: (channels, channels), of any further axes of length 1.
        least: added to the mean of a pixel's channels.
        opposed: the weight keeps opposites, which takes half of the products; what of it does not is left out.
    """

    weight: Tensor
    least: float
    opposed: bool = False

    def packed(self) -> Tensor:
        """The weight as the kernels take it, inputs first; if opposed, for sums and for differences, half of each."""
        weight = self.weight.detach().flatten(1)
        parts = [half / 2 for half in halves(weight)] if self.opposed else [weight]
        return torch.cat([part.T.flatten() for part in parts])


class Kernels:
    """The compiled kernels; run on as many threads as torch is told to use.

    Args:
        library: from :func:`polyres.layers.native.compiling.compiled`.

    Attributes:
        lanes: channels of a chunk.
        vectors: chunks of output that a convolution computes together.
        has_bfloat16: whether products can be of bfloat16, two at a time.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        for name, types in _SIGNATURES.items():
            getattr(library, name).argtypes = types
        self._library = library
        library.polyres_use_team(torchs_team())
        self.lanes: int = library.polyres_lanes()
        self.vectors: int = library.polyres_vectors()
        self.has_bfloat16 = bool(library.polyres_has_pairs())

    def chunks(self, channels: int) -> int:
        """How many chunks hold ``channels``."""
        return -(-channels // self.lanes)

    def empty(self, *shape: int, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
        """New memory for features, in huge pages if it is large."""
        tensor = torch.empty(shape, memory_format=memory_format)
        self._library.polyres_in_huge_pages(tensor.data_ptr(), tensor.nbytes)
        return tensor

    def blocked(self, features: Tensor) -> Tensor:
        """(N, C, H, W), of any type and strides, as blocked features of their own."""
        images, channels, height, width = features.shape
        lanes, chunks = self.lanes, self.chunks(channels)
        last = torch.nn.functional.pad(features.float().permute(0, 2, 3, 1), (0, chunks * lanes - channels))
        result = self.empty(images, chunks, height, width, lanes)
        return result.copy_(last.unflatten(3, (chunks, lanes)).permute(0, 3, 1, 2, 4))

    def unblocked(self, features: Tensor, channels: int) -> Tensor:
        """Blocked features as (N, ``channels``, H, W) in what torch calls channels_last."""
        return features.permute(0, 2, 3, 1, 4).flatten(3)[..., :channels].permute(0, 3, 1, 2)

    def pairs(
        self, features: Tensor, out: Tensor, dilations: Sequence[int], weights: Tensor, skip: bool
    ) -> None:
        """A chain of pairs of grouped convolutions; see :mod:`polyres.layers.native.packing` for ``weights``."""
        images, chunks, height, width, _ = features.shape
        numbers = (_INT * len(dilations))(*dilations)
        status = self._library.polyres_pairs(
            features.data_ptr(), out.data_ptr(), images, chunks, height, width, len(dilations) // 2, numbers,
            weights.data_ptr(), skip, torch.get_num_threads(),
        )  # fmt: skip
        _check(status)

    def convolution(
        self,
        features: Tensor,
        out: Tensor,
        layer: Layer,
        add: Tensor | None = None,
        accumulate: bool = False,
    ) -> None:
        """``out = leaky(convolution [+ out]) [+ add]``, all of them contiguous and blocked."""
        images, _, height, width, _ = features.shape
        status = self._library.polyres_convolution(
            features.data_ptr(), out.data_ptr(), None if add is None else add.data_ptr(), ctypes.byref(layer),
            images, height, width, accumulate, torch.get_num_threads(),
        )  # fmt: skip
        _check(status)

    def end_of_block(
        self, stages: Sequence[Tensor], sides: Sequence[Layer], gather: Layer, out: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``out = gather(every side of its stage)``, and the mean and variance of each channel of it.

        Args:
            stages: of one shape, blocked and contiguous.
            sides: one a stage, all of as many chunks of output; all but the last are 1x1.
            gather: 1x1, of all chunks of the sides.
            out: any stage but the last, or memory of its own.

        Returns:
            Mean and variance, each (N, chunks * lanes, 1, 1).
        """
        images, _, height, width, _ = stages[0].shape
        mean, variance = torch.empty(2, images, out.shape[1] * self.lanes, 1, 1).unbind()
        status = self._library.polyres_end_of_block(
            (_POINTER * len(stages))(*(stage.data_ptr() for stage in stages)), (Layer * len(sides))(*sides),
            len(stages), ctypes.byref(gather), out.data_ptr(), images, height, width, mean.data_ptr(),
            variance.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        _check(status)
        return mean, variance

    def add_block(
        self, to: Tensor, features: Tensor, factors: Tensor, layer: Layer, total: Tensor, accumulate: bool
    ) -> None:
        """``to += factors * features``, then ``total = leaky(convolution of to [+ total])``.

        Args:
            to: contiguous and blocked, as ``features`` and ``total`` are.
            features: of the shape of ``to``.
            factors: (N, chunks * lanes, 1, 1).
            layer: 1x1.
            total: what the convolution is added to if ``accumulate``.
            accumulate: whether it is.
        """
        images, _, height, width, _ = to.shape
        status = self._library.polyres_add_block(
            to.data_ptr(), features.data_ptr(), factors.contiguous().data_ptr(), ctypes.byref(layer), total.data_ptr(),
            images, height, width, accumulate, torch.get_num_threads(),
        )  # fmt: skip
        _check(status)

    def winograd(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        padding: int = 1,
        slope: float = 1.0,
        add: Tensor | None = None,
        opposed: bool = False,
        mask: Tensor | None = None,
        narrow: bool = False,
    ) -> Tensor:
        """``leaky(conv2d(features, weight, bias)) [+ add]`` by minimal filtering, of features that are not blocked.

        Args:
            features: (N, C, H, W), fastest if channels_last.
            weight: (K, C, 3, 3).
            bias: (K,) or None.
            padding: zeros around the features.
            slope: of the LeakyReLU; 1 for none.
            add: like the result, or None.
            opposed: the weight keeps opposites (:func:`polyres.layers.equivariance.keeps_opposites`), which takes half
                of the products; what of it does not is left out. For multiples of 64 channels.
            mask: like the result, or None: where it is not positive, the convolution counts as zero.
            narrow: what is multiplied is rounded to bfloat16; sums and all else are float32.

        Returns:
            (N, K, H + 2 * padding - 2, W + 2 * padding - 2), channels_last.
        """
        (images, channels, height, width), count = features.shape, len(weight)
        shape = (images, count, height + 2 * padding - 2, width + 2 * padding - 2)
        out = self.empty(*shape, memory_format=torch.channels_last)
        last, weight = features.contiguous(memory_format=torch.channels_last), weight.contiguous()
        bias = None if bias is None else bias.contiguous()
        add, mask = (
            None if t is None else t.contiguous(memory_format=torch.channels_last) for t in (add, mask)
        )
        status = self._library.polyres_winograd(
            last.data_ptr(), weight.data_ptr(), None if bias is None else bias.data_ptr(),
            None if mask is None else mask.data_ptr(), None if add is None else add.data_ptr(), out.data_ptr(),
            images, height, width, channels, count, padding,
            slope, opposed, narrow, torch.get_num_threads(),
        )  # fmt: skip
        _check(status)
        return out

    def winograd_residual(
        self,
        features: Tensor,
        weights: tuple[Tensor, Tensor],
        biases: tuple[Tensor | None, Tensor | None] = (None, None),
        opposed: tuple[bool, bool] = (False, False),
        mask: Tensor | None = None,
        attention: Attention | None = None,
        narrow: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """``inner = relu(first convolution)`` and ``features + second convolution of inner``.

        To the bit what two calls of :meth:`winograd` give, and one of :meth:`attention` between them; the second
        convolution follows close behind the first, so that what it looks at is in the cache still.

        Args:
            features: (N, C, H, W), fastest if channels_last.
            weights: (K, C, 3, 3) and (C, K, 3, 3).
            biases: (K,) and (C,), or None.
            opposed: of either weight, as of :meth:`winograd`.
            mask: (N, K, H, W), or None: if given, inner is the convolution where that is positive, zero elsewhere.
            attention: that inner is weighted by, or None.
            narrow: as of :meth:`winograd`.

        Returns:
            inner, (N, K, H, W), and the sum, like ``features``; both channels_last.
        """
        (images, channels, height, width), count = features.shape, len(weights[0])
        inner, out = (
            self.empty(images, size, height, width, memory_format=torch.channels_last)
            for size in (count, channels)
        )
        last = features.contiguous(memory_format=torch.channels_last)
        mask = None if mask is None else mask.contiguous(memory_format=torch.channels_last)
        given = None if attention is None else attention.packed()
        parts = [
            None if part is None else part.contiguous()
            for pair in zip(weights, biases, strict=True)
            for part in pair
        ]
        status = self._library.polyres_winograd_residual(
            last.data_ptr(), *(None if part is None else part.data_ptr() for part in parts),
            None if mask is None else mask.data_ptr(), None if given is None else given.data_ptr(), inner.data_ptr(),
            out.data_ptr(), images, height, width, channels, count, attention.least if attention else 0, *opposed,
            attention is not None and attention.opposed, narrow, torch.get_num_threads(),
        )  # fmt: skip
        _check(status)
        return inner, out

    def winograd_weight(
        self,
        features: Tensor,
        gradient: Tensor,
        padding: int = 1,
        opposed: bool = False,
        narrow: bool = False,
    ) -> Tensor:
        """The gradient (K, C, 3, 3) of what was :meth:`winograd`'s weight, given that (N, K, H', W') of its result.

        Of a weight that keeps opposites (``opposed``) it is the mean over their exchange. ``narrow`` as of
        :meth:`winograd`. It is the same at every call with as many threads.
        """
        (images, channels, height, width), count = features.shape, gradient.shape[1]
        last, gradient = (t.contiguous(memory_format=torch.channels_last) for t in (features, gradient))
        result = torch.empty(count, channels, 3, 3)
        status = self._library.polyres_winograd_weight(
            last.data_ptr(), gradient.data_ptr(), result.data_ptr(), images, height, width, channels, count, padding,
            opposed, narrow, torch.get_num_threads(),
        )  # fmt: skip
        _check(status)
        return result

    def attention(
        self, features: Tensor, attention: Attention, keep: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """``features * f`` with ``f = relu(1 + u)`` and ``u = features @ weight.T / (a pixel's mean + least)``.

        Args:
            features: (pixels, channels), contiguous; channels in whole lanes, for ``opposed`` in twice as many.
            attention: the weight and what is added to the mean.
            keep: whether ``f`` is wanted.

        Returns:
            The product, and ``f`` or None.
        """
        pixels, channels = features.shape
        given = attention.packed()
        out, factors = self.empty(pixels, channels), self.empty(pixels, channels) if keep else None
        status = self._library.polyres_attention(
            features.data_ptr(), given.data_ptr(), out.data_ptr(), None if factors is None else factors.data_ptr(),
            pixels, channels, attention.least, attention.opposed, torch.get_num_threads(),
        )  # fmt: skip
        _check(status)
        return out, factors

    def attention_gradient(
        self,
        gradient: Tensor,
        features: Tensor,
        factors: Tensor,
        attention: Attention,
        rectified: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """The gradients of what :meth:`attention` is given: of features and, (channels, channels), of the weight.

        Of a weight that keeps opposites it is the mean over their exchange. It is the same at every call with as many
        threads.

        Args:
            gradient: of the product of :meth:`attention`, (pixels, channels), contiguous.
            features: as there.
            factors: its ``f``.
            attention: as there.
            rectified: that of features is zero where they are not positive.
        """
        pixels, channels = features.shape
        turned = attention._replace(weight=attention.weight.transpose(0, 1)).packed()
        of_features, of_weight = self.empty(pixels, channels), torch.empty_like(turned)
        status = self._library.polyres_attention_gradient(
            gradient.data_ptr(), features.data_ptr(), factors.data_ptr(), turned.data_ptr(), of_features.data_ptr(),
            of_weight.data_ptr(), pixels, channels, attention.least, attention.opposed, rectified,
            torch.get_num_threads(),
        )  # fmt: skip
        _check(status)
        if not attention.opposed:
            return of_features, of_weight.view(channels, channels)
        sums, differences = of_weight.view(2, channels // 2, channels // 2) / 2
        return of_features, from_halves(sums, differences)

    def narrow_attention(self, features: Tensor, mixture: Tensor, least: float) -> tuple[Tensor, Tensor]:
        """``features * relu(1 + mixture / (a pixel's mean + least))``, features being of bfloat16.

        Args:
            features: (pixels, channels), contiguous; channels in whole lanes.
            mixture: like features.
            least: added to the mean.

        Returns:
            The product, like features, and what the mixture was multiplied by, (pixels,) of float32.
        """
        out, share = torch.empty_like(features), torch.empty(len(features))
        status = self._library.polyres_narrow_attention(
            features.data_ptr(), mixture.data_ptr(), out.data_ptr(), share.data_ptr(), *features.shape, least,
            torch.get_num_threads(),
        )  # fmt: skip
        _check(status)
        return out, share

    def narrow_attention_gradient(
        self, gradient: Tensor, features: Tensor, mixture: Tensor, share: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The gradients of the mixture and, but for what goes through it, of the features of :meth:`narrow_attention`.

        Args:
            gradient: of the product, like features.
            features: as there.
            mixture: as there.
            share: as it was returned.
        """
        of_mixture, out = torch.empty_like(mixture), torch.empty_like(features)
        status = self._library.polyres_narrow_attention_gradient(
            gradient.data_ptr(), features.data_ptr(), mixture.data_ptr(), share.data_ptr(), of_mixture.data_ptr(),
            out.data_ptr(), *features.shape, torch.get_num_threads(),
        )  # fmt: skip
        _check(status)
        return of_mixture, out

    def narrow_rectified(self, gradient: Tensor, features: Tensor, further: Tensor | None = None) -> Tensor:
        """``gradient [+ further]`` where ``features`` are positive, zero elsewhere; all (pixels, channels) of bfloat16.

        ``gradient`` is overwritten by it.
        """
        status = self._library.polyres_narrow_rectified(
            gradient.data_ptr(), None if further is None else further.data_ptr(), features.data_ptr(),
            gradient.data_ptr(), *features.shape, torch.get_num_threads(),
        )  # fmt: skip
        _check(status)
        return gradient

    def narrow_sum(self, features: Tensor, narrow: Tensor) -> Tensor:
        """``features + narrow``: float32, and bfloat16; both (pixels, channels), contiguous."""
        out = torch.empty_like(features)
        status = self._library.polyres_narrow_sum(
            features.data_ptr(), narrow.data_ptr(), out.data_ptr(), *features.shape, torch.get_num_threads()
        )
        _check(status)
        return out


def _check(status: int) -> None:
    if status == -1:
        raise MemoryError("memory ran out in a native kernel")
    if status:
        raise ValueError("a native kernel was asked for a size or precision that it is not made for")


def kernels() -> Kernels | None:
    """The kernels, compiled at the first call; None where that cannot be, which is logged once."""
    made = _made()
    return made if isinstance(made, Kernels) else None


def why_none() -> str:
    """Why there are no kernels, in a few words; empty where there are."""
    made = _made()
    return made if isinstance(made, str) else ""


@functools.cache
def _made() -> Kernels | str:
    try:
        return Kernels(compiled())
    except CompilationError as error:
        _log.info("no native kernels, torch computes everything: %s", error)
        return str(error)
