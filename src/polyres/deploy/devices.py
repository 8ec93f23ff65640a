"""What the machine offers: which device, and which precision it computes fastest in."""

from __future__ import annotations

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
