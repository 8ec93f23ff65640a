"""The threads that torch's own operations run on, for kernels that run between them."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

#: How the libraries of OpenMP's runtimes begin that know the function wanted: GNU's, LLVM's and Intel's.
_RUNTIMES = ("libgomp", "libomp", "libiomp")
_MAPS = Path("/proc/self/maps")


def torchs_team() -> int | None:
    """The address of ``GOMP_parallel`` in the OpenMP runtime that this process has loaded with torch.

    None where there is none, or more than one, or the system does not list what is loaded.
    """
    found = {
        words[-1]
        for line in (_MAPS.read_text().splitlines() if _MAPS.is_file() else [])
        if len(words := line.split(maxsplit=5)) == 6 and Path(words[-1]).name.startswith(_RUNTIMES)
    }
    if len(found) == 1:
        with suppress(OSError, AttributeError):
            return ctypes.cast(ctypes.CDLL(found.pop()).GOMP_parallel, ctypes.c_void_p).value
    return None
