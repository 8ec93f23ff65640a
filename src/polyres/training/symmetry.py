"""Training in which the encoder treats turned and negative pictures alike, from the first step on.

Its kernels begin in that form, and gradients are brought to it before the optimiser sees them; the optimisers of
:data:`polyres.training.config.KEEPING` keep it. The network itself is an ordinary one: files, folding and engines know
nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

import torch
from torch import Tensor, nn

from polyres.encoders.base import Encoder
from polyres.errors import ConfigError
from polyres.layers.equivariance import (
    GROUP_SIZES,
    Symmetry,
    exchanged,
    generators,
    has_negatives,
    orbit_of,
    orbits,
    symmetric,
)

#: Part of a weight from a file that may lie outside the form: what the roundings of a long training leave.
_TOLERANCE = 1e-2

#: Side of the picture that the encoder is tried on, and the part of the features that may differ.
_TRIAL_SIDE, _TRIAL_TOLERANCE = 12, 1e-3


class Tied(NamedTuple):
    """A weight of the encoder and how it is symmetric.

    Attributes:
        name: in the encoder.
        weight: it.
        symmetry: of the encoder.
        channels: its axes that hold channels in groups.
    """

    name: str
    weight: Tensor
    symmetry: Symmetry
    channels: tuple[int, ...]

    @property
    def planes(self) -> list[tuple[int, int]]:
        """Its axes that turn with the picture."""
        return [(2, 3)] if self.weight.dim() == 4 else []

    @property
    def changes_sign(self) -> bool:
        """Whether the negative changes its sign."""
        return bool(self.planes) and len(self.channels) == 1

    def symmetric(self, tensor: Tensor) -> Tensor:
        """The mean of ``tensor``, of the weight's shape, over the symmetry."""
        return symmetric(tensor, self.symmetry, self.channels, self.planes, self.changes_sign)


class GradientMeans:
    """Replaces gradients by their means over the symmetry; tables make it several times as fast as turning them.

    Args:
        tied: the weights; none is well.
    """

    def __init__(self, tied: Sequence[Tied]) -> None:
        self._means = [_Mean(one) for one in tied]

    def __call__(self) -> None:
        """Change the gradients that there are, in place."""
        for mean in self._means:
            mean()


