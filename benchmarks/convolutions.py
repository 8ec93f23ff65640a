"""Dense 3x3 convolutions by minimal filtering against torch's: ``python benchmarks/convolutions.py``.

Both take turns, forward, for the gradient of the features and for that of the weight, in float32, channels last. Errors
are the largest against float64, in units of the result's standard deviation.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from polyres.deploy.cost import take_turns
from polyres.deploy.devices import describe
from polyres.files import replacing
from polyres.layers.equivariance import exchanged
from polyres.layers.native import Kernels, kernels, why_none

#: Images, channels in and out, height and width.
SHAPES = (
    (1, 64, 64, 180, 320),
    (1, 64, 48, 180, 320),
    (1, 32, 32, 180, 320),
    (1, 256, 256, 96, 96),
    (16, 64, 64, 48, 48),
    (5, 64, 64, 66, 66),
    (16, 64, 27, 48, 48),
)

#: Those that are measured with kernels that keep opposites too.
OPPOSED = ((1, 64, 64, 180, 320), (4, 64, 64, 66, 66), (4, 128, 128, 66, 66))

#: Residual blocks: images, channels, height and width.
BLOCKS = ((1, 64, 180, 320), (1, 64, 360, 640), (4, 64, 66, 66))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--report", type=Path, default=Path("docs/convolutions.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    compiled = kernels()
    if compiled is None:
        raise SystemExit(f"needs native kernels: {why_none()}")
    with torch.inference_mode():
        table = "\n".join(row(compiled, *shape, arguments.rounds) for shape in SHAPES)
        opposed = "\n".join(opposed_row(compiled, *shape, arguments.rounds) for shape in OPPOSED)
        narrow = "\n".join(narrow_row(compiled, *shape, arguments.rounds) for shape in OPPOSED)
        blocks = "\n".join(block_row(compiled, *shape, arguments.rounds) for shape in BLOCKS)
    machine, rounds = describe(torch.device("cpu")), arguments.rounds
    page = PAGE.format(
        table=table, opposed=opposed, narrow=narrow, blocks=blocks, rounds=rounds, machine=machine
    )
    with replacing(arguments.report) as stream:
        stream.write(page.encode())
    print(page)


def tensors(images: int, channels: int, count: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features and a gradient of the output, channels last, and a weight."""
    torch.manual_seed(0)
    features, gradient = (torch.randn(images, number, height, width) for number in (channels, count))
    last = (t.contiguous(memory_format=torch.channels_last) for t in (features, gradient))
    return *last, torch.randn(count, channels, 3, 3)


def row(
    kernels: Kernels, images: int, channels: int, count: int, height: int, width: int, rounds: int
) -> str:
    """One shape: ratios of time and errors, forward and of both gradients."""
    features, gradient, weight = tensors(images, channels, count, height, width)
    turned, last = weight.transpose(0, 1).flip(2, 3), weight.contiguous(memory_format=torch.channels_last)

    def gradients(which: int, *tensors: Tensor) -> Tensor:
        mask = [index == which for index in range(3)]
        made = torch.ops.aten.convolution_backward(
            *tensors, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask
        )
        return made[which]

    exact = [tensor.double() for tensor in (gradient, features, weight)]
    passes: list[tuple[Callable[[], Tensor], Callable[[], Tensor], Tensor]] = [
        (
            lambda: kernels.winograd(features, weight),
            lambda: F.conv2d(features, last, padding=1),
            F.conv2d(exact[1], exact[2], padding=1),
        ),
        (
            lambda: kernels.winograd(gradient, turned),
            lambda: gradients(0, gradient, features, last),
            gradients(0, *exact),
        ),
        (
            lambda: kernels.winograd_weight(features, gradient),
            lambda: gradients(1, gradient, features, last),
            gradients(1, *exact),
        ),
    ]
    cells = [cell(*each, rounds) for each in passes]
    return f"| {images}×{channels}×{height}×{width} to {count} | {' | '.join(cells)} |"


def passes_of(
    kernels: Kernels, features: Tensor, gradient: Tensor, weight: Tensor, **options: bool
) -> list[Callable[[], Tensor]]:
    """Forward, the gradient of the features and that of the weight."""
    return [
        partial(kernels.winograd, features, weight, **options),
        partial(kernels.winograd, gradient, weight.transpose(0, 1).flip(2, 3), **options),
        partial(kernels.winograd_weight, features, gradient, **options),
    ]


