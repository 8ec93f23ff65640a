"""Fused networks in every engine, as ratios measured in one run: ``python benchmarks/latency.py``.

All take turns; a ratio is the median over the rounds of the time against torch eager, float32, NCHW, in the same round.
"""

from __future__ import annotations

import argparse
import copy
import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import polyres
from polyres.cli.memory import keep_freed_memory
from polyres.deploy import FusedModel, accelerate
from polyres.deploy.cost import take_turns
from polyres.deploy.devices import describe, has_fast_bfloat16
from polyres.deploy.onnx import export_onnx
from polyres.files import replacing
from polyres.layers.layout import channels_last
from polyres.weights import BUNDLED

#: Encoder and upsampler; weights are fresh, since time does not depend on them. Bundled models follow.
NETWORKS = {
    "KRGN, SPConv": ("krgn", "spconv"),
    "KRGN, IGConv+": ("krgn", "igconv+"),
    "EDSR-baseline, SPConv": ("edsr-baseline", "spconv"),
    "EDSR-baseline, IGConv+": ("edsr-baseline", "igconv+"),
    "SMFANet+, SPConv": ("smfanet+", "spconv"),
}
#: What the others' best times are compared with.
YARDSTICK = "SMFANet+, SPConv"
REFERENCE = "torch, float32, NCHW"
NATIVE = "torch and native kernels, float32"
NARROW = "torch and native kernels, bfloat16"

Engine = Callable[[], object]


def main() -> None:
    arguments = parse_arguments()
    keep_freed_memory()  # as polyres upscale does
    torch.set_num_threads(arguments.threads)
    image = torch.rand(1, 3, arguments.height, arguments.width)
    sections, fastest = [], {}
    for name, fused in networks(arguments.scale, arguments.only):
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            engines = dict(torch_engines(fused, image))
            if not arguments.torch_only:
                engines.update(other_engines(fused, image, arguments.threads, Path(folder)))
            seconds = take_turns(engines, arguments.rounds)
        medians = {engine: statistics.median(times) for engine, times in seconds.items()}
        fastest[name] = min(medians.items(), key=lambda pair: pair[1])
        sections.append(section(name, seconds))
        print(sections[-1], flush=True)
    sections.append(best(fastest))
    print(sections[-1])
    title = f"{arguments.width}x{arguments.height} pixels to x{arguments.scale}"
    page = PAGE.format(
        command=shlex.join(["python", "benchmarks/latency.py", *sys.argv[1:]]),
        size=title,
        machine=describe(torch.device("cpu")),
        versions=versions(),
        rounds=arguments.rounds,
        tables="\n".join(sections),
    )
    with replacing(arguments.report) as stream:
        stream.write(page.encode())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=180)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", default=[""], help="networks whose name contains one of these")
    parser.add_argument(
        "--torch-only", action="store_true", help="leave the other engines out, and the export"
    )
    parser.add_argument("--report", type=Path, default=Path("docs/latency.md"))
    return parser.parse_args()


def fused_network(encoder: str, upsampler: str, scale: int) -> FusedModel:
    """A fused network with fresh weights; what recalibration would leave of itself is nothing."""
    parts = {
        "encoder": {"name": encoder, "options": {"recalibration": "none"} if encoder == "krgn" else {}},
        "upsampler": {"name": upsampler, "options": {"scales": [scale]} if upsampler == "spconv" else {}},
    }
    return polyres.fuse(polyres.build(polyres.ModelConfig.model_validate(parts)), scale)


def networks(scale: int, only: list[str]) -> Iterator[tuple[str, FusedModel]]:
    """All whose name contains one of ``only``, by name."""
    for name, (encoder, upsampler) in NETWORKS.items():
        if any(part in name for part in only):
            yield name, fused_network(encoder, upsampler, scale)
    for name in dict.fromkeys(Path(file).stem for file in BUNDLED.values()):
        if any(part in f"{name}, bundled" for part in only):
            yield f"{name}, bundled", polyres.fuse(polyres.load(name), scale)


