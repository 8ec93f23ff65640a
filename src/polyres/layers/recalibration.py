"""Kernel recalibration: each kernel of a convolution computed, in training, from its neighbours' kernels as well.

The weight is taken for a picture whose channels are the kernels' K x K slices and whose plane is the grid of taps.
A learned convolution over that picture is added to it: ``weight = basis + T(basis)``. The feature path stays as it
is, and :func:`polyres.layers.folding.fold` stores the weight as an ordinary one, bit for bit.

Cai et al., "RefConv: Re-parameterized Refocusing Convolution", arXiv 2310.10563, which KRGN builds on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from polyres.errors import ConfigError
from polyres.layers.precision import without_autocast

#: Which slices are mixed with which: neighbours in memory (as published), or one of each convolution group.
Layout = Literal["contiguous", "strided"]

#: Which modules of a network to recalibrate, by name and module.
Select = Callable[[str, nn.Module], bool]


class KernelRecalibration(nn.Module):
    """The map from a basis to the weight, zero at first, so that the weight is the basis.

    A weight of ``n`` slices and ``g`` groups is mixed in ``n / g`` blocks of ``g`` slices, which takes as many
    parameters as a dense convolution whatever ``g`` is. For ``g = 1`` every slice is on its own.

    Args:
        shape: of the weight: channels, channels / groups, taps; transposed convolutions alike.
        groups: of the convolution.
        layout: ``"contiguous"`` mixes slices that follow each other in memory, as published, which for few groups
            joins only neighbouring channels; ``"strided"`` joins one slice of every group. They are the same for
            depthwise and for dense convolutions.
        kernel_size: taps per axis over which kernels are mixed; odd; less where kernels are smaller.
    """

    def __init__(
        self, shape: torch.Size, groups: int, layout: Layout = "contiguous", kernel_size: int = 3
    ) -> None:
        super().__init__()
        if layout not in get_args(Layout):
            raise ConfigError(f"layout is one of {', '.join(get_args(Layout))}; got {layout!r}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ConfigError(
                f"kernel_size of a recalibration is odd, so that it has a centre; got {kernel_size}"
            )
        self.groups, self.layout = groups, layout
        self.window = tuple(min(kernel_size, size - 1 + size % 2) for size in shape[2:])
        self.weight = nn.Parameter(torch.zeros(shape[0] * shape[1], groups, *self.window))

    def forward(self, basis: Tensor) -> Tensor:
        """The recalibrated weight, of the basis' shape and type, computed in float32 at least."""
        # Autocast would mix kernels in half precision, and the folded weight would not be the trained one.
        with without_autocast(basis):
            wide = torch.promote_types(basis.dtype, torch.float32)
            slices = self._blocks(basis.to(wide))
            mixing = self.weight.to(wide).reshape(len(slices), self.groups, -1)
            # Matrix products rather than a convolution: these are not rounded to TF32 on a GPU.
            mixed = torch.bmm(mixing, self._neighbourhoods(slices))
            return (basis + self._unblocked(mixed, basis.shape)).to(basis.dtype)

    def _blocks(self, basis: Tensor) -> Tensor:
        """Slices by block: (n / g, g, taps...)."""
        if self.layout == "contiguous":
            return basis.reshape(-1, self.groups, *basis.shape[2:])
        return basis.reshape(self.groups, -1, *basis.shape[2:]).transpose(0, 1)

    def _neighbourhoods(self, slices: Tensor) -> Tensor:
        """Each tap's neighbours in each slice of a block, zero outside: (n / g, g * window, taps)."""
        axes = len(self.window)
        margins = [margin for size in reversed(self.window) for margin in (size // 2, size // 2)]
        padded = F.pad(slices, margins)
        for axis, size in enumerate(self.window):
            padded = padded.unfold(2 + axis, size, 1)
        taps, window = range(2, 2 + axes), range(2 + axes, 2 + 2 * axes)
        return padded.permute(0, 1, *window, *taps).reshape(
            len(slices), self.groups * math.prod(self.window), -1
        )

    def _unblocked(self, mixed: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of :meth:`_blocks`."""
        return (mixed if self.layout == "contiguous" else mixed.transpose(0, 1)).reshape(shape)

    def extra_repr(self) -> str:
        """Groups and layout."""
        return f"groups={self.groups}, layout={self.layout}"


def is_grouped(name: str, module: nn.Module) -> bool:
    """Whether ``module`` is a convolution of several groups, whose kernels do not see the other groups' channels."""
    return isinstance(module, _ConvNd) and module.groups > 1


def recalibrate(
    module: nn.Module,
    select: Select = is_grouped,
    layout: Layout = "contiguous",
    kernel_size: int = 3,
    freeze_basis: bool = False,
) -> nn.Module:
    """Recalibrate convolutions of ``module``, in place; what it computes stays the same, bit for bit.

    Any convolution will do: 1-D to 3-D, transposed, of any groups. Make the optimiser afterwards, with
    :func:`parameter_groups`. Folding (:func:`polyres.fuse`) stores plain weights again.

    Args:
        module: a network or a convolution.
        select: which modules, by name and module; by default convolutions of several groups.
        layout: see :class:`KernelRecalibration`.
        kernel_size: see :class:`KernelRecalibration`.
        freeze_basis: train only how kernels are mixed, on top of weights that are trained already.

    Returns:
        ``module``.

    Raises:
        ConfigError: nothing is selected, or what is no convolution, or is recalibrated already; or the basis is to
            be frozen and all zero, where nothing could ever be learned.
    """
    chosen = [(name, part) for name, part in module.named_modules() if select(name, part)]
    if not chosen:
        raise ConfigError(
            "nothing to recalibrate: no convolution of several groups, or none that select takes"
        )
    for name, part in chosen:
        _check(name, part, freeze_basis)
    for _, part in chosen:
        conv = cast(_ConvNd, part)
        recalibration = KernelRecalibration(conv.weight.shape, conv.groups, layout, kernel_size)
        recalibration.to(conv.weight.device, conv.weight.dtype).train(conv.training)
        conv.weight.requires_grad_(conv.weight.requires_grad and not freeze_basis)
        parametrize.register_parametrization(conv, "weight", recalibration)
    return module


def _check(name: str, module: nn.Module, freeze_basis: bool) -> None:
    """Refuse what :func:`recalibrate` cannot do, before anything is changed."""
    if not isinstance(module, _ConvNd):
        raise ConfigError(f"only convolutions can be recalibrated; '{name}' is a {type(module).__name__}")
    if parametrize.is_parametrized(module, "weight"):
        raise ConfigError(f"the weight of '{name}' is parametrised already; fold the network first")
    if freeze_basis and not module.weight.is_meta and not bool(module.weight.any()):
        raise ConfigError(
            f"the basis of '{name}' is all zero, so a frozen one would stay so for ever; load trained weights first"
        )


def recalibrations(module: nn.Module) -> Iterator[KernelRecalibration]:
    """Every recalibration in ``module``."""
    return (part for part in module.modules() if isinstance(part, KernelRecalibration))


def parameter_groups(
    module: nn.Module, lr: float, multiplier: float = 1.0, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Groups for an optimiser: recalibrations and their bases apart from all else.

    Under Adam a recalibrated kernel moves about ten times as far a step as a plain one; a ``multiplier`` of 0.1
    or less on the recalibrations' learning rate makes them comparable. Neither these nor their bases decay:
    decaying either is no decay of the kernel, and shrinks the other's gradient.

    Args:
        module: its trainable parameters are divided up.
        lr: learning rate of all but the recalibrations.
        multiplier: of theirs; kept as ``lr_scale`` for schedules.
        weight_decay: of all but the recalibrations and their bases.

    Returns:
        Dictionaries with ``params``, ``lr``, ``lr_scale`` and ``weight_decay``; empty groups left out.
    """
    mixing = {id(p) for part in recalibrations(module) for p in part.parameters()}
    bases = {id(p) for p in _bases(module)}
    groups: list[dict[str, Any]] = [
        {"params": [], "lr": lr, "lr_scale": 1.0, "weight_decay": weight_decay},
        {"params": [], "lr": lr, "lr_scale": 1.0, "weight_decay": 0.0},
        {"params": [], "lr": lr * multiplier, "lr_scale": multiplier, "weight_decay": 0.0},
    ]
    for parameter in module.parameters():
        if parameter.requires_grad:
            index = 2 if id(parameter) in mixing else 1 if id(parameter) in bases else 0
            groups[index]["params"].append(parameter)
    return [group for group in groups if group["params"]]


def _bases(module: nn.Module) -> Iterator[Tensor]:
    """The basis of every recalibration in ``module``."""
    for part in module.modules():
        if isinstance(part, parametrize.ParametrizationList) and any(recalibrations(part)):
            yield part.original