def compared(ours: Callable[[], Tensor], theirs: Callable[[], Tensor], rounds: int) -> tuple[float, float]:
    """Our median time in milliseconds, and the median of its ratio to theirs."""
    seconds = take_turns({"ours": ours, "theirs": theirs}, rounds, 3)
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
    return statistics.median(seconds["ours"]) * 1000, statistics.median(ratios)


def ratio(ours: Callable[[], Tensor], theirs: Callable[[], Tensor], rounds: int) -> str:
    return f"{compared(ours, theirs, rounds)[1]:.2f}"


def opposed_row(
    kernels: Kernels, images: int, channels: int, count: int, height: int, width: int, rounds: int
) -> str:
    """One shape: times with opposites by times without, forward and of both gradients."""
    *given, weight = tensors(images, channels, count, height, width)
    weight += exchanged(weight, [0, 1])
    both = (passes_of(kernels, *given, weight, opposed=opposed) for opposed in (True, False))
    cells = [ratio(ours, theirs, rounds) for ours, theirs in zip(*both, strict=True)]
    return f"| {images}×{channels}×{height}×{width} to {count} | {' | '.join(cells)} |"


def narrow_row(
    kernels: Kernels, images: int, channels: int, count: int, height: int, width: int, rounds: int
) -> str:
    """One shape: times of products of bfloat16 by those of float32's, without opposites and with; then the errors."""
    shape = f"{images}×{channels}×{height}×{width} to {count}"
    if not kernels.has_bfloat16:
        return f"| {shape} |" + " |" * 4
    *given, weight = tensors(images, channels, count, height, width)
    weight += exchanged(weight, [0, 1])
    cells = []
    for opposed in (False, True):
        both = [
            passes_of(kernels, *given, weight, opposed=opposed, narrow=narrow) for narrow in (True, False)
        ]
        cells.append(" / ".join(ratio(ours, theirs, rounds) for ours, theirs in zip(*both, strict=True)))
    features, _ = given
    last = features.bfloat16(), weight.bfloat16().contiguous(memory_format=torch.channels_last)
    cells.append(ratio(both[0][0], lambda: F.conv2d(*last, padding=1), rounds))
    exact = F.conv2d(features.double(), weight.double(), padding=1)
    errors = [
        float((made - exact).std() / exact.std()) for made in (both[0][0](), F.conv2d(*last, padding=1))
    ]
    return f"| {shape} | {' | '.join(cells)} | {errors[0]:.0e} / {errors[1]:.0e} |"


def block_row(kernels: Kernels, images: int, channels: int, height: int, width: int, rounds: int) -> str:
    """One shape: times of a residual block by those of its convolutions one after the other."""
    features, _, weight = tensors(images, channels, channels, height, width)
    weight += exchanged(weight, [0, 1])
    cells = []
    for opposed, narrow in ((False, False), (True, False), (True, True)):
        if narrow and not kernels.has_bfloat16:
            cells.append("")
            continue

        def at_once(opposed: bool = opposed, narrow: bool = narrow) -> Tensor:
            return kernels.winograd_residual(
                features, (weight, weight), opposed=(opposed, opposed), narrow=narrow
            )[1]

        def one_by_one(opposed: bool = opposed, narrow: bool = narrow) -> Tensor:
            inner = kernels.winograd(features, weight, slope=0, opposed=opposed, narrow=narrow)
            return kernels.winograd(inner, weight, add=features, opposed=opposed, narrow=narrow)

        cells.append(ratio(at_once, one_by_one, rounds))
    return f"| {images}×{channels}×{height}×{width} | {' | '.join(cells)} |"


def cell(ours: Callable[[], Tensor], theirs: Callable[[], Tensor], exact: Tensor, rounds: int) -> str:
    milliseconds, middle = compared(ours, theirs, rounds)
    spread = float(exact.std())
    errors = [float((made() - exact).abs().max()) / spread for made in (ours, theirs)]
    return f"{milliseconds:.1f} ms | {middle:.2f} | {errors[0]:.0e} / {errors[1]:.0e}"


