"""Kernel recalibration against plain kernels, under control: ``python benchmarks/recalibration.py``.

A recalibrated kernel moves about ten times as far a step as a plain one, so a gain at one learning rate proves nothing.
Hence plain networks with their grouped kernels' rate raised, and recalibrated ones with the recalibrations' rate
lowered, all from the same weights on the same crops. Each run is a JSON file; those that exist are not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pack import SHARED, held_out, tiles
from torch import nn

import polyres
from polyres.data.crops import CropSampler
from polyres.data.sources import Pixels
from polyres.deploy.devices import describe
from polyres.files import replacing
from polyres.layers import recalibrate
from polyres.layers.recalibration import Layout, is_grouped, parameter_groups
from polyres.scale import Scale
from polyres.training.config import RunConfig
from polyres.training.loop import begin, train
from polyres.training.validation import validate


@dataclass(frozen=True)
class Condition:
    """One way to train the same network."""

    name: str
    layout: Layout | None = None
    kernel_rate: float = 1.0
    mixing_rate: float = 1.0


CONDITIONS = (
    Condition("plain"),
    Condition("plain, grouped kernels' rate x 10", kernel_rate=10),
    Condition("contiguous", "contiguous"),
    Condition("contiguous, mixing's rate x 0.1", "contiguous", mixing_rate=0.1),
    Condition("strided", "strided"),
    Condition("strided, mixing's rate x 0.1", "strided", mixing_rate=0.1),
)


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    # Seed by seed, so that what is there when time runs out compares all conditions.
    missing = [
        (condition, seed)
        for seed in range(arguments.seeds)
        for condition in CONDITIONS
        if not result_path(arguments.results, condition, seed).is_file()
    ]
    if missing and not arguments.only_report:
        arguments.results.mkdir(parents=True, exist_ok=True)
        learned, measured = tiles(arguments.tiles, "small"), held_out(slice(None, None, 3))
        for condition, seed in missing:
            result = run(condition, seed, arguments.steps, learned, measured)
            with replacing(result_path(arguments.results, condition, seed)) as stream:
                stream.write(json.dumps(result, indent=1).encode())
            print(
                f"{condition.name}, seed {seed}: {result['psnr']:.3f} dB, {result['seconds']:.0f} s",
                flush=True,
            )
    write_report(arguments.results, arguments.seeds, arguments.report)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--tiles", type=int, default=166, help="pictures of the small pack to learn from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("runs/recalibration"))
    parser.add_argument("--report", type=Path, default=Path("docs/recalibration.md"))
    parser.add_argument("--only-report", action="store_true", help="train nothing")
    return parser.parse_args()


def result_path(folder: Path, condition: Condition, seed: int) -> Path:
    words = condition.name.replace(",", "").replace("'", "").split()
    return folder / f"{'-'.join(words)}-seed{seed}.json"


def configuration(steps: int, seed: int) -> RunConfig:
    """A KRGN small enough to be trained twelve times in half an hour on one core: 16 grouped kernels."""
    options = {"channels": 32, "groups": 16, "blocks": 2, "groups_per_block": 2, "pairs_per_group": 2}
    return RunConfig.model_validate(
        {
            "model": {
                "encoder": {"name": "krgn", "options": {**options, "recalibration": "none"}},
                "upsampler": {"name": "spconv", "options": {"scales": [2]}},
                "mean": [0.4488, 0.4371, 0.404],
            },
            "data": {"train": [SHARED], "patch": 32, "batch": 8, "scales": [2]},
            "output": "unused",
            "steps": steps,
            "optimiser": {"lr": 1e-3, "warmup": 50},
            "losses": [{"name": "l1"}],
            "ema": 0.99,
            "precision": "float32",
            "seed": seed,
            "pictures": 0,
        }
    )


def run(
    condition: Condition, seed: int, steps: int, learned: list[Pixels], measured: list[Pixels]
) -> dict[str, Any]:
    """Train and measure one network."""
    config = configuration(steps, seed)
    torch.manual_seed(seed)
    model = polyres.build(config.model)
    if condition.layout is not None:
        recalibrate(model.encoder, layout=condition.layout)
    state = begin(model, config)
    state.optimiser = optimiser_for(model, condition, config)
    batches = CropSampler(learned, [Scale.of(2)], config.data.patch, config.data.batch, seed)
    losses: list[float] = []
    began = time.process_time()
    average = train(model, batches, config, lambda _, report: losses.append(report.loss), state)
    return {
        "condition": condition.name,
        "seed": seed,
        "steps": steps,
        "tiles": len(learned),
        "psnr": validate(average, measured, config)["2"],
        "loss": statistics.fmean(losses[-100:]),
        "seconds": time.process_time() - began,
        "machine": describe(torch.device("cpu")),
    }


def optimiser_for(model: nn.Module, condition: Condition, config: RunConfig) -> torch.optim.Optimizer:
    """Adam as the package makes it, the grouped kernels of a plain network at a rate of their own."""
    lr = config.optimiser.lr
    groups = parameter_groups(model, lr, condition.mixing_rate)
    if condition.kernel_rate != 1:
        kernels = [part.weight for name, part in model.named_modules() if is_grouped(name, part)]
        chosen = {id(kernel) for kernel in kernels}
        for group in groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in chosen]
        rate = condition.kernel_rate
        groups.append({"params": kernels, "lr": lr * rate, "lr_scale": rate, "weight_decay": 0.0})
    return torch.optim.Adam(groups, betas=config.optimiser.betas)


def write_report(folder: Path, seeds: int, target: Path) -> None:
    """The page of ``docs/``, from the runs that there are."""
    found: dict[str, dict[int, dict[str, Any]]] = {condition.name: {} for condition in CONDITIONS}
    for condition in CONDITIONS:
        for seed in range(seeds):
            path = result_path(folder, condition, seed)
            if path.is_file():
                found[condition.name][seed] = json.loads(path.read_text())
    results = [result for runs in found.values() for result in runs.values()]
    if not results:
        print(f"no results in {folder}")
        return
    lines = [
        "| condition | runs | PSNR-Y, dB | spread, dB | against plain, dB | against plain at ten times the rate, dB |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        values = [result["psnr"] for result in runs.values()]
        if not values:
            lines.append(f"| {name} | 0 | | | | |")
            continue
        against = " | ".join(gains(runs, found[control.name]) for control in CONDITIONS[:2])
        spread = f"{max(values) - min(values):.3f}" if len(values) > 1 else ""
        lines.append(f"| {name} | {len(values)} | {statistics.fmean(values):.3f} | {spread} | {against} |")
    steps, count = (
        " or ".join(sorted({str(result[key]) for result in results})) for key in ("steps", "tiles")
    )
    text = PAGE.format(table="\n".join(lines), steps=steps, tiles=count, machine=results[0]["machine"])
    with replacing(target) as stream:
        stream.write(text.encode())
    print(text)


def gains(runs: dict[int, dict[str, Any]], control: dict[int, dict[str, Any]]) -> str:
    """How much more each run gives than the control of the same seed, seed by seed; empty for the control itself."""
    if runs is control:
        return ""
    return ", ".join(f"{runs[seed]['psnr'] - control[seed]['psnr']:+.3f}" for seed in runs if seed in control)


PAGE = """# Does kernel recalibration help?

A controlled experiment, as short as it must be to run on one core: `python benchmarks/recalibration.py`.

{table}

Mean PSNR on Y at x2 over four Kodak pictures that no run learns from; spread is the largest less the smallest over
seeds. {steps} steps of Adam (learning rate 1e-3, 50 steps of warm-up, cosine to 1e-6), L1, eight crops of 32x32 from
{tiles} tiles of the small pack, average of the weights 0.99, float32. Network: KRGN with 32 channels in 16 groups, two
blocks of two groups of two pairs, so 16 grouped convolutions; SPConv at x2. Within a seed all conditions begin with
the same weights, recalibrations being zero, and see the same crops in the same order.

The controls are there because a recalibrated kernel moves about ten times as far in a step of Adam as a plain one: a
gain of recalibration is only one if plain kernels at ten times the rate do not have it too.

Columns of differences are seed by seed. Those smaller than the spreads say nothing, two seeds are too few for a
confidence interval, and so short a schedule says nothing about the end of a long one.

Machine: {machine}
"""


if __name__ == "__main__":
    main()
