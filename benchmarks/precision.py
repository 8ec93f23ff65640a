"""What precision costs in dB: ``python benchmarks/precision.py --model cfgn_x4.pt --scale 4 --data Set5``.

A fused network by torch in float32, by native kernels in float32 and with products of bfloat16, and by
torch in bfloat16 as an upscaler runs it, on the same pictures, each whole.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import polyres
from polyres.data import find_pairs
from polyres.deploy.accelerate import AcceleratedModel, accelerate
from polyres.deploy.devices import describe
from polyres.evaluation.models import ModelUpscaler
from polyres.layers.layout import channels_last
from polyres.scale import Scale
from polyres.upscale.engine import TorchEngine

SHARED = Path(__file__).resolve().parents[2] / "shared"
CPU = torch.device("cpu")


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    scale = Scale.of(arguments.scale)
    pairs = find_pairs(arguments.data, [scale])
    fused = polyres.fuse(polyres.load(arguments.model), scale)
    reference: dict[str, float] = {}
    print(f"{arguments.model.name}, {arguments.data.name}, x{arguments.scale}, {describe(CPU)}")
    for name, run in forms(fused):
        upscale = ModelUpscaler(lambda image, _, run=run: run(image), CPU)
        report = polyres.evaluate(upscale, pairs, with_ssim=False, workers=1)
        values = {row.picture: row.psnr for row in report.rows}
        reference = reference or values
        largest = max(abs(values[picture] - reference[picture]) for picture in values)
        mean = statistics.fmean(values.values())
        loss = mean - statistics.fmean(reference.values())
        print(f"{name}: {mean:.4f} dB, {loss:+.5f}; largest of a picture {largest:.5f}", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SHARED / "weights" / "cfgn_x4.pt")
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "bench" / "Set5")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def forms(fused: polyres.FusedModel) -> Iterator[tuple[str, Callable[[torch.Tensor], torch.Tensor]]]:
    """Every way to run ``fused``, float32 by torch first."""
    yield "torch, float32", TorchEngine(fused, CPU, torch.float32, native=False)._run
    faster = accelerate(fused)
    if isinstance(faster, AcceleratedModel):
        yield "native kernels, float32", channels_last(faster)
        if faster.narrows:
            yield "native kernels, bfloat16 products", TorchEngine(fused, CPU, torch.bfloat16)._run
    yield "torch, bfloat16", TorchEngine(fused, CPU, torch.bfloat16, native=False)._run


if __name__ == "__main__":
    main()