class _Mean:
    """Replaces the gradient of one weight by its mean."""

    def __init__(self, tied: Tied) -> None:
        self._weight, device = tied.weight, tied.weight.device
        table = orbits(tied.weight.shape, tied.symmetry, tied.channels, tied.planes)
        self._order, self._upright = len(table), len(table)
        if has_negatives(tied.symmetry):
            self._upright //= 2
        self._table, self._orbit, self._signs = table.flatten().to(device), orbit_of(table).to(device), None
        if tied.changes_sign and has_negatives(tied.symmetry):
            signs = torch.ones(table.numel())
            signs[table[self._upright :]] = -1
            self._signs = signs.to(tied.weight)

    def __call__(self) -> None:
        """Change the gradient, if there is one."""
        gradient = self._weight.grad
        if gradient is None:
            return
        values = gradient.reshape(-1)
        if self._signs is not None:
            values = values * self._signs
        values = values.index_select(0, self._table)  # several times as fast as values[table]
        # Negatives before turns, so that what a feature and its negative cancel is exactly zero.
        mean = values.view(-1, self._upright, len(values) // self._order).sum(0).sum(0) / self._order
        mean = mean.index_select(0, self._orbit)
        if self._signs is not None:
            mean *= self._signs
        gradient.copy_(mean.view(gradient.shape))


def tied_weights(encoder: Encoder, symmetry: Symmetry) -> list[Tied]:
    """All weights of ``encoder``.

    Raises:
        ConfigError: it has others than those of plain convolutions between whole groups of channels.
    """
    tied, size = [], GROUP_SIZES[symmetry]
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1 and not module.out_channels % size:
            inputs = (1,) if module.in_channels % size == 0 else ()
            square = module.kernel_size[0] == module.kernel_size[1]
            if square and (inputs or module.in_channels == encoder.in_channels):
                tied.append(Tied(f"{name}.weight", module.weight, symmetry, (0, *inputs)))
            if module.bias is not None:
                tied.append(Tied(f"{name}.bias", module.bias, symmetry, (0,)))
    known = {id(one.weight) for one in tied}
    others = [name for name, weight in encoder.named_parameters() if id(weight) not in known]
    if others:
        raise ConfigError(
            f"equivariant: {symmetry} is for encoders of plain convolutions whose channels are multiples of {size}, "
            f"such as edsr-baseline, edsr and rdn; this one has {', '.join(others[:3])}. Leave equivariant out"
        )
    return tied


def tied_kernels(encoder: Encoder, symmetry: Symmetry) -> list[Tensor]:
    """The kernels of ``encoder`` between features."""
    return [one.weight for one in tied_weights(encoder, symmetry) if one.planes and len(one.channels) == 2]


def opposed_kernels(encoder: Encoder, symmetry: Symmetry) -> list[Tensor]:
    """The kernels of ``encoder`` between features of which the symmetry makes opposites."""
    return tied_kernels(encoder, symmetry) if has_negatives(symmetry) else []


def begin_equivariant(encoder: Encoder, symmetry: Symmetry, fresh: Set[str]) -> None:
    """Bring the weights named ``fresh`` to the form, and the others, which have it but for rounding.

    Raises:
        ConfigError: weights that cannot have it, or that come from a file and do not; or an encoder that does more with
            its features than convolve them and treat all alike.
    """
    for one in tied_weights(encoder, symmetry):
        weight = one.weight.detach()
        mean = one.symmetric(weight)
        if one.name in fresh:  # with the norm that it had
            weight.copy_(mean * (weight.norm() / mean.norm().clamp(min=torch.finfo(mean.dtype).tiny)))
        elif _distance(weight, mean) > _TOLERANCE:
            raise ConfigError(
                f"equivariant: {symmetry}, but {one.name} of the file to begin from was trained without it: begin with "
                "fresh weights, or leave equivariant out"
            )
        else:  # what lies outside would stay there: it is not trained
            weight.copy_(mean)
    if has_negatives(symmetry) and encoder.centre == 0:
        raise ConfigError(
            f"equivariant: {symmetry} takes negatives about the encoder's centre, which is 0, the least value; "
            "give the encoder the option normalisation_equivariant: true or centre: 0.5 (edsr-baseline and edsr have "
            f"both), or write equivariant: {symmetry.removesuffix('-and-negatives')}"
        )
    _try(encoder, symmetry)


def _distance(tensor: Tensor, other: Tensor) -> float:
    """Relative to ``tensor``."""
    return float((tensor - other).norm() / tensor.norm().clamp(min=1e-12))


@torch.no_grad()
def _try(encoder: Encoder, symmetry: Symmetry) -> None:
    """Encode a picture upright, and a turned (and negative) one.

    Raises:
        ConfigError: the features of the second are not those of the first, turned.
    """
    was, plane = encoder.training, [(2, 3)]
    upright = torch.rand(
        1, encoder.in_channels, _TRIAL_SIDE, _TRIAL_SIDE, generator=torch.Generator().manual_seed(0)
    ).to(next(encoder.parameters()))
    encoder.eval()
    picture, features = upright, encoder(upright)
    moves = zip(generators(symmetry, [], plane), generators(symmetry, [1], plane), strict=True)
    for of_picture, of_features in moves:
        picture, features = of_picture(picture), of_features(features)
    if has_negatives(symmetry):
        picture, features = 2 * (encoder.centre or 0) - picture, exchanged(features, [1])
    differs = _distance(features, encoder(picture)) > _TRIAL_TOLERANCE
    encoder.train(was)
    if differs:
        raise ConfigError(
            f"equivariant: {symmetry}, but this encoder treats such pictures differently whatever its kernels are; "
            "leave equivariant out"
        )
