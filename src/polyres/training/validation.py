"""Validation during training: the mean ``paper-y`` PSNR on pictures that the run does not learn from."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from polyres.data.pairs import crop_to_fit, inverse
from polyres.data.resize import resize
from polyres.data.sources import Pixels
from polyres.files import replacing
from polyres.metrics import PROTOCOLS
from polyres.model import SRModel
from polyres.scale import Scale
from polyres.training.config import RunConfig
from polyres.training.loop import arithmetic


def validate(
    model: SRModel, pictures: Sequence[Pixels], config: RunConfig, folder: Path | None = None, step: int = 0
) -> dict[str, float]:
    """Mean PSNR in dB by scale, of ``model`` in eval mode and the run's precision.

    Args:
        model: on the run's device.
        pictures: HR, (H, W, 3) uint8 each.
        config: of the run.
        folder: where the first ``config.pictures`` results are written, under ``pictures/``; none if not given.
        step: that their names carry.
    """
    protocol = PROTOCOLS["paper-y"]
    result = {}
    for scale in config.data.exact_scales:
        values = []
        for index, picture in enumerate(pictures):
            high = crop_to_fit(picture, scale)
            made = _enlarged(model, resize(high, scale=inverse(scale)), scale, config)
            values.append(protocol.score(made, high, scale, with_ssim=False).psnr)
            if folder is not None and index < config.pictures:
                name = f"{index}-x{scale}-step-{step:08d}.png".replace("/", "_")
                _write(folder / "pictures" / name, made)
        result[str(scale)] = float(np.mean(values))
    return result


def _enlarged(model: SRModel, low: Pixels, scale: Scale, config: RunConfig) -> Any:
    """(H, W, 3) float32, not clamped."""
    image = torch.from_numpy(low).to(config.device).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode(), arithmetic(config, model):
        output = model(image, scale)
    return output[0].float().permute(1, 2, 0).cpu().numpy()


def _write(path: Path, made: Any) -> None:
    buffer = io.BytesIO()
    Image.fromarray((made.clip(0, 1) * 255).round().astype(np.uint8)).save(buffer, "png")
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as stream:
        stream.write(buffer.getvalue())
