"""Sharding (FSDP2): each of several processes keeps a part of the encoder's weights, gradients and optimiser state.

The encoder is gathered for each pass and divided again after it. The upsampler stays whole in every process, because
processes may use different parts of it in a step; so does the average, which the first one validates and saves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from polyres.errors import ConfigError
from polyres.model import SRModel

try:
    from torch.distributed.tensor import DTensor

    _DIVIDED: tuple[type[Any], ...] = (DTensor,)
except ImportError:  # torch before 2.5, or built without processes: nothing is ever divided
    _DIVIDED = ()


def shard(model: SRModel, optimiser: Optimizer) -> None:
    """Divide the encoder of ``model``, and what ``optimiser`` keeps of it, among the processes of the group.

    Every process must hold the same before.

    Raises:
        ConfigError: this torch cannot do it.
    """
    before = dict(model.encoder.named_parameters())
    for parameter in before.values():  # weights are divided along their first axis
        parameter.data = parameter.data.contiguous()
    _fully_shard(model.encoder)
    after = dict(model.encoder.named_parameters())
    divided = {id(old): after[name] for name, old in before.items()}
    for group in optimiser.param_groups:
        group["params"] = [divided.get(id(p), p) for p in group["params"]]
    for name, old in before.items():
        if old in optimiser.state:
            kept = optimiser.state.pop(old)
            optimiser.state[after[name]] = {key: _like(value, after[name]) for key, value in kept.items()}


def is_divided(tensor: Tensor) -> bool:
    """Whether this process holds only a part of ``tensor``."""
    return isinstance(tensor, _DIVIDED)


def local(tensor: Any) -> Tensor:
    """This process's part of ``tensor``, or all of it if it is not divided."""
    part: Tensor = tensor.to_local() if is_divided(tensor) else tensor
    return part


def whole(tensor: Any) -> Tensor:
    """All of ``tensor``; if it is divided, every process must ask for it."""
    joined: Tensor = tensor.full_tensor() if is_divided(tensor) else tensor
    return joined


def all_whole(content: Any) -> Any:
    """A state with all its tensors :func:`whole`."""
    if isinstance(content, Mapping):
        return {key: all_whole(value) for key, value in content.items()}
    if isinstance(content, list):
        return [all_whole(value) for value in content]
    return whole(content.detach()) if isinstance(content, Tensor) else content


def is_sharded(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether any of ``parameters`` is divided."""
    return any(is_divided(parameter) for parameter in parameters)


def _fully_shard(module: nn.Module) -> None:
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        sum_up = FSDPModule.set_force_sum_reduction_for_comms
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"sharding cannot be done by torch {torch.__version__}; get a newer one") from error
    kind = next(module.parameters()).device.type
    sharded = fully_shard(module, mesh=init_device_mesh(kind, (dist.get_world_size(),)))
    sum_up(sharded, True)
    sharded.set_gradient_divide_factor(1.0)  # each process's gradient is its share of the mean already


def _like(value: Any, parameter: Any) -> Any:
    """``value`` divided as ``parameter`` is, if it holds a number for each of its elements."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    mesh, places = parameter.device_mesh, parameter.placements
    return distribute_tensor(value.contiguous(), mesh, places, src_data_rank=None)  # all have the same value
