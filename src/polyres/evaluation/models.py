"""A network as an upscaler of 8-bit arrays; the only part of evaluation that imports torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from polyres.errors import DataError, UsageError
from polyres.scale import Scale

#: (1, 3, h, w) float32 in [0, 1] and a scale -> (1, 3, H, W), not clamped.
Network: TypeAlias = Callable[[Tensor, Scale], Tensor]


class ModelUpscaler:
    """A network as what :func:`polyres.evaluation.evaluate` calls.

    (h, w, 3) uint8 and a scale -> (H, W, 3) float32. Whole pictures, in one piece. Threads may share it, each of them
    then computing with its part of the cores; on a GPU they take turns.
    """

    def __init__(self, network: Network, device: torch.device) -> None:
        self._network, self._device = network, device
        self._turn, self._seen = threading.Lock(), set[Scale]()

    def __call__(self, low: npt.NDArray[np.uint8], scale: Scale) -> npt.NDArray[np.floating[Any]]:
        """``low`` enlarged; see the class."""
        image = torch.from_numpy(low.astype(np.float32) / 255).permute(2, 0, 1).unsqueeze(0)
        with torch.inference_mode():
            result = self._run(image.to(self._device), scale)
        if result.ndim != 4 or result.shape[:2] != (1, 3):
            raise DataError(
                f"a model gives (1, 3, H, W) for one picture; this one gave {tuple(result.shape)}"
            )
        return np.asarray(result[0].permute(1, 2, 0).float().cpu().numpy())

    @contextmanager
    def shared(self, workers: int) -> Iterator[Callable[..., npt.NDArray[np.floating[Any]]]]:
        """Within the block, what ``workers`` threads may call, each with its part of torch's threads."""
        before = torch.get_num_threads()
        part = max(1, before // workers)

        def upscale(low: npt.NDArray[np.uint8], scale: Scale) -> npt.NDArray[np.floating[Any]]:
            if torch.get_num_threads() != part:  # the number belongs to the thread that sets it
                torch.set_num_threads(part)
            return self(low, scale)

        try:
            yield upscale
        finally:
            torch.set_num_threads(before)

    def _run(self, image: Tensor, scale: Scale) -> Tensor:
        """The network's result; the first of a scale is made alone, as what it computes is kept for the others."""
        if scale in self._seen and self._device.type == "cpu":
            return self._network(image, scale)
        with self._turn:
            result = self._network(image, scale)
            self._seen.add(scale)
        return result


def model_upscaler(model: nn.Module, device: str | torch.device = "cpu") -> ModelUpscaler:
    """``model`` as what :func:`polyres.evaluation.evaluate` calls.

    Args:
        model: called as ``model(image, scale)`` with a float32 (1, 3, h, w) image in [0, 1], gives (1, 3, H, W), not
            clamped. It is moved to ``device`` and put in evaluation mode.
        device: where it runs.

    Raises:
        UsageError: a device that this machine or this torch does not have.
    """
    try:
        model = model.to(device).eval()
    except (RuntimeError, AssertionError) as error:  # torch has no single type for a device that is not there
        raise UsageError(
            f"no model can run on device '{device}' here: {str(error).splitlines()[0]}"
        ) from error
    return ModelUpscaler(model, torch.device(device))
