"""Is loading ever the bottleneck? ``python benchmarks/loading.py`` counts crops a second from every kind of source.

A folder of PNG files decoded for every crop is what most trainers do; the same folder in memory, a pack, and the pack
with a second-order chain of degradations are ours. Then a few steps of a network are trained from the pack, and the
share of time that they wait for crops is what the training log calls ``wait``. Sources take turns, so that a machine
whose speed drifts slows all alike; numbers are medians over rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

# Before numpy loads its BLAS: a pool of its own would make threads wait for each other in every product.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import torch
from PIL import Image

from polyres.data import list_pictures, read_rgb
from polyres.data.crops import Batches, CropSampler
from polyres.data.degradations import make_steps
from polyres.data.folder import PictureFolder
from polyres.data.lowering import Degraded, Lowering
from polyres.data.packing import write_pack
from polyres.data.prefetch import Prefetched
from polyres.data.sources import Source
from polyres.model import build
from polyres.scale import Scale
from polyres.training.config import RunConfig
from polyres.training.loop import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/train/tiles"))
    parser.add_argument("--pictures", type=int, default=100, help="how many of them")
    parser.add_argument("--patch", type=int, default=48)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--scales", nargs="+", default=["2", "3", "4"])
    parser.add_argument("--batches", type=int, default=20, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12, help="of training; 0 leaves it out")
    parser.add_argument("--encoder", default="edsr-baseline")
    parser.add_argument("--upsampler", default="igconv+")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources = prepare(arguments, Path(folder))
        speeds = {name: [] for name in sources}
        for round_ in range(arguments.rounds):
            for name, sampler in sources.items():
                speeds[name].append(speed(sampler, round_, arguments))
        slowest = statistics.median(speeds["PNG decoded for every crop"])
        for name, values in speeds.items():
            median = statistics.median(values)
            print(f"{name:40} {median:8.0f} crops/s  {median / slowest:6.1f} x")
        if arguments.steps:
            report_training(sources["pack"], arguments)


def prepare(arguments: argparse.Namespace, folder: Path) -> dict[str, Batches]:
    """The same pictures as PNG files and as a pack, with a sampler for each way to read them."""
    (folder / "png").mkdir()
    for path in list_pictures(arguments.data)[: arguments.pictures]:
        Image.fromarray(read_rgb(path)).save(folder / "png" / f"{path.stem}.png")
    pack = write_pack([folder / "png"], folder / "train.pack")
    scales = [Scale.of(scale) for scale in arguments.scales]

    def sampler(source: Source, lower: Lowering | None = None) -> CropSampler:
        return CropSampler(source, scales, arguments.patch, arguments.batch, lower=lower)

    chain = Degraded(make_steps([{"name": "second-order"}]))
    return {
        "PNG decoded for every crop": sampler(PictureFolder(folder / "png", memory=0)),
        "PNG folder in memory": sampler(PictureFolder(folder / "png", memory=2**40)),
        "pack": sampler(pack),
        "pack, second-order degradations": sampler(pack, chain),
    }


def speed(sampler: Batches, round_: int, arguments: argparse.Namespace) -> float:
    """Crops a second, by threads as in training."""
    ahead = Prefetched(sampler, micros=1, workers=arguments.workers)
    began = time.perf_counter()
    for step in range(arguments.batches):
        ahead.batch(round_ * arguments.batches + step, 0)
    seconds = time.perf_counter() - began
    ahead.close()
    return arguments.batches * arguments.batch / seconds


def report_training(sampler: Batches, arguments: argparse.Namespace) -> None:
    """The share of training that waits for crops; the first steps, which warm up, are not counted."""
    warm = max(1, arguments.steps // 4)
    config = RunConfig.model_validate(
        {
            "model": {"encoder": {"name": arguments.encoder}, "upsampler": {"name": arguments.upsampler}},
            "data": {"train": ["pack"], "patch": arguments.patch, "scales": arguments.scales},
            "output": "nowhere",
            "steps": arguments.steps,
        }
    )
    waits, seconds = [], []
    ahead = Prefetched(sampler, micros=1, workers=arguments.workers)
    train(
        build(config.model),
        ahead,
        config,
        lambda _, report: (waits.append(report.wait), seconds.append(report.seconds)),
    )
    ahead.close()
    share = sum(waits[warm:]) / sum(seconds[warm:])
    print(f"{arguments.encoder} + {arguments.upsampler}, {torch.get_num_threads()} threads:")
    print(
        f"{1 / statistics.median(seconds[warm:]):.2f} steps/s, {100 * share:.2f} % of the time waiting for crops"
    )


if __name__ == "__main__":
    main()
