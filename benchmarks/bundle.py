"""Measure a trained model and put it into the package with its card.

``python benchmarks/bundle.py RUN/model.safetensors --training "..."`` prints the tables of the README. What the bundled
models compute is tested; ``python tests/golden.py`` renews what the test expects.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polyres
from polyres.data import find_pairs
from polyres.evaluation import BASELINES
from polyres.evaluation.models import model_upscaler
from polyres.weights import BUNDLED, Result, resolve

SETS = ("Set5", "Set14", "BSD100")
SCALES = ("2", "3", "4")
PROTOCOL = "paper-y"

SUMMARY = "one file for every scale, for pictures that were shrunk by bicubic and nothing worse"
TRAINING_DATA = (
    "1,272 tiles (301 megapixels) of 480 to 576 pixels from photographs and artwork under CC BY-SA, CC0, CC BY, "
    "Unsplash, Pexels licences or in the public domain; no picture of Set5, Set14, BSD100 or Urban100"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bench"))
    parser.add_argument("--name", default="small")
    parser.add_argument("--training", required=True, help="the recipe in a sentence, with its steps")
    parser.add_argument("--summary", default=SUMMARY, help="one line: what it is for")
    parser.add_argument("--scales", nargs="+", default=SCALES)
    arguments = parser.parse_args()
    model = polyres.load(arguments.model)
    results = measure(model, arguments.data, arguments.scales)
    trained = polyres.weights.load_card(arguments.model)
    card = trained.model_copy(
        update={
            "name": arguments.name,
            "summary": arguments.summary,
            "licence": "Apache-2.0",
            "training_data": TRAINING_DATA,
            "training": arguments.training,
            "results": tuple(results),
        }
    )
    target = resolve(arguments.name)
    target.parent.mkdir(exist_ok=True)
    polyres.save(model, target, card)
    print(
        f"{target}: {target.stat().st_size / 1e6:.2f} MB, as {[k for k, v in BUNDLED.items() if v == target.name]}"
    )


def measure(model: polyres.SRModel, data: Path, scales: list[str]) -> list[Result]:
    """The model's rows, printed beside bicubic's."""
    wanted, rows = [polyres.Scale.of(scale) for scale in scales], []
    print("| set | scale | bicubic | polyres |\n|---|---|---|---|")
    for name in SETS:
        pairs = find_pairs(data / name, wanted)
        reports = [
            polyres.evaluate(upscale, pairs, PROTOCOL)
            for upscale in (BASELINES["bicubic"], model_upscaler(model))
        ]
        for bicubic, ours in zip(*(report.means() for report in reports), strict=True):
            texts = (f"{mean.psnr:.2f} / {mean.ssim:.4f}" for mean in (bicubic, ours))
            print(f"| {name} | ×{ours.scale} | {' | '.join(texts)} |", flush=True)
            row = Result(
                data=name,
                scale=str(ours.scale),
                protocol=PROTOCOL,
                psnr=round(ours.psnr, 3),
                ssim=round(ours.ssim or 0, 4),
            )
            rows.append(row)
    return rows


if __name__ == "__main__":
    main()
