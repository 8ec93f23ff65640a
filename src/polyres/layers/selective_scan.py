"""The selective scan of state-space models, in chunks of parallel steps: a linear recurrence along a sequence.

Gu, Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv 2312.00752. Within a chunk the
steps are combined pairwise in a tree, so that no Python loop runs over them; chunks follow each other. Every
factor is a decay of at most 1 and nothing is divided by one, so no sequence is long enough to overflow.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from polyres.layers.exporting import refuse_export
from polyres.layers.precision import without_autocast

#: Elements of the states (steps x batch x groups x states x channels) that are worked on at once. Measured: on a
#: CPU what the second-level cache holds, on an accelerator what keeps it busy.
CHUNK_CPU, CHUNK_ACCELERATOR = 3 << 17, 1 << 24


def selective_scan(
    inputs: Tensor,
    steps: Tensor,
    decay: Tensor,
    write: Tensor,
    read: Tensor,
    skip: Tensor | None = None,
    *,
    chunk: int | None = None,
) -> Tensor:
    """``y[t] = read[t] . h[t] + skip x[t]``, with ``h[t] = exp(steps[t] decay) h[t-1] + steps[t] x[t] write[t]``.

    Each of the ``D`` channels of each of ``G`` groups has ``S`` states of its own; the channels of a group share
    what is written to them and read from them. Computed in float32 at least, whatever autocast says. Gradients
    take memory for one chunk beside the inputs and one state a chunk. On a CUDA device the kernel of ``mamba_ssm``
    runs instead where it is installed.

    Args:
        inputs: x, (G, L, N, D): groups, length, batch, channels.
        steps: positive step sizes, (G, L, N, D).
        decay: negative rates, (G, S, D).
        write: (G, L, N, S).
        read: (G, L, N, S).
        skip: (G, D).
        chunk: steps at a time; by default as many as the device's cache holds.

    Returns:
        (G, L, N, D), float32 or wider.

    Raises:
        OutputError: in an export.
    """
    refuse_export("a selective scan is a loop over the pixels, whose number is not known")
    wide = torch.promote_types(inputs.dtype, torch.float32)
    inputs, steps, decay, write, read = (t.to(wide) for t in (inputs, steps, decay, write, read))
    kernel = _fused_kernel() if inputs.is_cuda and wide == torch.float32 else None
    with without_autocast(inputs):
        if kernel is not None:
            outputs = _run_kernel(kernel, inputs, steps, decay, write, read)
        else:
            length = chunk or _chunk_length(inputs, decay.shape[1])
            scan = _ChunkedScan.apply if torch.is_grad_enabled() else _scan
            outputs = scan(inputs, steps, decay, write, read, length)
        return outputs if skip is None else outputs.addcmul(inputs, skip.to(wide)[:, None, None])


def _chunk_length(inputs: Tensor, states: int) -> int:
    """Steps whose states fill the budget of the device; a few at least."""
    budget = CHUNK_CPU if inputs.device.type == "cpu" else CHUNK_ACCELERATOR
    groups, _, count, channels = inputs.shape
    return max(4, budget // (groups * count * channels * states))


def _scan(
    inputs: Tensor,
    steps: Tensor,
    decay: Tensor,
    write: Tensor,
    read: Tensor,
    chunk: int,
    boundaries: list[Tensor] | None = None,
) -> Tensor:
    """The recurrence without the skip; ``boundaries`` receives the state before each chunk."""
    state = _initial(inputs, decay)
    outputs = torch.empty_like(inputs)
    for part in _parts(inputs.shape[1], chunk):
        if boundaries is not None:
            boundaries.append(state)
        _, states = _states(inputs[:, part], steps[:, part], decay, write[:, part], state)
        outputs[:, part] = (read[:, part].unsqueeze(-2) @ states).squeeze(-2)
        state = states[:, -1].clone()  # not a view: the chunk's memory must be free for the next
    return outputs


class _ChunkedScan(torch.autograd.Function):
    """:func:`_scan` with gradients; backward computes each chunk's states again from the one before it."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, steps: Tensor, decay: Tensor, write: Tensor, read: Tensor, chunk: int
    ) -> Tensor:
        boundaries: list[Tensor] = []
        outputs = _scan(inputs, steps, decay, write, read, chunk, boundaries)
        ctx.save_for_backward(inputs, steps, decay, write, read, *boundaries)
        ctx.chunk = chunk
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, steps, decay, write, read, *boundaries = ctx.saved_tensors
        grads = tuple(torch.zeros_like(t) for t in (inputs, steps, decay, write, read))
        carry = _initial(inputs, decay)
        parts = list(_parts(inputs.shape[1], ctx.chunk))
        with without_autocast(inputs):
            for part, state in zip(reversed(parts), reversed(boundaries), strict=True):
                local = (inputs[:, part], steps[:, part], decay, write[:, part], read[:, part])
                *shares, share_decay, carry = _chunk_gradients(*local, state, gradient[:, part], carry)
                grads[2].add_(share_decay)
                for total, share in zip((grads[0], grads[1], grads[3], grads[4]), shares, strict=True):
                    total[:, part] = share
        return (*grads, None)


