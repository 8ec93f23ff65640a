"""What the machine offers: which device, and which precision it computes fastest in."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def default_device() -> torch.device:
    """The GPU if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies matrices of bfloat16 in hardware (AMX, tensor cores).

    Without it bfloat16 is emulated and slower than float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # torch tells of AMX in a function that is not public yet; where it is missing, so is the fast path.
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(device.type == "cpu" and probe is not None and probe())


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where ``device`` has hardware for it, otherwise float32."""
    return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32


def describe(device: torch.device) -> str:
    """The machine in a line, to be printed beside any time measured on ``device``: processor, threads, torch."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, torch {torch.__version__}"
    units = "with" if has_fast_bfloat16(device) else "without"
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} threads, {units} bfloat16 matrix units, torch {torch.__version__}"


def _processor() -> str:
    """The processor's name; the architecture's where the system keeps no list of processors."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
