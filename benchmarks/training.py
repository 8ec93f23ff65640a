"""Training throughput against the IGConv repository's scheme, on this machine, as a ratio in one run.

    python benchmarks/training.py --pictures ../shared/data/train/tiles

Both train the same network (by default EDSR-baseline with IGConv+) on the same pictures, batch 16 of 48 x 48 LR
pixels, x2, x3 and x4 in turn, L1, Adam, running average. Theirs, rebuilt from the description of its scheme: float32
in contiguous layout; each crop decodes its whole PNG, is cropped, reduced by Pillow, all in the training process's
time; the upsampler convolves eight times, with each flip and turn of the generated kernels, and averages the outputs.
Ours: ``polyres.training`` as a run file starts it. Steps of the two alternate in blocks, so that a busy machine slows
both. Prints one line of JSON: steps a second of both, their ratio (median over blocks), and our share of waiting for
data.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from polyres.data.files import list_pictures
from polyres.data.sources import open_sources
from polyres.layers.phases import embed, phase_conv2d
from polyres.model import SRModel, build
from polyres.scale import Scale
from polyres.training import RunConfig
from polyres.training.batches import open_batches
from polyres.training.loop import begin, train
from polyres.training.processes import Processes
from polyres.training.state import StepReport
from polyres.upsamplers.igconv import IGConv
from polyres.upsamplers.igsample import IGSample


def run_config(arguments: argparse.Namespace, steps: int) -> RunConfig:
    encoder = {"name": "edsr", "options": {"channels": arguments.channels, "blocks": arguments.blocks}}
    return RunConfig.model_validate(
        {
            "model": {"encoder": encoder, "upsampler": {"name": "igconv+"}},
            "data": {
                "train": [arguments.pictures],
                "patch": arguments.patch,
                "batch": arguments.batch,
                "scales": [2, 3, 4],
                "skip_small": True,
            },
            "output": "/tmp/unused",
            "steps": steps,
            "losses": [{"name": "l1"}],
            "precision": arguments.precision,
            "save_every": 10**6,
        }
    )


class Eightfold(torch.nn.Module):
    """IGConv+ in training as the repository computes it: eight convolutions whose outputs are averaged."""

    def __init__(self, upsampler: IGConv) -> None:
        super().__init__()
        self.parts = upsampler

    def forward(self, features: Tensor, image: Tensor, scale: Scale) -> Tensor:
        assert self.parts.sampler is not None
        rows = torch.cat((self.parts.kernels(scale), self.parts.sampler.kernels(scale)))
        maps = torch.stack(
            [phase_conv2d(features, embed(kernel, scale), None, scale) for kernel in turned(rows)]
        ).mean(0)
        return maps[:, :3] + IGSample.sample(image, maps[:, 3:], scale)


def turned(kernels: Tensor) -> list[Tensor]:
    flips = [kernels, kernels.flip(-1), kernels.flip(-2), kernels.flip(-1, -2)]
    return [*flips, *(kernel.transpose(-1, -2) for kernel in flips)]


class Theirs:
    """The other scheme, one step at a time."""

    def __init__(self, config: RunConfig, folder: Path, paths: list[Path]) -> None:
        self.config, self.paths = config, [png(path, folder) for path in paths]
        self.model: SRModel = build(config.model).train()
        self.head = Eightfold(cast(IGConv, self.model.upsampler))
        self.average = [p.detach().clone() for p in self.model.parameters()]
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=1e-4, betas=(0.9, 0.99))

    def step(self, step: int) -> None:
        scale = self.config.data.exact_scales[step % 3]
        random = np.random.default_rng(step)
        pairs = [self.crop(random, int(scale.y)) for _ in range(self.config.data.batch)]
        low, high = (torch.stack([pair[i] for pair in pairs]) for i in (0, 1))
        output = self.head(self.model.encoder(low), low, scale)
        self.optimiser.zero_grad()
        F.l1_loss(output, high).backward()
        self.optimiser.step()
        for kept, new in zip(self.average, self.model.parameters(), strict=True):
            kept.mul_(0.999).add_(new.detach(), alpha=0.001)

    def crop(self, random: np.random.Generator, scale: int) -> tuple[Tensor, Tensor]:
        patch = self.config.data.patch
        pixels = np.asarray(Image.open(self.paths[random.integers(len(self.paths))]).convert("RGB"))
        top, left = (int(random.integers(size - patch * scale + 1)) for size in pixels.shape[:2])
        high = pixels[top : top + patch * scale, left : left + patch * scale]
        low = np.asarray(Image.fromarray(high).resize((patch, patch), Image.Resampling.BICUBIC))
        return tensor(low), tensor(high)


def tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def png(path: Path, folder: Path) -> Path:
    target = folder / f"{path.stem}.png"
    Image.open(path).convert("RGB").save(target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", default="../shared/data/train/tiles")
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5, help="blocks of steps of each scheme")
    parser.add_argument("--steps", type=int, default=6, help="steps a block; a multiple of three scales")
    parser.add_argument("--limit", type=int, default=64, help="pictures that theirs draws from")
    parser.add_argument("--precision", default="auto", help="of ours; theirs is float32")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(arguments, Path(folder))))


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    config = run_config(arguments, arguments.steps * (arguments.rounds + 1))
    least = arguments.patch * 4
    paths = [p for p in list_pictures(Path(arguments.pictures)) if min(Image.open(p).size) >= least]
    theirs = Theirs(config, folder, paths[: arguments.limit])
    batches = open_batches(open_sources(config.data.train), config, Processes())
    state, waits, seconds = begin(build(config.model), config), [], []
    ours_rates, their_rates = [], []

    def note(_: object, report: StepReport) -> None:
        waits.append(report.wait)
        seconds.append(report.seconds)

    for index in range(arguments.rounds + 1):
        began = time.perf_counter()
        until = config.model_copy(update={"steps": (index + 1) * arguments.steps})
        train(state.model, batches, until, note, state)
        middle = time.perf_counter()
        for step in range(arguments.steps):
            theirs.step(index * arguments.steps + step)
        ended = time.perf_counter()
        if index:  # the first block warms up
            ours_rates.append(arguments.steps / (middle - began))
            their_rates.append(arguments.steps / (ended - middle))
        else:
            waits.clear()
            seconds.clear()
    batches.close()
    ratios = [ours / other for ours, other in zip(ours_rates, their_rates, strict=True)]
    return {
        "ours_steps_per_second": round(statistics.median(ours_rates), 3),
        "theirs_steps_per_second": round(statistics.median(their_rates), 3),
        "ratio": round(statistics.median(ratios), 2),
        "data_wait_share": round(sum(waits) / sum(seconds), 4),
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    main()
