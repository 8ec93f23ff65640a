"""Memory: how much is free, and how much a network needs for each pixel that it is shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from polyres.deploy.cost import peak_of_tensors

#: Most that a tile's working memory takes unless a caller allows more: larger tiles save next to no work.
WORKING_MEMORY = {"cpu": 640 * 2**20, "cuda": 4 * 2**30}

#: Assumed to be free where the system does not tell.
_UNKNOWN = 2 * 2**30

#: Scratch space of convolution kernels, which nobody reports, as a factor on what tensors take.
_SCRATCH = 1.25

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on ``device`` now: of the system's and the container's limits, the tighter."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [_system_memory()]
    for limit, used in _CGROUPS:
        most, taken = _number(limit), _number(used)
        if most is not None and taken is not None:
            limits.append(max(0, most - taken))
    return min(limits)


def working_memory(device: torch.device) -> int:
    """Bytes to plan a tile's working memory with: half of what is free, up to :data:`WORKING_MEMORY`."""
    return min(free_memory(device) // 2, WORKING_MEMORY.get(device.type, WORKING_MEMORY["cpu"]))


def peak_bytes(call: Callable[[], Any]) -> float:
    """Most bytes that tensors made during ``call`` take at one time, with an allowance for scratch space.

    See :func:`polyres.deploy.cost.peak_of_tensors`.
    """
    return peak_of_tensors(call) * _SCRATCH


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory has run out, in any of the ways that torch and numpy say it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("allocate memory" in text or "not enough memory" in text)


def _system_memory() -> int:
    """Bytes that the system says are available; half of all memory where it tells only that."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return _UNKNOWN


def _number(path: str) -> int | None:
    """The number in a file; None if there is no such file or it says ``max``."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None
