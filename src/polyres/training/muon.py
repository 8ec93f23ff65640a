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

from polyres.layers.equivariance import from_halves, halves

#: Matrices with fewer rows or columns than this have no directions worth balancing; Adam takes them.
SMALLEST_SIDE = 16

#: Of the quintic that drives all singular values towards one, and how often it is applied.
_COEFFICIENTS = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5

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
        self._halved: dict[int, Tensor] = {}

    def halve(self, kernels: Iterable[Tensor]) -> None:
        """Balance ``kernels``, whose gradients keep opposites, as the two halves that they consist of.

        Steps are the same, up to rounding, for a quarter of the products (:func:`polyres.layers.equivariance.halves`).
        """
        self._halved.update((id(kernel), kernel) for kernel in kernels)

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
                kind = (parameter.shape, parameter.dtype, parameter.device, id(parameter) in self._halved)
                alike.setdefault(kind, []).append(parameter)
        for parameters in alike.values():
            together = max(1, _TOGETHER // parameters[0].numel())
            for first in range(0, len(parameters), together):
                part = parameters[first : first + together]
                yield from zip(part, self._balanced(part, group["momentum"]), strict=True)

    def _balanced(self, parameters: Sequence[Tensor], decay: float) -> Tensor:
        """The directions of matrices of one shape, (number, ...)."""
        ahead = torch.stack([self._ahead(parameter, decay) for parameter in parameters])
        shape = cast(tuple[int, int], matrix_shape(parameters[0]))
        factor = _ADAM_SIZE * max(shape) ** 0.5
        if id(parameters[0]) not in self._halved:
            return orthogonalised(ahead.reshape(-1, *shape)).mul_(factor).reshape(ahead.shape)
        # Of all output channels at once: whole groups of opposites stay together.
        made = torch.stack([half.unflatten(0, (len(ahead), -1)) for half in halves(ahead.flatten(0, 1))], 1)
        balanced = orthogonalised(made.flatten(3)).mul_(factor).reshape(made.shape)
        return from_halves(*(half.flatten(0, 1) for half in balanced.unbind(1))).reshape(ahead.shape)

    def _ahead(self, parameter: Tensor, decay: float) -> Tensor:
        """The momentum of a matrix as it will be."""
        state, gradient = self.state[parameter], cast(Tensor, parameter.grad)
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - decay)
        return gradient.lerp(momentum, decay)


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

    Also several of them, (number, rows, columns), or several that consist of blocks, (number, blocks, rows, columns).
    """
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    x: Tensor = matrix.mT if tall else matrix
    x = x / (
        torch.linalg.vector_norm(x, dim=tuple(range(matrix.dim() > 2, matrix.dim())), keepdim=True) + 1e-7
    )
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
