"""Denormal numbers, on which processors are many times slower than on others, taken for zero."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_denormals() -> Iterator[None]:
    """Within the block this thread takes denormal numbers for zero.

    Momenta of weights that no longer have a gradient, since a ReLU is never active, fade into such numbers after some
    hundred steps and stay there. A run of 20 blocks at half its length took twice the time a step that it does without.
    """
    before = _are_flushed()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _are_flushed() -> bool:
    """Torch tells only whether they can be."""
    return float(torch.tensor(1e-40) * torch.tensor(1.0)) == 0