PAGE = """# 3×3 convolutions by minimal filtering

Dense 3×3 convolutions in float32 on a CPU are computed by Winograd's minimal filtering, F(4×4, 3×3), in C that is
compiled at first use (`polyres.layers.native`): 36 multiplications for each 16 pixels of the output where the
definition takes 144. So are both gradients. It is on in `polyres upscale`, `polyres evaluate` and `polyres train`
(there `fast_convolutions: false` turns it off), for networks as they are:

```python
from polyres.layers.native import fast_convolutions

with fast_convolutions():
    enlarged = model(image, "5/2")  # and backward() of what was computed here
```

`polyres.deploy.accelerate(fused)` does it for a fused model for good. Convolutions of other sizes, strides and groups,
of fewer than 16 channels, in other precisions and elsewhere than on a CPU are torch's as before, and all are where
there is no C compiler or vectors have fewer than 8 lanes.

`python benchmarks/convolutions.py`: {machine}, {rounds} rounds in turns. Ratio: our time by torch's (oneDNN's direct
convolution, channels last), median over rounds; less is faster. Error: the largest, ours / torch's, against float64, by
the result's standard deviation.

| shape | forward | ratio | error | features' gradient | ratio | error | weight's gradient | ratio | error |
|---|---|---|---|---|---|---|---|---|---|
{table}

Kernels that treat a picture's negative alike ([equivariance](equivariance.md#opposites)) take half of the products:

| shape | forward, by that of other kernels | features' gradient | weight's gradient |
|---|---|---|---|
{opposed}

On a processor that multiplies pairs of bfloat16 (AVX-512 BF16: Zen 4, Cooper Lake and their successors) products can be
made of those, `fast_convolutions(narrow=True)`: what is multiplied is rounded, features and sums stay float32. Without
matrix units (AMX) that is what `bfloat16` means for networks of such convolutions, and the default of `polyres upscale`
and `polyres train`; `polyres evaluate` computes in float32. Times by those of float32's products, forward / features'
gradient / weight's gradient; then forward with opposites by torch's convolution of bfloat16 features, and standard
deviation of the errors, ours / torch's, by that of the result:

| shape | without opposites | with opposites | by torch's | error |
|---|---|---|---|---|
{narrow}

On the twelve validation pictures the `small` before lost 0.0011, 0.0006 and 0.0002 dB at ×2, ×3 and ×4 by it, by
torch's bfloat16 0.0061, 0.0054 and 0.0034; `small` loses 0.0009, 0.0022 and 0.0008 by torch's on a Xeon with matrix
units
(`python benchmarks/precision.py --model src/polyres/weights/bundled/small.safetensors --data ../shared/data/validation
--scale 2`).

With matrix units (AMX) `bfloat16` means torch's convolutions of bfloat16 features. What lies between those of a
residual block (ReLU, attention, sums, and their gradients) takes longer than they do, one operation at a time; our
kernels make one pass over memory of each and keep the features that blocks add to in float32. `python
benchmarks/blocks.py`, two threads of a Xeon with such units, torch 2.13.0+cpu, median of 15 rounds: our time for a
block of 64 channels and its ratio to torch's operations.

| block | features | forward | ratio | with gradients | ratio |
|---|---|---|---|---|---|
| biases | 1×64×180×320 | 5.9 ms | 0.23 | 18.9 ms | 0.52 |
| biases | 4×64×66×66 | 1.9 ms | 0.37 | 7.0 ms | 0.81 |
| biases | 16×64×48×48 | 3.3 ms | 0.55 | 13.0 ms | 0.84 |
| pixel attention, no biases | 1×64×180×320 | 7.1 ms | 0.26 | 23.0 ms | 0.40 |
| pixel attention, no biases | 4×64×66×66 | 2.4 ms | 0.55 | 8.1 ms | 0.65 |
| pixel attention, no biases | 16×64×48×48 | 4.1 ms | 0.53 | 14.8 ms | 0.58 |

A residual block's second convolution follows close behind the first, so that what it looks at is in the cache still;
in training so do the gradients of their features. Results are the same to the bit. Times of a block by those of its
convolutions one after the other:

| shape | float32 | with opposites | with opposites, products of bfloat16 |
|---|---|---|---|
{blocks}

The points are 0, ±√½, ±√2 and infinity; with whole numbers (0, ±1, ±2) errors were three to five times as large.
How an output is rounded depends on all that its block of 4×4 looks at. So that tiles of a picture still equal the
whole to the bit, they begin at multiples of four pixels and overlap by three pixels more for each such convolution (49
instead of 13 for an EDSR of five blocks); networks that this would take beyond 256 keep torch's convolutions.
"""


if __name__ == "__main__":
    main()