def _initial(inputs: Tensor, decay: Tensor) -> Tensor:
    """The state before the first step: zeros (G, N, S, D)."""
    groups, _, count, channels = inputs.shape
    return inputs.new_zeros(groups, count, decay.shape[1], channels)


def _parts(length: int, chunk: int) -> Iterator[slice]:
    return (slice(start, min(start + chunk, length)) for start in range(0, length, chunk))


def _states(
    inputs: Tensor, steps: Tensor, decay: Tensor, write: Tensor, state: Tensor, *, keep: bool = False
) -> tuple[Tensor, Tensor]:
    """Decays and states of a chunk, (G, T, N, S, D), from the state before it; decays are lost unless kept."""
    decays = (steps.unsqueeze(-2) * decay[:, None, None]).exp_()
    states = (steps * inputs).unsqueeze(-2) * write.unsqueeze(-1)
    states[:, 0].addcmul_(decays[:, 0], state)
    _accumulate((decays.clone() if keep else decays).movedim(1, 0), states.movedim(1, 0))
    return decays, states


def _accumulate(decays: Tensor, values: Tensor) -> None:
    """``values[t] += decays[t] * values[t-1]`` along the first axis, as a tree, in place; spoils ``decays``."""
    count = len(values)
    even = count // 2 * 2
    if count < 2:
        return
    values[1:even:2].addcmul_(decays[1:even:2], values[:even:2])
    decays[1:even:2].mul_(decays[:even:2])
    _accumulate(decays[1:even:2], values[1:even:2])
    values[2::2].addcmul_(decays[2::2], values[1 : count - 1 : 2])


def _accumulate_back(decays: Tensor, values: Tensor) -> None:
    """``values[t] += decays[t] * values[t+1]``, from the end: the mirror image of :func:`_accumulate`."""
    count, odd = len(values), len(values) % 2
    if count < 2:
        return
    values[odd::2].addcmul_(decays[odd::2], values[odd + 1 :: 2])
    decays[odd::2].mul_(decays[odd + 1 :: 2])
    _accumulate_back(decays[odd::2], values[odd::2])
    values[1 - odd : count - 2 : 2].addcmul_(decays[1 - odd : count - 2 : 2], values[2 - odd : count - 1 : 2])


def _chunk_gradients(
    inputs: Tensor,
    steps: Tensor,
    decay: Tensor,
    write: Tensor,
    read: Tensor,
    state: Tensor,
    gradient: Tensor,
    carry: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients of a chunk's inputs, steps, write, read, of ``decay``, and of the state before the chunk.

    ``carry`` is the gradient of the chunk's last state that comes from later chunks.
    """
    decays, states = _states(inputs, steps, decay, write, state, keep=True)
    flow = read.unsqueeze(-1) * gradient.unsqueeze(-2)
    flow[:, -1].add_(carry)
    _accumulate_back(decays.roll(-1, 1).movedim(1, 0), flow.movedim(1, 0))
    by_read = (states @ gradient.unsqueeze(-1)).squeeze(-1)
    by_write = (flow @ (steps * inputs).unsqueeze(-1)).squeeze(-1)
    by_product = (write.unsqueeze(-2) @ flow).squeeze(-2)
    # From here on, the gradient of the exponents steps * decay.
    flow.mul_(decays)
    before = flow[:, 0].clone()
    flow[:, 1:].mul_(states[:, :-1])
    flow[:, 0].mul_(state)
    by_steps = (flow * decay[:, None, None]).sum(-2).addcmul_(by_product, inputs)
    by_decay = (flow * steps.unsqueeze(-2)).sum((1, 2))
    return by_product * steps, by_steps, by_write, by_read, by_decay, before


@functools.cache
def _fused_kernel() -> Callable[..., Tensor] | None:
    """The CUDA kernel of ``mamba_ssm``, or None where it is not installed or does not load."""
    try:
        kernels = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    except (ImportError, OSError):  # OSError: a library of another CUDA version
        return None
    kernel: Callable[..., Tensor] = kernels.selective_scan_fn
    return kernel


def _run_kernel(
    kernel: Callable[..., Tensor], inputs: Tensor, steps: Tensor, decay: Tensor, write: Tensor, read: Tensor
) -> Tensor:
    """The kernel in its own layout: channels of all groups (N, G * D, L), what they share (N, G, S, L)."""
    channels = [t.permute(2, 0, 3, 1).flatten(1, 2).contiguous() for t in (inputs, steps)]
    shared = [t.permute(2, 0, 3, 1).contiguous() for t in (write, read)]
    outputs = kernel(*channels, decay.mT.flatten(0, 1).contiguous(), *shared)
    groups, length, count, _ = inputs.shape
    return outputs.reshape(count, groups, -1, length).permute(1, 3, 0, 2)
