"""What cannot be written down as a program for pictures of every size."""

from __future__ import annotations

from collections.abc import Callable

import torch

from polyres.errors import OutputError


def refuse_export(reason: str) -> None:
    """Nothing, but in an export the end of it.

    Raises:
        OutputError: the network is being exported; the message is ``reason``.
    """
    exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", lambda: False)  # not in torch 2.4
    if exporting():
        raise OutputError(reason)