def torch_engines(fused: FusedModel, image: Tensor) -> Iterator[tuple[str, Engine]]:
    """Every way to run ``fused`` by torch."""
    last = channels_last(copy.deepcopy(fused))
    given = image.contiguous(memory_format=torch.channels_last)
    yield REFERENCE, lambda: fused(image)
    yield "torch, float32, channels last", lambda: last(given)
    yield "torch, bfloat16, channels last", lambda: in_bfloat16(last, given)
    native: Any = accelerate(last)
    if native is not last:
        yield NATIVE, lambda: native(given)
        if native.narrows or has_fast_bfloat16(torch.device("cpu")):  # products, or passes of residual blocks
            yield NARROW, lambda: in_bfloat16(native, given)


def other_engines(
    fused: FusedModel, image: Tensor, threads: int, folder: Path
) -> Iterator[tuple[str, Engine]]:
    """Every other engine that is installed; none without ONNX Runtime, which the exported file is checked with."""
    if find_spec("onnxruntime") is None:
        return
    path = folder / "network.onnx"
    with torch.inference_mode(False):
        export_onnx(fused, path)
    yield "ONNX Runtime, float32", onnx_runtime(path, image, threads)
    if find_spec("openvino") is not None:
        yield "OpenVINO, float32", openvino(path, image, threads)


def in_bfloat16(module: Any, image: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        output: Tensor = module(image)
    return output


def onnx_runtime(path: Path, image: Tensor, threads: int) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: image.numpy()}
    return lambda: session.run(None, given)


def openvino(path: Path, image: Tensor, threads: int) -> Engine:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    network = core.read_model(str(path))
    network.reshape(list(image.shape))
    compiled = core.compile_model(network, "CPU", settings)
    return lambda: compiled(image.numpy())


def section(name: str, seconds: dict[str, list[float]]) -> str:
    """A table of the engines of one network, and how the native form compares."""
    lines = [f"## {name}", "", "| engine | median | ratio | from | to |", "|---|---|---|---|---|"]
    for engine, times in seconds.items():
        ratios = sorted(a / b for a, b in zip(times, seconds[REFERENCE], strict=True))
        cells = (statistics.median(ratios), ratios[0], ratios[-1])
        lines.append(
            f"| {engine} | {statistics.median(times) * 1000:.0f} ms | "
            + " | ".join(f"{cell:.3f}" for cell in cells)
            + " |"
        )
    if NATIVE in seconds:
        lines += ["", gain(seconds)]
    return "\n".join([*lines, ""])


def gain(seconds: dict[str, list[float]]) -> str:
    """How many times faster the native form is than eager torch, and than the best float32 of another engine."""
    others = {name: times for name, times in seconds.items() if name != NATIVE and "float32" in name}
    best = min(others, key=lambda name: statistics.median(others[name]))
    against = [
        statistics.median(a / b for a, b in zip(seconds[name], seconds[NATIVE], strict=True))
        for name in (REFERENCE, best)
    ]
    return f"Native kernels: {against[0]:.1f} times as fast as {REFERENCE}; {against[1]:.1f} times as {best}."


def best(fastest: dict[str, tuple[str, float]]) -> str:
    """A table of the fastest engine of each network."""
    lines = [
        "## The fastest of each",
        "",
        f"| network | engine | median | against {YARDSTICK} |",
        "|---|---|---|---|",
    ]
    for name, (engine, seconds) in fastest.items():
        against = f"{seconds / fastest[YARDSTICK][1]:.2f}" if YARDSTICK in fastest else ""
        lines.append(f"| {name} | {engine} | {seconds * 1000:.0f} ms | {against} |")
    return "\n".join([*lines, ""])


def versions() -> str:
    """Of the other engines."""
    from importlib.metadata import version

    found = [name for name in ("onnxruntime", "openvino") if find_spec(name) is not None]
    return "".join(f", {name} {version(name)}" for name in found)


PAGE = """# Latency of fused networks on a CPU

`{command}`: {size}, one picture, {machine}{versions}. Engines take turns for {rounds} rounds; a
ratio is the median over the rounds of the time against that of torch eager, float32, NCHW, in the same round, from the
smallest to the largest. Less is faster.

{tables}"""


if __name__ == "__main__":
    main()
