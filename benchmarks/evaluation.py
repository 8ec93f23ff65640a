"""Does evaluation keep all cores busy? ``python benchmarks/evaluation.py`` compares it with plain loops, in one run.

A plain loop decodes, enlarges and scores one picture after the other. It runs twice: with one thread, as a script does
that limits its threads, and with torch's default of a thread a core in the network (decoding and scoring still being
alone). Competitors take turns, so that a machine whose speed drifts slows all alike; a ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

# Before numpy loads its BLAS: a pool of its own would make threads wait for each other in every product.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import torch

import polyres
from polyres.data import Pair, find_pairs
from polyres.evaluation import BASELINES, Upscale
from polyres.evaluation.models import model_upscaler
from polyres.evaluation.pipeline import cores
from polyres.metrics import PROTOCOLS

PROTOCOL = PROTOCOLS["paper-y"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bench/Set14"))
    parser.add_argument("--model", default="default", help="a model, or bicubic")
    parser.add_argument("--scales", nargs="+", default=["4"])
    parser.add_argument("--pictures", type=int, help="only so many")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    pairs = find_pairs(arguments.data, [polyres.Scale.of(scale) for scale in arguments.scales])
    pairs = pairs[: arguments.pictures]
    name = arguments.model
    upscale: Upscale = BASELINES[name] if name in BASELINES else model_upscaler(polyres.load(name))
    competitors = {
        "plain loop, one thread": lambda: with_threads(1, lambda: plain_loop(upscale, pairs)),
        "plain loop, torch's default": lambda: plain_loop(upscale, pairs),
        "polyres.evaluate": lambda: polyres.evaluate(upscale, pairs, PROTOCOL),
    }
    seconds = take_turns(competitors, arguments.rounds)
    print(
        f"{len(pairs)} pictures of {arguments.data.name} at x{', x'.join(arguments.scales)}, {name}, {cores()} cores, "
        f"torch {torch.__version__} with {torch.get_num_threads()} threads, polyres {polyres.__version__}"
    )
    print("| | seconds | evaluate is faster by |\n|---|---|---|")
    ours = seconds["polyres.evaluate"]
    for label, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, ours, strict=True))
        print(f"| {label} | {statistics.median(times):.2f} | {ratio:.2f} |")


def plain_loop(upscale: Upscale, pairs: list[Pair]) -> list[float]:
    """PSNR of every picture, one after the other."""
    values = []
    for pair in pairs:
        low, high = pair.read()
        values.append(PROTOCOL.score(upscale(low, pair.scale), high, pair.scale).psnr)
    return values


def with_threads(count: int, call: Callable[[], object]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        call()
    finally:
        torch.set_num_threads(before)


def take_turns(competitors: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each competitor in each round, after a round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    for number in range(rounds + 1):
        for name, call in competitors.items():
            began = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


if __name__ == "__main__":
    main()
