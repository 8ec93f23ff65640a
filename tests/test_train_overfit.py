"""One picture learned by heart at three scales: the whole of training at work."""

from __future__ import annotations

from pathlib import Path

import torch
from training_runs import config, picture

from polyres.data.crops import Batch
from polyres.data.resize import resize
from polyres.metrics import PROTOCOLS
from polyres.model import build
from polyres.scale import Scale
from polyres.training import train

SIDE = 36


class OnePicture:
    """The whole picture at x2, x3 and x4 in turn."""

    def __init__(self) -> None:
        high = picture(SIDE, SIDE)
        self.pairs = [
            Batch(resize(high, scale=1 / s.y)[None], high[None], s) for s in map(Scale.of, (2, 3, 4))
        ]

    def batch(self, step: int, micro: int) -> Batch:
        return self.pairs[step % 3]


def test_overfitting_one_picture_beats_bicubic_by_3_db_at_three_scales(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = {
        "encoder": {"name": "edsr", "options": {"channels": 16, "blocks": 2, "residual_scale": 1.0}},
        "upsampler": {
            "name": "igconv",
            "options": {"width": 32, "hidden_layers": 1, "base": "bilinear", "spread": 0.5},
        },
    }
    optimiser = {"lr": 5e-3, "warmup": 20}
    settings = config(tmp_path, model=model, steps=300, optimiser=optimiser, ema=0.9, losses=[{"name": "l1"}])
    pictures = OnePicture()
    trained = train(build(settings.model), pictures, settings)
    for pair in pictures.pairs:
        low = torch.from_numpy(pair.low).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            made = trained(low, pair.scale)[0].permute(1, 2, 0).numpy()
        bicubic = resize(pair.low[0], size=(SIDE, SIDE)) / 255
        ours, theirs = (
            PROTOCOLS["paper-y"].score(p, pair.high[0], pair.scale, with_ssim=False).psnr
            for p in (made, bicubic)
        )
        assert ours > theirs + 3, f"x{pair.scale}: {ours:.2f} dB, bicubic {theirs:.2f} dB"
