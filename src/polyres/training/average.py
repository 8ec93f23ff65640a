"""The running average of the weights, which is what a run is judged by and leaves behind."""

from __future__ import annotations

import copy

import torch

from polyres.model import SRModel
from polyres.training.sharding import whole


def averaged_copy(model: SRModel) -> SRModel:
    """A copy of ``model`` to average into: eval mode, no gradients."""
    return copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def average_into(average: SRModel, model: SRModel, decay: float) -> None:
    """``average = decay * average + (1 - decay) * model`` for parameters; buffers are copied.

    Parameters are the raw ones: for re-parameterised weights the average of the parts is folded, which differs
    from averaging folded weights.
    """
    raw = [whole(parameter.detach()) for parameter in model.parameters()]
    kept = [parameter.detach() for parameter in average.parameters()]
    torch._foreach_lerp_(kept, raw, 1 - decay)
    for kept_buffer, buffer in zip(average.buffers(), model.buffers(), strict=True):
        kept_buffer.copy_(buffer)
