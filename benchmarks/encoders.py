"""Time of every paper-size encoder on one small picture: ``python benchmarks/encoders.py`` writes docs/encoders.md.

Each takes turns with one yardstick, EDSR-baseline, whose convolutions are the same in every implementation: a ratio to
it holds for this run, whatever else the machine does. Time per multiply-add beside the yardstick's shows what a network
spends on everything but multiplications. The upsampler is compared with its original by the ratios that were measured
there; encoders' times of the originals are in no source at hand.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import polyres
from polyres.deploy.cost import multiply_adds, take_turns
from polyres.deploy.devices import describe
from polyres.files import write_file
from polyres.layers.folding import fold
from polyres.layers.layout import channels_last

YARDSTICK = "edsr-baseline"

#: Seconds of the original upsampler at 180x320 to x4 with 2 threads, kernels made anew and fixed (spec, encoders.md 5).
ORIGINAL = {"IGConv": (0.159, 0.046), "IGConv, geometric": (0.430, 0.038)}
LOW, SCALE, CHANNELS = (180, 320), 4, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="side of the picture")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", default=list(polyres.ENCODERS), help="names of encoders")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, to try the script")
    parser.add_argument("--report", type=Path, default=Path("docs/encoders.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    with torch.inference_mode():
        for name in arguments.only:
            rows.append(encoder_row(name, arguments.size, arguments.rounds, arguments.tiny))
            print(rows[-1], flush=True)
        upsamplers = [upsampler_row(name, arguments.rounds) for name in ORIGINAL]
    page = PAGE.format(
        size=arguments.size,
        rounds=arguments.rounds,
        machine=describe(torch.device("cpu")),
        rows="\n".join(rows),
        upsamplers="\n".join(upsamplers),
    )
    write_file(arguments.report, page.encode())


def encoder_row(name: str, size: int, rounds: int, tiny: bool) -> str:
    """Median time, multiply-adds, and both beside the yardstick's."""
    (call, work), (yardstick, unit) = (competitor(each, size, tiny) for each in (name, YARDSTICK))
    seconds = take_turns({"ours": call, "yardstick": yardstick}, rounds)
    ratios = sorted(a / b for a, b in zip(seconds["ours"], seconds["yardstick"], strict=True))
    middle = statistics.median(ratios)
    return (
        f"| `{name}` | {statistics.median(seconds['ours']) * 1000:.0f} ms | {work / 1e9:.2f} | {middle:.2f} | "
        f"{ratios[0]:.2f} to {ratios[-1]:.2f} | {middle / (work / unit):.2f} |"
    )


def competitor(name: str, size: int, tiny: bool) -> tuple[Callable[[], Tensor], int]:
    """An encoder as it is deployed, on a picture padded to what it needs; and its multiply-adds."""
    entry = polyres.ENCODERS[name]
    encoder = channels_last(fold(entry.make(**(entry.tiny if tiny else {}))).eval())
    side = -(-max(size, encoder.minimum_size) // encoder.multiple_of) * encoder.multiple_of
    image = torch.rand(1, 3, side, side).contiguous(memory_format=torch.channels_last)

    def call() -> Tensor:
        features: Tensor = encoder(image)
        return features

    return call, multiply_adds(call)


def upsampler_row(name: str, rounds: int) -> str:
    """Time with kernels made anew as a multiple of the time with fixed ones: the original's, and ours."""
    dynamic = polyres.UPSAMPLERS.make("igconv", in_channels=CHANNELS, geometric="geometric" in name)
    fixed = dynamic.at(SCALE)
    features, image = torch.rand(1, CHANNELS, *LOW), torch.rand(1, 3, *LOW)
    dynamic.train()  # in training nothing is kept
    calls = {"anew": lambda: dynamic(features, image, SCALE), "fixed": lambda: fixed(features, image)}
    seconds = take_turns(calls, rounds)
    ours = statistics.median(a / b for a, b in zip(seconds["anew"], seconds["fixed"], strict=True))
    anew, kept = ORIGINAL[name]
    return f"| {name} | {anew / kept:.2f} | {ours:.2f} |"


PAGE = """# Time of the encoders

`python benchmarks/encoders.py`: one picture of {size}x{size} pixels (padded to what the encoder needs), the encoder
alone, of the papers' size and folded, float32, channels last; {machine}. Each encoder takes turns with
`edsr-baseline`; a ratio is the median over {rounds} rounds of the time against that of `edsr-baseline` in the same
round, with the smallest and the largest. *Per multiply-add* is the ratio of the times divided by the ratio of the
multiply-adds (in billions, of this picture): 1 is the pace of dense 3x3 convolutions of 64 channels.

| encoder | median | multiply-adds | ratio | from, to | per multiply-add |
|---|---|---|---|---|---|
{rows}

## Against the originals

No source at hand has the originals' times of these encoders, so this table cannot say that ours are as fast. Of the
original upsampler there are times on another, busy machine, of which only ratios mean anything: making the kernels
anew for a picture of 180x320 pixels to x4 against the fixed convolution, which is the same operation in both. As a
multiple of that convolution's time:

| upsampler, kernels made anew | original | ours |
|---|---|---|
{upsamplers}
"""


if __name__ == "__main__":
    main()
