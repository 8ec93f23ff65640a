"""Time of every paper-size encoder on one small picture: ``python benchmarks/encoders.py`` writes docs/encoders.md.

Each takes turns with one yardstick, EDSR-baseline, whose convolutions are the same in every implementation: a ratio to
it holds for this run, whatever else the machine does. No source at hand has the originals' times of whole encoders; so
the parts that polyres computes in another way than they do are timed both ways, and the upsampler by its known ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import polyres
from polyres.deploy import cost
from polyres.deploy.devices import describe
from polyres.files import write_file
from polyres.layers.attention import attend
from polyres.layers.folding import fold
from polyres.layers.layout import channels_last
from polyres.layers.selective_scan import selective_scan

YARDSTICK = "edsr-baseline"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

#: Seconds of the original upsampler at 180x320 to x4 with 2 threads, kernels made anew and fixed (spec, encoders.md 5).
ORIGINAL = {"IGConv": (0.159, 0.046), "IGConv, geometric": (0.430, 0.038)}
LOW, SCALE, CHANNELS = (180, 320), 4, 64

#: Windows, heads, pixels of a query's and of a key's window, channels of a head, on 64x64 pixels.
ATTENTION = {
    "SwinIR-light": (64, 6, 64, 64, 10),
    "SwinIR": (64, 6, 64, 64, 30),
    "HAT": (16, 6, 256, 256, 30),
    "SRFormer-light": (16, 6, 256, 64, 10),
}
#: Paths, pixels, pictures, inner channels and states of light MambaIR on 64x64 pixels.
SCAN = (4, 4096, 1, 72, 10)

TakeTurns = Callable[..., dict[str, list[float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="side of the picture")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu for one thread on a busy machine"
    )
    parser.add_argument("--only", nargs="+", default=list(polyres.ENCODERS), help="names of encoders")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, to try the script")
    parser.add_argument("--report", type=Path, default=Path("docs/encoders.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    turns = partial(cost.take_turns, rounds=arguments.rounds, clock=CLOCKS[arguments.clock])
    rows = []
    with torch.inference_mode():
        parts = [*(attention_row(name, turns) for name in ATTENTION), scan_row(turns)]
        upsamplers = [upsampler_row(name, turns) for name in ORIGINAL]
        print(*parts, *upsamplers, sep="\n", flush=True)
        for name in arguments.only:
            rows.append(encoder_row(name, arguments.size, turns, arguments.tiny))
            print(rows[-1], flush=True)
    page = PAGE.format(
        size=arguments.size,
        rounds=arguments.rounds,
        clock="" if arguments.clock == "wall" else ", processor time on a machine busy with other work",
        machine=describe(torch.device("cpu")),
        options=f"--clock {arguments.clock} --threads {arguments.threads} --rounds {arguments.rounds}",
        rows="\n".join(rows),
        parts="\n".join(parts),
        upsamplers="\n".join(upsamplers),
    )
    write_file(arguments.report, page.encode())


def encoder_row(name: str, size: int, turns: TakeTurns, tiny: bool) -> str:
    """Median time, multiply-adds, and both beside the yardstick's."""
    (call, work), (yardstick, unit) = (competitor(each, size, tiny) for each in (name, YARDSTICK))
    seconds = turns({"ours": call, "yardstick": yardstick}, warm_up=0)  # both ran to be counted
    ratios = sorted(a / b for a, b in zip(seconds["ours"], seconds["yardstick"], strict=True))
    middle = statistics.median(ratios)
    return (
        f"| `{name}` | {milliseconds(seconds['ours'])} | {work / 1e9:.2f} | {middle:.2f} | "
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

    return call, cost.multiply_adds(call)


def attention_row(name: str, turns: TakeTurns) -> str:
    """Attention to shifted windows, and the same written out as the originals do."""
    windows, heads, queries, keys, channels = ATTENTION[name]
    query, key, value = (torch.randn(windows, heads, n, channels) for n in (queries, keys, keys))
    bias, mask = torch.randn(heads, queries, keys), torch.zeros(windows, queries, keys)

    def written_out() -> Tensor:
        logits = (query * channels**-0.5) @ key.mT + bias + mask[:, None]
        return logits.softmax(-1) @ value

    ours = partial(attend, query, key, value, bias, mask)
    return pair_row(f"attention of {name}, shifted", ours, written_out, turns)


def scan_row(turns: TakeTurns) -> str:
    """The selective scan, and the same as a loop over the pixels, as it is without the CUDA kernel."""
    groups, length, count, channels, states = SCAN
    inputs, write, read = (torch.randn(groups, length, count, n) for n in (channels, states, states))
    steps, decay = torch.rand(groups, length, count, channels), -torch.rand(groups, states, channels)

    def loop() -> Tensor:
        state, outputs = torch.zeros(groups, count, states, channels), []
        for place in range(length):
            step = steps[:, place, :, None]
            state = (step * decay[:, None]).exp() * state
            state = state + step * inputs[:, place, :, None] * write[:, place, ..., None]
            outputs.append((read[:, place, :, None] @ state)[..., 0, :])
        return torch.stack(outputs, 1)

    ours = partial(selective_scan, inputs, steps, decay, write, read)
    return pair_row("selective scan of MambaIR-light", ours, loop, turns)


def pair_row(name: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor], turns: TakeTurns) -> str:
    torch.testing.assert_close(ours(), theirs(), rtol=1e-3, atol=1e-4)
    seconds = turns({"ours": ours, "theirs": theirs})
    ratio = statistics.median(a / b for a, b in zip(seconds["ours"], seconds["theirs"], strict=True))
    return f"| {name} | {milliseconds(seconds['ours'])} | {milliseconds(seconds['theirs'])} | {ratio:.2f} |"


