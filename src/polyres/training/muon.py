"""Muon: orthogonalised momentum for matrices and convolution kernels, Adam for all else.

K. Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024 (the iteration and its coefficients);
J. Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982 (the factor that gives its steps Adam's size).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from polyres.layers.equivariance import GROUP_SIZES, Symmetry
from polyres.layers.representations import Representations, free_shape

#: Matrices with fewer rows or columns than this have no directions worth balancing; Adam takes them.
SMALLEST_SIDE = 16

#: Of the quintic that drives all singular values towards one, and how often it is applied.
_COEFFICIENTS = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5

#: Added to norms, so that a matrix of zeros stays one.
_LEAST = 1e-7

#: Numbers of matrices that are balanced together at most: small ones take longer to begin with than to compute.
_TOGETHER = 1 << 23

#: Root mean square that Adam's steps usually have, as a part of the learning rate.
_ADAM_SIZE = 0.2


class Muon(Optimizer):
    """Steps of equal strength in every direction of a weight, so that rare directions learn as fast as common ones.

    One learning rate serves both halves: matrices move by steps with the root mean square of Adam's.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        betas: Adam's decay rates.
        momentum: decay of the momentum of matrices.
        weight_decay: pulls every weight to zero, apart from the gradient.
        eps: added to Adam's denominator.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "momentum": momentum, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, defaults)
        self._tied: dict[int, tuple[Tensor, Representations]] = {}

    def tie(self, kernels: Iterable[Tensor], symmetry: Symmetry) -> None:
        """Balance ``kernels``, whose gradients keep ``symmetry``, as the small matrices that they consist of.

        Steps are the same, up to rounding, for a fraction of the products, and momentum is kept of free values alone.

        Args:
            kernels: (K, C, h, h), K and C in whole groups of the symmetry.
            symmetry: that their gradients will keep, which is not checked.
        """
        made: dict[torch.Size, Representations] = {}
        for kernel in kernels:
            if kernel.shape not in made:
                made[kernel.shape] = Representations(kernel.shape, symmetry).to(kernel)
            self._tied[id(kernel)] = kernel, made[kernel.shape]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step from the gradients; what ``closure`` returns, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter, change in self._changes(moving, group):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(change, alpha=-group["lr"])
        return loss

    def _changes(self, moving: Iterable[Tensor], group: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """Parameters and the directions of their steps of learning rate one; matrices of one shape at a time."""
        alike: dict[tuple[object, ...], list[Tensor]] = {}
        for parameter in moving:
            if matrix_shape(parameter) is None:
                gradient = cast(Tensor, parameter.grad)
                yield parameter, _adam(self.state[parameter], gradient, group["betas"], group["eps"])
            else:
                kind = (parameter.shape, parameter.dtype, parameter.device, id(parameter) in self._tied)
                alike.setdefault(kind, []).append(parameter)
        for parameters in alike.values():
            together = max(1, _TOGETHER // parameters[0].numel())
            for first in range(0, len(parameters), together):
                part = parameters[first : first + together]
                yield from zip(part, self._balanced(part, group["momentum"]), strict=True)

    def _balanced(self, parameters: Sequence[Tensor], decay: float) -> Iterable[Tensor]:
        """The directions of matrices of one shape."""
        shape = cast(tuple[int, int], matrix_shape(parameters[0]))
        factor = _ADAM_SIZE * max(shape) ** 0.5
        if id(parameters[0]) not in self._tied:
            ahead = torch.stack([self._ahead(p, cast(Tensor, p.grad), decay) for p in parameters])
            return orthogonalised(ahead.reshape(-1, *shape)).mul_(factor).reshape(ahead.shape)
        form = self._tied[id(parameters[0])][1]
        ahead = torch.stack([self._ahead(p, form.free(cast(Tensor, p.grad)), decay) for p in parameters])
        blocks = form.split(ahead)
        squares = [times * matrices.square().sum((1, 2, 3), keepdim=True) for matrices, times in blocks]
        norm = torch.stack(squares).sum(0).sqrt()
        balanced = form.join([_iterated(matrices / (norm + _LEAST)) for matrices, _ in blocks])
        return map(form.whole, balanced.mul_(factor))

    def _ahead(self, parameter: Tensor, gradient: Tensor, decay: float) -> Tensor:
        """The momentum of a matrix, or of its free values, as it will be."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        if state["momentum"].shape != gradient.shape:
            state["momentum"] = self._converted(parameter, state["momentum"])
        momentum = state["momentum"].lerp_(gradient, 1 - decay)
        return gradient.lerp(momentum, decay)

    def _converted(self, parameter: Tensor, momentum: Tensor) -> Tensor:
        """The momentum of a checkpoint in which other kernels were tied."""
        if momentum.shape != parameter.shape:
            symmetry = next(
                name for name in GROUP_SIZES if free_shape(parameter.shape, name) == momentum.shape
            )
            momentum = Representations(parameter.shape, symmetry).to(momentum).whole(momentum)
        if id(parameter) not in self._tied:
            return momentum
        return self._tied[id(parameter)][1].free(momentum).clone()


def _adam(state: dict[str, Any], gradient: Tensor, betas: tuple[float, float], eps: float) -> Tensor:
    """Adam's direction; ``state`` is brought up to date."""
    if not state:
        state.update(step=0, mean=torch.zeros_like(gradient), square=torch.zeros_like(gradient))
    state["step"] += 1
    mean = state["mean"].lerp_(gradient, 1 - betas[0])
    square = state["square"].lerp_(gradient.square(), 1 - betas[1])
    spread = (square / (1 - betas[1] ** state["step"])).sqrt_().add_(eps)
    change: Tensor = mean / spread / (1 - betas[0] ** state["step"])
    return change


def matrix_shape(parameter: Tensor) -> tuple[int, int] | None:
    """(rows, columns) in which a weight is balanced; None for those that Adam takes.

    Rows are the output channels, columns what each of them sees.
    """
    shape = list(parameter.shape)
    if len(shape) == 3 and shape[0] == 1:  # a group of one
        shape = shape[1:]
    if len(shape) < 2:
        return None
    rows, columns = shape[0], parameter.numel() // max(1, shape[0])
    return (rows, columns) if min(rows, columns) >= SMALLEST_SIDE else None


def orthogonalised(matrix: Tensor) -> Tensor:
    """``matrix`` (rows, columns) with its singular values brought to about one (0.7 to 1.2), its directions kept.

    Also several of them, (number, rows, columns).
    """
    return _iterated(matrix / (torch.linalg.vector_norm(matrix, dim=(-2, -1), keepdim=True) + _LEAST))


def _iterated(matrix: Tensor) -> Tensor:
    """``matrix``, whose singular values are at most one, with those brought to about one."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    x: Tensor = matrix.mT if tall else matrix
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
