"""What rational scales cost and give: ``python benchmarks/scales.py [--quality] [--write docs/scales.md]``.

Costs are measured on given features, the encoder aside. Competitors take turns, so that a machine whose speed drifts
slows all of them alike; a ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import copy
import math
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from liif import LiifDecoder
from torch import Tensor

import polyres
from polyres.data import find_pairs, resize
from polyres.deploy.cost import multiply_adds, take_turns
from polyres.deploy.devices import describe
from polyres.evaluation import BASELINES, evaluate
from polyres.evaluation.models import model_upscaler
from polyres.pictures.resample import resample
from polyres.pictures.tensors import pixels_of
from polyres.scale import Scale
from polyres.upsamplers import FixedUpsampler

SWEEP = (
    "1",
    "6/5",
    "5/4",
    "4/3",
    "3/2",
    "5/3",
    "7/4",
    "2",
    "7/3",
    "5/2",
    "8/3",
    "3",
    "7/2",
    "4",
    "9/2",
    "5",
    "6",
    "8",
)
DETOURS = ("5/4", "4/3", "3/2", "5/3", "7/4", "7/3", "5/2", "8/3", "7/2")
MEASURED = ("3/2", "5/2", "7/2")
SETS = ("Set5", "Set14", "BSD100")
CHANNELS = 64

Cells = Sequence[object]


def main() -> None:
    arguments = parse_arguments()
    model = polyres.load(arguments.model)
    lines = [*introduction(arguments)]
    with torch.inference_mode():
        lines += cost_section(model, arguments)
        lines += detour_section(model, arguments)
    if arguments.quality:
        lines += quality_section(model, arguments)
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="with an IGConv upsampler")
    parser.add_argument("--height", type=int, default=90, help="of the features")
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--scales", nargs="+", default=SWEEP, help="of the first table")
    parser.add_argument("--detours", nargs="+", default=DETOURS, help="of the second table")
    parser.add_argument("--liif-pixels", type=int, default=30_000, help="decoded at most; 0 leaves LIIF out")
    parser.add_argument("--quality", action="store_true", help="also measure PSNR on the benchmark sets")
    parser.add_argument("--measured", nargs="+", default=MEASURED, help="scales of the PSNR table")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bench"))
    parser.add_argument("--write", type=Path, help="also write the tables to this file")
    return parser.parse_args()


def introduction(arguments: argparse.Namespace) -> Iterable[str]:
    yield "# Scales: cost and quality"
    yield ""
    size = f"{arguments.width}x{arguments.height}"
    yield f"Written by `python {' '.join(sys.argv)}` on {describe(torch.device('cpu'))},"
    yield f"numpy {np.__version__}, Pillow {PIL.__version__}, Python {platform.python_version()}. Costs are of {size}"
    yield f"features of {CHANNELS} channels in float32, channels last: medians of {arguments.rounds} rounds in which"
    yield "all competitors take turns."
    yield ""


def cost_section(model: polyres.SRModel, arguments: argparse.Namespace) -> Iterable[str]:
    """Time and multiply-adds over the scales, against the ideal and against a decoder of single pixels."""
    features, image = inputs(model, arguments)
    liif = LiifDecoder(CHANNELS).eval()
    per_pixel = liif.multiply_adds_per_pixel
    rows: list[Cells] = []
    for scale in map(Scale.of, arguments.scales):
        fixed = plain(model, scale)
        pixels = math.prod(scale.output_size(arguments.height, arguments.width))
        ideal, spent = pixels * 27 * CHANNELS, multiply_adds_of(fixed, features)
        seconds = take_turns({"direct": lambda fixed=fixed: fixed(features, image)}, arguments.rounds)[
            "direct"
        ]
        slower = "-"
        if decoded := min(arguments.liif_pixels, pixels):
            turns = take_turns(
                {
                    "direct": lambda fixed=fixed: fixed(features, image),
                    "liif": lambda scale=scale, decoded=decoded: liif(features, scale, decoded),
                },
                rounds=min(arguments.rounds, 3),
            )
            slower = f"{ratio(turns['liif'], turns['direct']) * pixels / decoded:.0f}"
        form = type(fixed.conv).__name__
        rows.append(
            (
                f"×{scale}",
                form,
                f"{spent / 1e6:.0f}",
                f"{spent / ideal:.2f}",
                f"{median(seconds) * 1e3:.2f}",
                f"{median(seconds) / pixels * 1e9:.1f}",
                f"{per_pixel * pixels / spent:.0f}",
                slower,
            )
        )
    yield "## The upsampler over the scales"
    yield ""
    yield "One evaluated hypernetwork: a convolution, depth to space, and the bilinear base. Ideal: 27 multiply-adds"
    yield "for each channel and pixel of the result. LIIF: a decoder of the published size (an MLP of five layers, 256"
    yield "wide, 3x3 unfolding, local ensemble, cell) on the same features, how many times the direct form's; timed in"
    yield f"turns on {arguments.liif_pixels} pixels at most, since its time is proportional to them."
    yield ""
    yield from table(
        (
            "scale",
            "form",
            "million MACs",
            "of ideal",
            "ms",
            "ns a pixel",
            "LIIF's MACs",
            "LIIF's time",
        ),
        rows,
    )


def detour_section(model: polyres.SRModel, arguments: argparse.Namespace) -> Iterable[str]:
    """Direct against the next whole scale and an antialiased resize, upsampling and resampling together."""
    features, image = inputs(model, arguments)
    rows: list[Cells] = []
    for scale in map(Scale.of, arguments.detours):
        whole = Scale.of(math.ceil(scale.y))
        size = scale.output_size(arguments.height, arguments.width)
        direct, wide = plain(model, scale), plain(model, whole)
        seconds = take_turns(
            {
                "direct": lambda direct=direct: direct(features, image),
                "torch": lambda wide=wide, size=size: shrunk(wide(features, image), size),
                "direct, 8 bits": lambda direct=direct: eight_bits(direct(features, image)),
                "package": lambda wide=wide, size=size: resample(eight_bits(wide(features, image)), *size),
            },
            arguments.rounds,
        )
        rows.append(
            (
                f"×{scale}",
                f"×{whole}",
                f"{median(seconds['direct']) * 1e3:.2f}",
                f"{median(seconds['torch']) * 1e3:.2f}",
                f"**{ratio(seconds['torch'], seconds['direct']):.2f}**",
                f"{median(seconds['direct, 8 bits']) * 1e3:.2f}",
                f"{median(seconds['package']) * 1e3:.2f}",
                f"**{ratio(seconds['package'], seconds['direct, 8 bits']):.2f}**",
            )
        )
    yield ""
    yield "## Direct, or the next whole scale and an antialiased resize"
    yield ""
    yield "Upsampling and resampling together, the encoder aside. torch: `interpolate(mode='bicubic', antialias=True)`"
    yield "of floats. Package: rounded to 8 bits, then the Lanczos filter that `polyres upscale` uses. A ratio above 1"
    yield "says how many times cheaper the direct way is."
    yield ""
    yield from table(
        (
            "scale",
            "detour over",
            "direct, ms",
            "torch, ms",
            "ratio",
            "direct to 8 bits, ms",
            "package, ms",
            "ratio",
        ),
        rows,
    )


def quality_section(model: polyres.SRModel, arguments: argparse.Namespace) -> Iterable[str]:
    """PSNR-Y of both ways and of bicubic."""
    network = model_upscaler(model)

    def detour(low: np.ndarray, scale: Scale) -> np.ndarray:
        wide = network(low, Scale.of(math.ceil(scale.y))).astype(np.float64)
        return resize(wide, size=scale.output_size(*low.shape[:2]))

    ways: dict[str, Any] = {"bicubic": BASELINES["bicubic"], "detour": detour, "direct": network}
    rows: list[Cells] = []
    for group in arguments.sets:
        for scale in map(Scale.of, arguments.measured):
            pairs = find_pairs(arguments.data / group, [scale])
            bicubic, around, straight = (
                evaluate(way, pairs, name=name, with_ssim=False).means()[0].psnr for name, way in ways.items()
            )
            rows.append(
                (
                    group,
                    f"×{scale}",
                    f"{bicubic:.2f}",
                    f"{around:.3f}",
                    f"{straight:.3f}",
                    f"**{straight - around:+.3f}**",
                )
            )
    yield ""
    yield "## Quality"
    yield ""
    yield f"Mean PSNR-Y in dB of model `{arguments.model}` by protocol paper-y: HR cropped to multiples of the"
    yield "numerator, LR by MATLAB's imresize, the scale rounded up shaved from every border. Detour: the next whole"
    yield "scale, kept in floating point, then antialiased bicubic of MATLAB's kind to the exact size."
    yield ""
    yield from table(("set", "scale", "bicubic", "detour", "direct", "direct - detour"), rows)


def inputs(model: polyres.SRModel, arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Random features and a random picture of their size, as the engine lays them out."""
    if model.upsampler.in_channels != CHANNELS:
        sys.exit(
            f"the tables are for {CHANNELS} channels; {arguments.model} has {model.upsampler.in_channels}"
        )
    torch.manual_seed(0)
    size = arguments.height, arguments.width
    features, image = torch.randn(1, CHANNELS, *size), torch.rand(1, 3, *size)
    return features.to(memory_format=torch.channels_last), image.to(memory_format=torch.channels_last)


def plain(model: polyres.SRModel, scale: Scale) -> FixedUpsampler:
    """The upsampler at one scale, laid out as the engine does."""
    return model.upsampler.at(scale).eval().to(memory_format=torch.channels_last)


def multiply_adds_of(fixed: FixedUpsampler, features: Tensor) -> int:
    """Of the generated convolution; the base costs a few a pixel."""
    conv = copy.deepcopy(fixed.conv).to("meta")
    return multiply_adds(lambda: conv(features.to("meta")))


def shrunk(picture: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(picture, size=size, mode="bicubic", antialias=True, align_corners=False)


def eight_bits(picture: Tensor) -> np.ndarray:
    return pixels_of(picture[0].permute(1, 2, 0), np.dtype(np.uint8))


def median(seconds: Sequence[float]) -> float:
    return statistics.median(seconds)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def table(head: Sequence[str], rows: Iterable[Cells]) -> Iterable[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


if __name__ == "__main__":
    main()
