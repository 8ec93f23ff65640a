"""Validation during training: the mean ``paper-y`` PSNR on pictures that the run does not learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from polyres.data.sources import Pixels
from polyres.data.pairs import crop_to_fit, inverse
from polyres.data.resize import resize
from polyres.metrics import PROTOCOLS
from polyres.model import SRModel
from polyres.training.config import RunConfig
from polyres.training.loop import autocast


def validate(model: SRModel, pictures: Sequence[Pixels], config: RunConfig) -> dict[str, float]:
    """Mean PSNR in dB by scale, of ``model`` in eval mode and the run's precision."""
    protocol = PROTOCOLS["paper-y"]
    result = {}
    for scale in config.data.exact_scales:
        values = []
        for picture in pictures:
            high = crop_to_fit(picture, scale)
            low = resize(high, scale=inverse(scale))
            image = torch.from_numpy(low).to(config.device).permute(2, 0, 1)[None].float() / 255
            with torch.inference_mode(), autocast(config):
                output = model(image, scale)
            made = output[0].float().permute(1, 2, 0).cpu().numpy()
            values.append(protocol.score(made, high, scale, with_ssim=False).psnr)
        result[str(scale)] = float(np.mean(values))
    return result
