"""``polyres`` in a process of its own, and the memory that it took."""

from __future__ import annotations

import os
import subprocess
import sys


def peak_of(*words: str) -> int:
    """Most bytes that ``polyres`` with these words held; the benchmark ends if it fails."""
    process = subprocess.Popen([sys.executable, "-m", "polyres", *words])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"polyres {words[0]} ended with status {status}")
    return usage.ru_maxrss * 1024
