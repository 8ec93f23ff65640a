"""What a command gains by keeping freed memory: ``python benchmarks/kept_memory.py``.

Processes that keep it, as every command of polyres does, and processes that do not take turns. Each enlarges a picture
and trains a network of the bundled model's size, on threads as torch chooses them; what it does first warms up. Prints
the times, and the medians over the rounds of their ratios and of the page faults.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import polyres
from polyres.cli.memory import keep_freed_memory
from polyres.pictures import Picture
from polyres.training import RunConfig, run

STEPS, TIMES = 16, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--as-child", choices=["keeps", "does not"], help="used by this file itself")
    arguments = parser.parse_args()
    if arguments.as_child:
        if arguments.as_child == "keeps" and not keep_freed_memory():
            raise SystemExit("the C library of this system cannot keep freed memory")
        print(json.dumps(measure()))
        return
    rounds = [{how: child(how) for how in ("does not", "keeps")} for _ in range(arguments.rounds)]
    print(
        f"{torch.get_num_threads()} threads; seconds without, with; ratio, from the smallest to the largest; faults"
    )
    for name in rounds[0]["keeps"]:
        seconds = [[made[how][name][0] for made in rounds] for how in ("does not", "keeps")]
        faults = [statistics.median(made[how][name][1] for made in rounds) for how in ("does not", "keeps")]
        ratios = sorted(kept / not_kept for not_kept, kept in zip(*seconds, strict=True))
        print(
            f"{name}: {statistics.median(seconds[0]):.3f}, {statistics.median(seconds[1]):.3f}; "
            f"{statistics.median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}; {faults[0]:,.0f}, {faults[1]:,.0f}"
        )


def child(how: str) -> dict[str, list[float]]:
    command = [sys.executable, __file__, "--as-child", how]
    made: dict[str, list[float]] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )
    return made


def measure() -> dict[str, tuple[float, float]]:
    """Seconds and page faults of one picture and of one step, medians without the first."""
    upscaler = polyres.Upscaler(polyres.load("default"), device="cpu", engine="torch")
    picture = Picture(np.random.default_rng(0).integers(0, 256, (512, 768, 3), dtype=np.uint8))
    marks = [mark()]
    for _ in range(TIMES):
        upscaler(picture, scale=2)
        marks.append(mark())
    return {"a picture of 768x512 to x2": median(marks), "a step of training": median(training_marks())}


def training_marks() -> list[tuple[float, float]]:
    with tempfile.TemporaryDirectory() as place:
        folder, marks = Path(place), list[tuple[float, float]]()
        noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
        (folder / "pictures").mkdir()
        polyres.pictures.write_picture(Picture(noise), folder / "pictures" / "noise.png")
        encoder = {"name": "edsr-baseline", "options": {"channels": 64, "blocks": 7}}
        settings = {
            "model": {"encoder": encoder, "upsampler": {"name": "igconv"}},
            "data": {"train": [str(folder / "pictures")], "patch": 54, "batch": 8, "scales": [2]},
            "output": str(folder / "run"),
            "steps": STEPS,
            "precision": "float32",
        }
        run(RunConfig.model_validate(settings), watch=lambda *_: marks.append(mark()))
    return marks[:-1]  # the last step writes files


def mark() -> tuple[float, float]:
    return time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def median(marks: list[tuple[float, float]]) -> tuple[float, float]:
    gaps = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(marks[1:])]
    return statistics.median(gap[0] for gap in gaps), statistics.median(gap[1] for gap in gaps)


if __name__ == "__main__":
    main()
