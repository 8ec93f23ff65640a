"""Where a published network is ahead of a bundled one, and how far it looks for that: ``python benchmarks/lead.py``.

Prints its lead picture by picture on the validation folder, its lead on tiles of the training pack by how much the
directions in a tile agree (``coherence`` of the pack's manifest), and its PSNR on the pictures where it leads most when
it is shown pieces with a margin instead of the whole.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

import polyres
from polyres.data import Pair
from polyres.evaluation.models import model_upscaler
from polyres.metrics import PROTOCOLS
from polyres.scale import Scale

Picture: TypeAlias = npt.NDArray[np.uint8]
Upscale: TypeAlias = Callable[[Picture, Scale], npt.NDArray[np.floating]]

PROTOCOL = PROTOCOLS["paper-y"]
SHARED = Path("../shared")
PIECE = 32  # LR pixels a side
MARGINS = (8, 16, 24, 40, 64)
COHERENCE = (0.0, 0.4, 0.5, 0.6, 0.7, 1.0)
LOOKED_AT = 4  # pictures that are cut into pieces


def main() -> None:
    arguments = parse_arguments()
    scale = Scale.of(arguments.scale)
    ours, theirs = (model_upscaler(polyres.load(name)) for name in (arguments.model, arguments.published))
    leads: dict[Path, float] = {}
    print(f"| picture | {arguments.model} | published | lead |\n|---|---|---|---|")
    for path in sorted((arguments.shared / "data/validation").glob("*.webp")):
        values = [psnr(upscale, path, scale) for upscale in (ours, theirs)]
        leads[path] = values[1] - values[0]
        print(f"| {path.stem} | {values[0]:.2f} | {values[1]:.2f} | {leads[path]:+.2f} |", flush=True)
    print(f"| mean | | | {statistics.fmean(leads.values()):+.3f} |\n")
    on_tiles(ours, theirs, arguments.shared / "data/train", scale, arguments.tiles)
    print("\n| picture | whole | " + " | ".join(f"{m} around" for m in MARGINS) + " |")
    print("|---|---|" + "---|" * len(MARGINS))
    for path in sorted(leads, key=lambda path: -leads[path])[:LOOKED_AT]:
        parts = [psnr(lambda low, s, m=m: in_pieces(theirs, low, s, m), path, scale) for m in MARGINS]
        row = " | ".join(f"{value:.2f}" for value in (psnr(theirs, path, scale), *parts))
        print(f"| {path.stem} | {row} |", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="small")
    parser.add_argument("--published", type=Path, default=SHARED / "weights/SMFANet_plus_DF2K_100w_x3SR.pth")
    parser.add_argument("--scale", default="3")
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--tiles", type=int, default=150, help="tiles of the training pack")
    return parser.parse_args()


def psnr(upscale: Upscale, path: Path, scale: Scale) -> float:
    """Of a picture whose LR is made by MATLAB's kernel."""
    low, high = Pair(path.parent.name, path.stem, scale, path).read()
    return PROTOCOL.score(upscale(low, scale), high, scale, with_ssim=False).psnr


def on_tiles(ours: Upscale, theirs: Upscale, folder: Path, scale: Scale, count: int) -> None:
    """Mean lead on tiles drawn from the pack, by their coherence."""
    with (folder / "manifest.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    random.Random(0).shuffle(rows)
    found = []
    for row in rows[:count]:
        path = folder / row["file"]
        lead = psnr(theirs, path, scale) - psnr(ours, path, scale)
        found.append((float(row["coherence"]), lead))
    print("| coherence | tiles | mean lead |\n|---|---|---|")
    for low, high in itertools.pairwise(COHERENCE):
        inside = [lead for coherence, lead in found if low <= coherence < high]
        if inside:
            print(f"| {low} to {high} | {len(inside)} | {statistics.fmean(inside):+.2f} |")
    print(f"| all | {len(found)} | {statistics.fmean(lead for _, lead in found):+.2f} |", flush=True)


def in_pieces(upscale: Upscale, low: Picture, scale: Scale, margin: int) -> npt.NDArray[np.floating]:
    """``low`` enlarged in pieces of which the network sees ``margin`` pixels more; mirrored beyond the picture."""
    height, width = low.shape[:2]
    factor = int(scale.y)
    around = ((margin, margin + -height % PIECE), (margin, margin + -width % PIECE), (0, 0))
    wide = np.pad(low, around, mode="reflect")
    result = np.zeros((factor * (height + -height % PIECE), factor * (width + -width % PIECE), 3))
    inner = slice(factor * margin, factor * (margin + PIECE))
    for top in range(0, height, PIECE):
        for left in range(0, width, PIECE):
            seen = wide[top : top + PIECE + 2 * margin, left : left + PIECE + 2 * margin]
            place = np.s_[factor * top : factor * (top + PIECE), factor * left : factor * (left + PIECE)]
            result[place] = upscale(seen, scale)[inner, inner]
    return result[: factor * height, : factor * width]


if __name__ == "__main__":
    main()
