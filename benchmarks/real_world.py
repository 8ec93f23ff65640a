"""Models on pictures that are blurred, noisy and compressed: ``python benchmarks/real_world.py``.

The validation pictures, none of which a bundled model learns from, are lowered by the degradations of a run file, each
picture at each scale by a chain of its own that is the same in every run, and enlarged again. The last model is
compared with the one before it, picture by picture. The first pictures are written as rows of crops, to be looked at.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import polyres
from polyres.data import crop_to_fit
from polyres.data.lowering import Bicubic, Lowering
from polyres.data.pairs import inverse
from polyres.evaluation import BASELINES
from polyres.evaluation.models import model_upscaler
from polyres.evaluation.statistics import wilcoxon
from polyres.metrics import PROTOCOLS
from polyres.scale import Scale
from polyres.training.batches import lowering
from polyres.training.reading import read_run

PROTOCOL = PROTOCOLS["paper-y"]
CROP = 96  # HR pixels a side, enlarged threefold in the pictures


def main() -> None:
    arguments = parse_arguments()
    chains: dict[str, Lowering] = {
        "bicubic": Bicubic(),
        "degraded": lowering(read_run(arguments.run, with_files=False).data),
    }
    upscalers = {"bicubic": BASELINES["bicubic"]}
    upscalers |= {name: model_upscaler(polyres.load(name)) for name in arguments.models}
    pictures = [polyres.read_picture(path).pixels for path in sorted(arguments.data.glob("*.webp"))]
    compared: list[tuple[str, list[float]]] = []
    print("| LR | scale | " + " | ".join(upscalers) + " |\n|---|---|" + "---|" * len(upscalers))
    for kind, lower in chains.items():
        for scale in map(Scale.of, arguments.scales):
            values: dict[str, list[float]] = {name: [] for name in upscalers}
            for index, picture in enumerate(pictures):
                high = crop_to_fit(picture, scale)
                size = Scale.of(inverse(scale)).output_size(*high.shape[:2])
                low = lower(high, size, np.random.default_rng((index, int(scale.y * 6))))
                made = {name: upscale(low, scale) for name, upscale in upscalers.items()}
                for name, output in made.items():
                    values[name].append(PROTOCOL.score(output, high, scale, with_ssim=False).psnr)
                if index < arguments.looked_at and arguments.out is not None:
                    path = arguments.out / f"{kind}-x{scale}-{index}.png".replace("/", "_")
                    write_row(path, [*made.values(), high / 255])
            means = (f"{statistics.fmean(psnr):.2f}" for psnr in values.values())
            print(f"| {kind} | ×{scale} | {' | '.join(means)} |", flush=True)
            *_, before, last = values.values()
            compared.append((f"{kind} | ×{scale}", [b - a for a, b in zip(before, last, strict=True)]))
    *_, before_name, last_name = upscalers
    print(f"\n| LR | scale | {last_name} less {before_name} | better | Wilcoxon's p |\n|---|---|---|---|---|")
    for place, differences in compared:
        better = sum(difference > 0 for difference in differences)
        row = f"{statistics.fmean(differences):+.3f} | {better} of {len(differences)}"
        print(f"| {place} | {row} | {wilcoxon(differences):.4f} |")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("recipes/small-real-equivariant.yaml"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/validation"))
    parser.add_argument("--models", nargs="+", default=["small", "small-real"])
    parser.add_argument("--scales", nargs="+", default=["2", "3", "4"])
    parser.add_argument(
        "--out", type=Path, help="folder for rows of crops: as the columns, and the original last"
    )
    parser.add_argument("--looked-at", type=int, default=4, help="pictures that have such rows")
    return parser.parse_args()


def write_row(path: Path, pictures: list[npt.NDArray[np.floating]]) -> None:
    """The middles of ``pictures`` (H, W, 3) in [0, 1] side by side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    top, left = ((size - CROP) // 2 for size in pictures[-1].shape[:2])
    row = np.concatenate([picture[top : top + CROP, left : left + CROP] for picture in pictures], axis=1)
    pixels = (row.clip(0, 1) * 255).round().astype(np.uint8)
    Image.fromarray(pixels).resize((row.shape[1] * 3, row.shape[0] * 3), Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    main()
