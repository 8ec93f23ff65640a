"""What the bundled models computed when they were bundled: ``python tests/golden.py`` writes it down anew."""

from __future__ import annotations

import json
from pathlib import Path

import torch

import polyres
from polyres.weights import BUNDLED

GOLDEN = Path(__file__).parent / "golden.json"
SCALES = ("3/2", "2", "3", "4")


def outputs(name: str) -> dict[str, list[float]]:
    """A line through the middle of a small pattern, enlarged by each scale."""
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(14.0), indexing="ij")
    colours = [torch.sin(x * (0.9 + c) + y * y * 0.11 * (c + 1)) for c in range(3)]
    image = torch.stack(colours)[None] / 3 + 0.5
    model = polyres.load(name)
    with torch.inference_mode():
        made = {scale: model(image, scale)[0, :, 9, 4:12] for scale in SCALES}
    return {scale: [round(value, 5) for value in line.flatten().tolist()] for scale, line in made.items()}


def expected() -> dict[str, dict[str, list[float]]]:
    """Of every bundled model, by scale."""
    return json.loads(GOLDEN.read_text())


if __name__ == "__main__":
    models = sorted(Path(file).stem for file in set(BUNDLED.values()))
    GOLDEN.write_text(json.dumps({name: outputs(name) for name in models}) + "\n")