def upsampler_row(name: str, turns: TakeTurns) -> str:
    """Time with kernels made anew as a multiple of the time with fixed ones: the original's, and ours."""
    dynamic = polyres.UPSAMPLERS.make("igconv", in_channels=CHANNELS, geometric="geometric" in name)
    fixed = dynamic.at(SCALE)
    features, image = torch.rand(1, CHANNELS, *LOW), torch.rand(1, 3, *LOW)
    dynamic.train()  # in training nothing is kept
    calls = {"anew": lambda: dynamic(features, image, SCALE), "fixed": lambda: fixed(features, image)}
    seconds = turns(calls)
    ours = statistics.median(a / b for a, b in zip(seconds["anew"], seconds["fixed"], strict=True))
    anew, kept = ORIGINAL[name]
    return f"| {name} | {anew / kept:.2f} | {ours:.2f} |"


def milliseconds(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.1f} ms"


PAGE = """# Time of the encoders

`python benchmarks/encoders.py {options}`: one picture of {size}x{size} pixels
(padded to what the encoder needs), the encoder alone, of the papers' size and folded, float32, channels last.
{machine}{clock}.

Each encoder takes turns with `edsr-baseline`; a ratio is the median over {rounds} rounds of the time against that of
`edsr-baseline` in the same round, with the smallest and the largest. *Per multiply-add* is the ratio of the times
divided by the ratio of the multiply-adds (in billions, of this picture): 1 is the pace of dense 3x3 convolutions of 64
channels.

| encoder | median | multiply-adds | ratio | from, to | per multiply-add |
|---|---|---|---|---|---|
{rows}

## Against the originals

No source at hand has the originals' times of these encoders, so the table above cannot say that ours are as fast.
What polyres computes in another way than they do is timed both ways here, with results equal to rounding: attention as
one fused operation instead of product, bias, mask, softmax and product; the selective scan in chunks of parallel steps
instead of a loop over the pixels, which is what remains of it without the CUDA kernel. What stands under "written out"
was written for this comparison; it is not the originals' code. Both on what 64x64 pixels come to.

| part | ours | written out | ratio |
|---|---|---|---|
{parts}

Of the original upsampler there are times on another, busy machine, with 2 threads, of which only ratios mean anything:
making the kernels anew for a picture of 180x320 pixels to x4 against the fixed convolution, which is the same operation
in both. As a multiple of that convolution's time (ours with the threads above and 64 channels; theirs are not told):

| upsampler, kernels made anew | original | ours |
|---|---|---|
{upsamplers}
"""


if __name__ == "__main__":
    main()
