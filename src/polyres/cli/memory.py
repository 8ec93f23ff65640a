"""Freed memory, kept by the command's process instead of being given back to the system and fetched anew."""

from __future__ import annotations

import ctypes
import sys

#: ``mallopt``'s numbers of its settings, and their values in bytes, of which the first that is taken counts: blocks up
#: to the first come from memory that is kept (older libraries take 32 MiB at most), of which at most the second lies
#: free at the end, and which grows by no less than the third.
_SETTINGS = {-3: (256 << 20, 32 << 20), -1: (1 << 30,), -2: (64 << 20,)}


def keep_freed_memory() -> bool:
    """Have the C library keep what networks' features leave behind, for the next ones; whether it does.

    By default blocks of megabytes are given back when they are freed; of fresh ones each page costs a fault, which adds
    up (measured in ``docs/sizes.md``). It concerns the whole process, so that a command may do it and a library may
    not. Larger blocks, such as huge pictures, are given back as ever.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    taken = [any(mallopt(name, value) for value in values) for name, values in _SETTINGS.items()]
    return all(taken)
