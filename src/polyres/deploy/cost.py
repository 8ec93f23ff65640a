"""What running a network costs: multiply-adds, memory and time, each counted in one way."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def parameters(module: nn.Module) -> int:
    """Numbers that ``module`` holds as parameters, each counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def multiply_adds(call: Callable[[], Any]) -> int:
    """Multiply-adds of the convolutions, matrix products and attention in ``call``, by torch's own counter.

    Works on tensors without values (device ``meta``), which cost neither time nor memory. Sums, activations,
    interpolation and sampling do not count, as in the papers.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports torch's compiler, which takes seconds

    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops()) // 2


def peak_of_tensors(call: Callable[[], Any]) -> int:
    """Most bytes that tensors made during ``call`` take at one time, those that it is given left out.

    Counts the storages that the dispatcher sees being made, so it holds on every device; scratch space inside an
    operation is not seen.
    """
    with _Allocations() as allocations:
        call()
    return int(allocations.peak)


def take_turns(
    competitors: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 1,
    finish: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each competitor in each round, after ``warm_up`` rounds that do not count.

    They take turns, so that a machine whose speed drifts slows all of them alike, in another order each round (the
    same orders every time): what a call leaves in caches and in the allocator helps or hinders the next.

    Args:
        competitors: what to run, by name.
        rounds: measurements of each.
        warm_up: rounds before.
        finish: waits for work that goes on behind a call, as ``torch.cuda.synchronize`` does.
        clock: tells the seconds. ``time.process_time`` leaves out what other programs take of the processor.
    """
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    random = Random(0)
    for number in range(warm_up + rounds):
        for name, call in random.sample(list(competitors.items()), len(competitors)):
            began = clock()
            call()
            finish()
            if number >= warm_up:
                seconds[name].append(clock() - began)
    return seconds


class _Allocations(TorchDispatchMode):
    """Follows the storages that operations make, and notes the most bytes alive at one time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._alive = 0
        self._holders: dict[int, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to skip a compiler that does not run here, torch would import all of it, for seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {_address(value) for value in _tensors((args, kwargs))}
        for value in _tensors(result):
            if _address(value) not in given or _address(value) in self._holders:
                self._hold(value)
        self.peak = max(self.peak, self._alive)
        return result

    def _hold(self, value: Tensor) -> None:
        address, size = _address(value), value.untyped_storage().nbytes()
        self._holders[address] = self._holders.get(address, 0) + 1
        if self._holders[address] == 1:
            self._alive += size
        weakref.finalize(value, self._release, address, size)

    def _release(self, address: int, size: int) -> None:
        self._holders[address] -= 1
        if not self._holders[address]:
            del self._holders[address]
            self._alive -= size


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, tuple | list) else []


def _address(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()
