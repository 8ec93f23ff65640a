"""Residual blocks under autocast to bfloat16 on a CPU, with our passes between convolutions and without.

``python benchmarks/blocks.py`` prints a table: our time of one block of 64 channels, forward and with its gradients,
and its ratio to that of torch's operations one by one, in turns in one run.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from polyres.cli.memory import keep_freed_memory
from polyres.deploy.cost import take_turns
from polyres.deploy.devices import describe
from polyres.encoders.edsr import ResidualBlock
from polyres.layers.native import fast_convolutions

#: Images, height and width.
SHAPES = ((1, 180, 320), (4, 66, 66), (16, 48, 48))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as the command does
    print(f"{describe(torch.device('cpu'))}, {arguments.rounds} rounds")
    print("| block | features | forward | ratio | with gradients | ratio |\n|---|---|---|---|---|---|")
    for attention, bias in ((False, True), (True, False)):
        for images, height, width in SHAPES:
            block = ResidualBlock(64, bias=bias, attention=attention)
            features = torch.randn(images, 64, height, width).contiguous(memory_format=torch.channels_last)
            cells = [compared(block, features, learns, arguments.rounds) for learns in (False, True)]
            name = "pixel attention, no biases" if attention else "biases"
            print(f"| {name} | {images}×64×{height}×{width} | {' | '.join(cells)} |", flush=True)


def compared(block: ResidualBlock, features: Tensor, learns: bool, rounds: int) -> str:
    """Our median time, and the median over rounds of its ratio to torch's."""
    leaf = features.clone().requires_grad_(learns)

    def work(fast: bool) -> Callable[[], None]:
        def once() -> None:
            with (
                torch.set_grad_enabled(learns),
                torch.autocast("cpu", torch.bfloat16),
                fast_convolutions(fast),
            ):
                made = block(leaf)
            if learns:
                made.backward(made.detach())

        return once

    seconds = take_turns({"ours": work(True), "theirs": work(False)}, rounds, 5)
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
    return f"{statistics.median(seconds['ours']) * 1000:.1f} ms | {statistics.median(ratios):.2f}"


if __name__ == "__main__":
    main()
