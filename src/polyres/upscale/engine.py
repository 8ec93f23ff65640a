"""The engine: one fused model on one device, in the precision and memory layout that suit it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext

import torch
from torch import Tensor

from polyres.deploy.accelerate import accelerate, describe_acceleration
from polyres.deploy.fuse import FusedModel
from polyres.errors import PictureError, UsageError
from polyres.layers.layout import channels_last
from polyres.pictures.picture import Pixels
from polyres.pictures.tensors import unit_tensor
from polyres.upscale.memory import peak_bytes
from polyres.upscale.tiling import round_up

_PROBE = 64  # side of the picture that memory is measured on


class Engine(ABC):
    """What runs a fused model on windows of a picture.

    Args:
        fused: the model at one scale.
        device: where it runs.
        dtype: what it computes in.

    Attributes:
        scale: of the model.
        context: its context.
        multiple_of: its windows start at multiples of this.
        minimum_size: smaller windows are padded to it.
    """

    def __init__(self, fused: FusedModel, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype, self.scale = device, dtype, fused.scale
        self.context, self.multiple_of = fused.context, fused.multiple_of
        self.minimum_size = fused.encoder.minimum_size

    def __call__(self, windows: Pixels) -> Tensor:
        """Enlarge ``windows`` (N, H, W, 1 or 3) of any depth to (N, 3, H', W') float32, not clamped.

        Raises:
            PictureError: the network made values that are not finite.
        """
        # Pixels lie channel by channel already: the permuted view is what torch calls channels_last.
        image = unit_tensor(windows).to(self.device).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
        result = self._run(image)
        # One pass without a copy: a sum is finite only if all its terms are.
        if not bool(torch.isfinite(result.sum())):
            raise PictureError(
                f"the network's result is not finite in {_name(self.dtype)}: "
                + ("its weights are damaged" if self.dtype == torch.float32 else "try float32")
            )
        return result

    @abstractmethod
    def bytes_per_pixel(self) -> float:
        """Working memory for each pixel of a window."""

    @abstractmethod
    def __str__(self) -> str: ...

    @abstractmethod
    def _run(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1], of any strides, to (N, 3, H', W') float32."""


class TorchEngine(Engine):
    """A fused model, run by torch.

    Args:
        fused: the model at one scale; moved to ``device``.
        device: where it runs.
        dtype: what its convolutions compute in: float32, bfloat16 or float16. Input, output and the model's last
            sum are float32 in any case.
        native: on a CPU, run the parts that have a native form by it, in float32.
    """

    def __init__(
        self, fused: FusedModel, device: torch.device, dtype: torch.dtype, native: bool = True
    ) -> None:
        if dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise UsageError(f"dtype must be float32, bfloat16 or float16; got {dtype}")
        native = native and device.type == "cpu"
        form = accelerate(fused) if native else fused if device.type == "cpu" else fused.whole()
        super().__init__(form, device, dtype)
        self._acceleration = describe_acceleration(fused, form, dtype) if native else ""
        self.module = channels_last(form.to(device))
        self._bytes_per_pixel: float | None = None

    def bytes_per_pixel(self) -> float:
        """Working memory for each pixel of a window; measured once, on a small window."""
        if self._bytes_per_pixel is None:
            side = round_up(max(_PROBE, self.minimum_size), self.multiple_of)
            image = torch.zeros(1, 3, side, side, device=self.device)
            self._bytes_per_pixel = peak_bytes(lambda: self._run(image)) / side**2
        return self._bytes_per_pixel

    def __str__(self) -> str:
        where = f"torch, {_name(self.dtype)} on {self.device}"
        return f"{where}, {self._acceleration}" if self._acceleration else where

    def _run(self, image: Tensor) -> Tensor:
        mixed = torch.autocast(self.device.type, self.dtype) if self.dtype != torch.float32 else nullcontext()
        with torch.inference_mode(), mixed:
            enlarged: Tensor = self.module(image.contiguous(memory_format=torch.channels_last))
            return enlarged.float()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
