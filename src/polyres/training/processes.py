"""The processes of a run: one alone, or several that average their gradients.

Micro-batches are numbered over all processes, so that a run file gives the same run on one process and on many:
process ``rank`` of ``world`` takes every ``world``-th micro-batch of a step.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from polyres.data.crops import Batch, Batches
from polyres.errors import ConfigError, MissingExtraError
from polyres.training.sharding import is_divided


class Processes:
    """One process alone; also what several have in common.

    Attributes:
        rank: number of this process, from 0.
        world: how many there are.
    """

    rank = 0
    world = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and tells of progress."""
        return self.rank == 0

    def share(self, accumulate: int) -> int:
        """How many of a step's ``accumulate`` micro-batches are this process's.

        Raises:
            ConfigError: they cannot be divided equally.
        """
        if accumulate % self.world:
            raise ConfigError(
                f"accumulate counts the micro-batches of a step over all processes, so with {self.world} processes "
                f"it must be a multiple of {self.world}; got {accumulate}"
            )
        return accumulate // self.world

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes."""

    def sum(self, value: float) -> float:
        """The sum of ``value`` over the processes."""
        return value

    def wait(self) -> None:
        """Until every process has come here."""

    def close(self) -> None:
        """Leave the group."""


class SeveralProcesses(Processes):
    """This process of a group that ``torchrun``, ``accelerate launch`` or SLURM started.

    Gradients are summed in one go after the last micro-batch: parameters that only some processes used (one scale's
    head, say) are summed too, and those that none used stay without a gradient, exactly as in one process.

    Args:
        device: of the run, ``cpu`` or ``cuda``; every process takes a GPU of its own.

    Raises:
        MissingExtraError: Accelerate is not installed.
    """

    def __init__(self, device: str) -> None:
        try:
            from accelerate import PartialState
        except ImportError:
            raise MissingExtraError("training with several processes", "distributed") from None
        self._state = PartialState(cpu=device == "cpu")
        self.rank, self.world = self._state.process_index, self._state.num_processes
        self._device = self._state.device

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes."""
        parameters = [p for p in parameters if not is_divided(p)]  # theirs were summed in the backward pass
        used = torch.tensor([float(p.grad is not None) for p in parameters], device=self._device)
        dist.all_reduce(used)
        taking = [p for p, count in zip(parameters, used.tolist(), strict=True) if count]
        for parameter in taking:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in taking if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        _spread(flat, gradients)

    def sum(self, value: float) -> float:
        """The sum of ``value`` over the processes."""
        total = torch.tensor(value, dtype=torch.float64, device=self._device)
        dist.all_reduce(total)
        return float(total)

    def wait(self) -> None:
        """Until every process has come here."""
        self._state.wait_for_everyone()

    def close(self) -> None:
        """Leave the group."""
        self._state.destroy_process_group()


class Shared:
    """One process's part of the micro-batches of ``source``."""

    def __init__(self, source: Batches, processes: Processes) -> None:
        self._source, self._rank, self._world = source, processes.rank, processes.world

    def batch(self, step: int, micro: int) -> Batch:
        """Micro-batch ``micro`` of those that are this process's."""
        return self._source.batch(step, micro * self._world + self._rank)


def join_processes(device: str) -> Processes:
    """The group that the environment tells of, or one process alone."""
    started = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return SeveralProcesses(device) if started else Processes()


def _spread(flat: Tensor, gradients: Sequence[Tensor]) -> None:
    """Copy the parts of ``flat`` back into ``gradients``."""
    for part, gradient in zip(flat.split([g.numel() for g in gradients]), gradients, strict=True):
        gradient.copy_(part.view_as(gradient))
