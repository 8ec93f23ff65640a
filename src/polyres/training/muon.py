"""Muon: orthogonalised momentum for matrices and convolution kernels, Adam for all else.

K. Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024 (the iteration and its coefficients);
J. Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982 (the factor that gives its steps Adam's size).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

#: Matrices with fewer rows or columns than this have no directions worth balancing; Adam takes them.
SMALLEST_SIDE = 16

#: Of the quintic that drives all singular values towards one, and how often it is applied.
_COEFFICIENTS = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5

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

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step from the gradients; what ``closure`` returns, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(self._change(parameter, parameter.grad, group), alpha=-group["lr"])
        return loss

    def _change(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """The direction of a step of learning rate one."""
        state, shape = self.state[parameter], matrix_shape(parameter)
        if shape is None:
            return _adam(state, gradient, group["betas"], group["eps"])
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(momentum, group["momentum"])
        matrix: Tensor = orthogonalised(ahead.reshape(shape)) * (_ADAM_SIZE * max(shape) ** 0.5)
        return matrix.reshape(parameter.shape)


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
    """``matrix`` (rows, columns) with its singular values brought to about one (0.7 to 1.2), its directions kept."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.mT if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
