"""A network as an upscaler of 8-bit arrays; the only part of evaluation that imports torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from polyres.errors import DataError, UsageError
from polyres.evaluation.routes import Upscale
from polyres.scale import Scale


def model_upscaler(model: nn.Module, device: str | torch.device = "cpu") -> Upscale:
    """``model`` as what :func:`polyres.evaluation.evaluate` calls.

    Args:
        model: called as ``model(image, scale)`` with a float32 (1, 3, h, w) image in [0, 1], gives (1, 3, H, W), not
            clamped. It is moved to ``device`` and put in evaluation mode.
        device: where it runs.

    Returns:
        (h, w, 3) uint8 and a scale -> (H, W, 3) float32. Whole pictures, in one piece.

    Raises:
        UsageError: a device that this machine or this torch does not have.
    """
    try:
        model = model.to(device).eval()
    except (RuntimeError, AssertionError) as error:  # torch has no single type for a device that is not there
        raise UsageError(
            f"no model can run on device '{device}' here: {str(error).splitlines()[0]}"
        ) from error

    def upscale(low: npt.NDArray[np.uint8], scale: Scale) -> npt.NDArray[np.floating[Any]]:
        image = (
            torch.from_numpy(low.astype(np.float32) / 255).permute(2, 0, 1).unsqueeze(0)
        )  # channels last in memory
        with torch.inference_mode():
            result = model(image.to(device), scale)
        if result.ndim != 4 or result.shape[:2] != (1, 3):
            raise DataError(
                f"a model gives (1, 3, H, W) for one picture; this one gave {tuple(result.shape)}"
            )
        return np.asarray(result[0].permute(1, 2, 0).float().cpu().numpy())

    return upscale
