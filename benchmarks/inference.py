"""Inference on this machine, as ratios measured in one run: ``python benchmarks/inference.py``.

Competitors take turns, so that a machine whose speed drifts slows all of them alike; a ratio is the median over the
rounds. Absolute times are printed for orientation only.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import subprocess
import sys

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import polyres
from polyres.deploy.cost import take_turns
from polyres.deploy.devices import describe

SCALES = (2, 3, 4)


def main() -> None:
    arguments = parse_arguments()
    console = Console()
    console.print(
        f"{describe(torch.device('cpu'))}; model {arguments.model}; "
        f"{arguments.height}x{arguments.width} pixels in",
        highlight=False,
    )
    model = polyres.load(arguments.model)
    image = torch.rand(1, 3, arguments.height, arguments.width)
    with torch.inference_mode():
        console.print(upsampler_table(model, image, arguments.rounds))
        console.print(forms_table(model, image, arguments.rounds))
        console.print(precision_table(model, image, arguments.rounds))
    if arguments.memory:
        console.print(f"12-megapixel picture x2: peak resident memory {peak_memory(arguments.model):.2f} GB")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--height", type=int, default=180)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory", action="store_true", help="also enlarge a 12-megapixel picture")
    return parser.parse_args()


def upsampler_table(model: polyres.SRModel, image: torch.Tensor, rounds: int) -> Table:
    """The upsampler alone: one evaluated hypernetwork against a plain sub-pixel convolution."""
    table = Table("upsampler alone", "time", "x2", "x3", "x4", title="ratio to SPConv with the same base")
    channels = model.encoder.out_channels
    features = torch.rand(1, channels, *image.shape[-2:]).to(memory_format=torch.channels_last)
    base = getattr(model.upsampler, "base", "none")
    plain = polyres.UPSAMPLERS.make(
        "spconv", in_channels=channels, base=base if base != "sample" else "none"
    ).eval()
    columns: list[dict[str, list[float]]] = []
    for scale in SCALES:
        fixed, head = model.upsampler.at(scale), plain.at(scale)
        columns.append(
            take_turns(
                {
                    "spconv": lambda head=head: head(features, image),
                    "fused": lambda fixed=fixed: fixed(features, image),
                    "dynamic, kernels cached": lambda scale=scale: model.upsampler(features, image, scale),
                    "dynamic, kernels made anew": lambda scale=scale: anew(model, features, image, scale),
                },
                rounds,
            )
        )
    return fill(table, columns, "spconv")


def anew(model: polyres.SRModel, features: torch.Tensor, image: torch.Tensor, scale: int) -> torch.Tensor:
    """The dynamic upsampler as if its weights had just changed."""
    model.upsampler._cache.clear()
    return model.upsampler(features, image, scale)


def forms_table(model: polyres.SRModel, image: torch.Tensor, rounds: int) -> Table:
    """The whole network."""
    table = Table("whole network, float32", "time", "x2", "x3", "x4", title="ratio to the fused form")
    columns = []
    for scale in SCALES:
        fused = polyres.fuse(model, scale)
        forms = {
            "fused": lambda fused=fused: fused(image),
            "dynamic, kernels cached": lambda scale=scale: model(image, scale),
        }
        columns.append(take_turns(forms, rounds))
    return fill(table, columns, "fused")


def precision_table(model: polyres.SRModel, image: torch.Tensor, rounds: int) -> Table:
    """Layouts and precisions of the fused network."""
    table = Table(
        "fused network", "time", "x2", "x3", "x4", title="ratio to float32 NCHW (smaller is faster)"
    )
    columns = []
    for scale in SCALES:
        plain = polyres.fuse(model, scale)
        last: nn.Module = copy.deepcopy(plain).to(memory_format=torch.channels_last)
        columns.append(
            take_turns(
                {
                    "float32 NCHW": lambda plain=plain: plain(image),
                    "float32 channels_last": lambda last=last: last(channels_last(image)),
                    "bfloat16 channels_last": lambda last=last: in_bfloat16(last, image),
                },
                rounds,
            )
        )
    return fill(table, columns, "float32 NCHW")


def channels_last(image: torch.Tensor) -> torch.Tensor:
    return image.contiguous(memory_format=torch.channels_last)


def in_bfloat16(module: nn.Module, image: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        output: torch.Tensor = module(channels_last(image))
    return output


def fill(table: Table, columns: list[dict[str, list[float]]], reference: str) -> Table:
    """A row for each competitor: its median time at the first scale, its median ratio at each."""
    for name in columns[0]:
        ratios = [
            statistics.median(a / b for a, b in zip(column[name], column[reference], strict=True))
            for column in columns
        ]
        median = statistics.median(columns[0][name])
        table.add_row(name, f"{median * 1000:.1f} ms at x2", *(f"{ratio:.2f}" for ratio in ratios))
    return table


def peak_memory(model: str) -> float:
    """Gigabytes that a fresh process needs at most to enlarge 4000x3000 pixels twice."""
    code = (
        "import resource, sys, tempfile, numpy, polyres\n"
        "from pathlib import Path\n"
        "from PIL import Image\n"
        "folder = Path(tempfile.mkdtemp())\n"
        "noise = numpy.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=numpy.uint8)\n"
        "Image.fromarray(noise).resize((4000, 3000)).save(folder / 'in.png')\n"
        f"upscaler = polyres.Upscaler(polyres.load({model!r}))\n"
        "polyres.write_picture(upscaler(polyres.read_picture(folder / 'in.png'), scale=2), folder / 'out.png')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(result.stdout.split()[-1])


if __name__ == "__main__":
    main()
