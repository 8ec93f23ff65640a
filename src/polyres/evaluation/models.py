"""A network as an upscaler of 8-bit arrays; the only part of evaluation that imports torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from polyres.errors import DataError, UsageError
from polyres.layers.layout import channels_last
from polyres.layers.native import fast_convolutions, opposed_weights
from polyres.model import SRModel
from polyres.scale import Scale

M = TypeVar("M", bound=nn.Module)

#: (1, 3, h, w) float32 in [0, 1] and a scale -> (1, 3, H, W), not clamped.
Network: TypeAlias = Callable[[Tensor, Scale], Tensor]


class ModelUpscaler:
    """A network as what :func:`polyres.evaluation.evaluate` calls.

    (h, w, 3) uint8 and a scale -> (H, W, 3) float32. Whole pictures, in one piece. Threads may share it, each of them
    then computing with its part of the cores; on a GPU they take turns.

    Args:
        network: what enlarges.
        device: where it runs.
        prime: has the network compute what it keeps for a scale. Without it, the first picture of a scale is made
            while the other threads wait.
    """

    def __init__(
        self, network: Network, device: torch.device, prime: Callable[[Scale], object] | None = None
    ) -> None:
        self._network, self._device, self._prime = network, device, prime
        self._turn, self._seen = threading.Lock(), set[Scale]()

    def __call__(self, low: npt.NDArray[np.uint8], scale: Scale) -> npt.NDArray[np.floating[Any]]:
        """``low`` enlarged; see the class."""
        # Pixels lie channel by channel already: in this order the view is what torch calls channels_last.
        image = torch.from_numpy(low.astype(np.float32) / 255).unsqueeze(0).permute(0, 3, 1, 2)
        opposed = opposed_weights(self._network) if isinstance(self._network, nn.Module) else []
        with torch.inference_mode(), fast_convolutions(self._device.type == "cpu", opposed):
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
        """The network's result."""
        if self._device.type == "cpu" and self._is_ready(scale):
            return self._network(image, scale)
        with self._turn:
            result = self._network(image, scale)
            self._seen.add(scale)
        return result

    def _is_ready(self, scale: Scale) -> bool:
        """Whether the network has what it keeps for a scale; one thread makes it, so that it is made once."""
        if self._prime is not None and scale not in self._seen:
            with self._turn:
                self._prime(scale)
                self._seen.add(scale)
        return scale in self._seen


def placed(module: M, device: str | torch.device) -> M:
    """``module`` itself, moved to ``device``, its weights channels last.

    Raises:
        UsageError: a device that this machine or this torch does not have.
    """
    try:
        return channels_last(module.to(device))
    except (RuntimeError, AssertionError) as error:  # torch has no single type for a device that is not there
        raise UsageError(
            f"no model can run on device '{device}' here: {str(error).splitlines()[0]}"
        ) from error


def model_upscaler(model: nn.Module, device: str | torch.device = "cpu") -> ModelUpscaler:
    """``model`` as what :func:`polyres.evaluation.evaluate` calls.

    Args:
        model: called as ``model(image, scale)`` with a float32 (1, 3, h, w) image in [0, 1], gives (1, 3, H, W), not
            clamped. It is moved to ``device``, put in evaluation mode, and its weights in the order of memory that
            convolutions are fastest in.
        device: where it runs.

    Raises:
        UsageError: a device that this machine or this torch does not have.
    """
    model = placed(model, device).eval()
    return ModelUpscaler(model, torch.device(device), _priming(model) if isinstance(model, SRModel) else None)


def _priming(model: SRModel) -> Callable[[Scale], object]:
    """The upsampler at work on a single pixel: what is kept for a scale is its kernels; the encoder knows no scale."""

    def prime(scale: Scale) -> object:
        features, image = (
            torch.zeros(1, channels, 1, 1)
            for channels in (model.encoder.out_channels, model.encoder.in_channels)
        )
        return model.upsampler(features, image, scale)

    return prime
