"""A folder of photographs, enlarged: ``python benchmarks/throughput.py``.

``polyres upscale`` (its Upscaler, engine chosen by trial, reading and writing beside the network) against the plain
loop that people write: Pillow, torch in eager float32, one picture after the other, with the same weights. Both take
turns in one run, so that a machine whose speed drifts slows both alike; the ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

import polyres
from polyres.cli.batches import Run, Settings
from polyres.deploy.devices import describe
from polyres.upscale import Target
from polyres.upscale.batch import gather, prepare_folders


def main() -> None:
    arguments = parse_arguments()
    print(describe(torch.device("cpu")))
    model = polyres.load(arguments.model)
    upscaler = polyres.Upscaler(model, device="cpu", engine=arguments.engine)
    print(f"x{arguments.scale}, model {arguments.model}: {upscaler.describe(arguments.scale)}")
    with tempfile.TemporaryDirectory() as place:
        source = pictures(Path(place) / "in", arguments)
        seconds: dict[str, list[float]] = {"plain loop": [], "polyres": []}
        for number in range(arguments.rounds + 1):
            took = {
                "plain loop": timed(
                    lambda: plain_loop(model, source, Path(place) / "plain", arguments.scale)
                ),
                "polyres": timed(
                    lambda: by_polyres(upscaler, source, Path(place) / "polyres", arguments.scale)
                ),
            }
            if number:  # the first round warms up
                for name, value in took.items():
                    seconds[name].append(value)
        compare(Path(place) / "plain", Path(place) / "polyres")
    report(seconds, arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def pictures(folder: Path, arguments: argparse.Namespace) -> Path:
    """JPEG files with the frequencies of photographs."""
    folder.mkdir()
    random = np.random.default_rng(0)
    size = (arguments.width, arguments.height)
    for number in range(arguments.count):
        image = Image.new("RGB", size)
        for octave in (2, 5, 12, 40, 120):
            noise = Image.fromarray(random.integers(0, 256, (octave, octave, 3), np.uint8))
            image = Image.blend(image, noise.resize(size, Image.Resampling.BICUBIC), 0.4)
        image.save(folder / f"{number:03}.jpg", quality=90)
    return folder


def plain_loop(model: polyres.SRModel, source: Path, target: Path, scale: int) -> None:
    """What a person writes who has a network and a folder."""
    target.mkdir(exist_ok=True)
    for path in sorted(source.iterdir()):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            enlarged = model(tensor, scale)
        rounded = enlarged[0].clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)
        Image.fromarray(rounded.numpy()).save(target / f"{path.stem}.png")


def by_polyres(upscaler: polyres.Upscaler, source: Path, target: Path, scale: int) -> None:
    from polyres.pictures import FORMATS

    batch = gather([source], target, target_format=FORMATS["png"])
    prepare_folders(batch)
    with Path("/dev/null").open("w") as nowhere:
        run = Run(batch, upscaler, Settings(Target(scale=scale)), Console(file=nowhere))
        run.go()
    run.report()


def timed(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def compare(first: Path, second: Path) -> None:
    """Both made the same pictures, to the precision of the engine."""
    largest = 0
    for path in sorted(first.iterdir()):
        one, two = (np.asarray(Image.open(folder / path.name)).astype(int) for folder in (first, second))
        largest = max(largest, int(np.abs(one - two).max()))
    print(f"largest difference {largest} of 255")


def report(seconds: dict[str, list[float]], arguments: argparse.Namespace) -> None:
    area = arguments.count * arguments.height * arguments.width * arguments.scale**2 / 1e6
    for name, values in seconds.items():
        print(f"{name:>10}: {area / statistics.median(values):.2f} megapixels made a second")
    ratios = [a / b for a, b in zip(seconds["plain loop"], seconds["polyres"], strict=True)]
    print(
        f"polyres is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
