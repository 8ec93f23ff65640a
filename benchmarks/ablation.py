"""How designs for the bundled models compare at the same short training: ``python benchmarks/ablation.py``.

Every candidate begins with fresh weights and sees the same crops in the same order. Quality is measured on four
validation pictures, the time of the fused network by the engine of ``polyres upscale`` and by torch alone. Each run is
a JSON file; those that exist are not run again. ``--latency`` measures the times anew and trains nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pack import SHARED, held_out, tiles
from torch import nn

import polyres
from polyres.data.crops import CropSampler
from polyres.data.pairs import crop_to_fit, inverse
from polyres.data.resize import resize
from polyres.data.sources import Pixels
from polyres.deploy.cost import parameters, take_turns
from polyres.deploy.devices import describe
from polyres.files import replacing
from polyres.layers import recalibrate
from polyres.layers.equivariance import Symmetry
from polyres.metrics import PROTOCOLS
from polyres.scale import Scale
from polyres.training.config import RunConfig
from polyres.training.loop import train
from polyres.training.symmetry import begin_equivariant
from polyres.upscale.engine import TorchEngine

SCALES = tuple(Scale.of(factor) for factor in (2, 3, 4))
HEIGHT, WIDTH = 180, 320

HEAD = {"width": 128, "hidden_layers": 2, "spread": 0.5}
BILINEAR = {**HEAD, "base": "bilinear"}


@dataclass(frozen=True)
class Candidate:
    """One design.

    Attributes:
        name: in the table.
        encoder: name in the table of encoders, and its options.
        upsampler: the same of upsamplers.
        recalibrated: whether the dense kernels of the encoder are recalibrated in training.
        recalibration_lr: factor on the learning rate of recalibrations.
        equivariant: what the encoder treats alike.
        choose_from: places drawn for each crop.
        longer: how many times the others' steps it takes.
        turn: those of a later one are trained when all seeds of the earlier ones are done.
    """

    name: str
    encoder: tuple[str, dict[str, Any]] = ("edsr-baseline", {"channels": 64, "blocks": 5})
    upsampler: tuple[str, dict[str, Any]] = ("igconv", BILINEAR)
    recalibrated: bool = False
    recalibration_lr: float = 1.0
    equivariant: Symmetry | None = None
    choose_from: int = 1
    longer: int = 1
    turn: int = 0


def edsr(channels: int, blocks: int, **options: Any) -> tuple[str, dict[str, Any]]:
    return "edsr-baseline", {"channels": channels, "blocks": blocks, **options}


def turning(symmetry: Symmetry) -> tuple[str, dict[str, Any]]:
    return "igconv", {**BILINEAR, "equivariant": symmetry}


def centred(name: str, channels: int, blocks: int, symmetry: Symmetry = "turns-and-negatives") -> Candidate:
    """EDSR about grey with IGConv, both equivariant."""
    return Candidate(name, edsr(channels, blocks, centre=0.5), turning(symmetry), equivariant=symmetry)


def differences(name: str, channels: int, blocks: int, choose_from: int = 1, **options: Any) -> Candidate:
    """The same, and the encoder sees differences of values alone."""
    encoder = edsr(channels, blocks, normalisation_equivariant=True, **options)
    symmetry: Symmetry = "turns-and-negatives"
    return Candidate(name, encoder, turning(symmetry), equivariant=symmetry, choose_from=choose_from)


CANDIDATES = (
    Candidate("EDSR 64x5, IGConv, bilinear base"),
    Candidate("the same, no base", upsampler=("igconv", HEAD)),
    Candidate("the same, geometric kernels", upsampler=("igconv", {**BILINEAR, "geometric": True})),
    Candidate("the same, IGConv+", upsampler=("igconv+", HEAD)),
    Candidate("the same, recalibrated kernels", recalibrated=True),
    Candidate("EDSR 64x7, IGConv, bilinear base", edsr(64, 7)),
    Candidate("EDSR 48x11, IGConv, bilinear base", edsr(48, 11)),
    Candidate("SMFANet+, IGConv, bilinear base", ("smfanet+", {})),
    Candidate("EDSR 64x5, encoder equivariant to turns", equivariant="turns"),
    Candidate("encoder and head equivariant to turns", upsampler=turning("turns"), equivariant="turns"),
    centred("encoder and head equivariant to turns, centre 0.5", 64, 5, "turns"),
    centred("encoder and head equivariant to turns and negatives", 64, 5),
    centred("EDSR 64x7, equivariant to turns and negatives", 64, 7),
    centred("EDSR 48x12, equivariant to turns and negatives", 48, 12),
    differences("EDSR 64x7, and to level and contrast", 64, 7),
    differences("the same, each crop the best of three", 64, 7, choose_from=3),
    differences("the same, 32 channels, 128 within 8 blocks", 32, 8, choose_from=3, expansion=4),
    differences("EDSR 64x16, and to level and contrast, best of three", 64, 16, choose_from=3),
    Candidate(
        "KRGN of 7 blocks, IGConv, bilinear base", ("krgn", {"blocks": 7}), recalibration_lr=0.1, turn=1
    ),
    Candidate("EDSR 64x5, IGConv, bilinear base, five times the steps", longer=5, turn=2),
)


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    arguments.results.mkdir(parents=True, exist_ok=True)
    if not (arguments.latency or arguments.only_report):
        train_missing(arguments)
    times = arguments.results / "latency.json"
    if arguments.latency or not (times.is_file() or arguments.only_report):
        save(times, latencies(arguments.rounds))
    write_report(arguments.results, arguments.seeds, arguments.report)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--patch", type=int, default=32, help="side of the LR crops in pixels")
    parser.add_argument("--tiles", type=int, default=636, help="pictures of the training pack to learn from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=11, help="measurements of each time")
    parser.add_argument("--results", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--report", type=Path, default=Path("docs/ablation.md"))
    parser.add_argument(
        "--turns", type=int, default=None, help="how many turns of candidates to train; all if left out"
    )
    parser.add_argument("--latency", action="store_true", help="measure the times anew, train nothing")
    parser.add_argument("--only-report", action="store_true", help="measure and train nothing")
    return parser.parse_args()


def train_missing(arguments: argparse.Namespace) -> None:
    """Seed by seed, the costly ones last, so that what is there when time runs out compares as much as possible."""
    missing = [
        (candidate, seed)
        for turn in range(arguments.turns or 1 + max(candidate.turn for candidate in CANDIDATES))
        for seed in range(arguments.seeds)
        for candidate in CANDIDATES
        if candidate.turn == turn and not result_path(arguments.results, candidate, seed).is_file()
    ]
    if not missing:
        return
    # The four pictures that all training runs validate on.
    learned, measured = tiles(arguments.tiles), held_out(slice(4))
    for candidate, seed in missing:
        config = configuration(candidate, arguments.steps, arguments.patch, seed)
        result = run(candidate, config, learned, measured)
        save(result_path(arguments.results, candidate, seed), result)
        print(
            f"{candidate.name}, seed {seed}: {mean_psnr(result):.3f} dB, {result['seconds']:.0f} s",
            flush=True,
        )


def result_path(folder: Path, candidate: Candidate, seed: int) -> Path:
    words = candidate.name.lower().replace(",", "").replace("+", "-plus").split()
    return folder / f"{'-'.join(words)}-seed{seed}.json"


def save(path: Path, result: dict[str, Any]) -> None:
    with replacing(path) as stream:
        stream.write(json.dumps(result, indent=1).encode())


def configuration(candidate: Candidate, steps: int, patch: int, seed: int) -> RunConfig:
    encoder, upsampler = ({"name": name, "options": options} for name, options in parts_of(candidate))
    return RunConfig.model_validate(
        {
            "model": {"encoder": encoder, "upsampler": upsampler},
            "data": {
                "train": [SHARED],
                "patch": patch,
                "batch": 4,
                "scales": [2, 3, 4],
                "choose_from": candidate.choose_from,
            },
            "output": "unused",
            "steps": steps * candidate.longer,
            "optimiser": {
                "name": "muon",
                "lr": 2e-3,
                "warmup": 50,
                "recalibration_lr": candidate.recalibration_lr,
            },
            "equivariant": candidate.equivariant,
            "losses": [{"name": "l1"}],
            "ema": 0.99,
            "precision": "float32",
            "seed": seed,
        }
    )


def parts_of(candidate: Candidate) -> tuple[tuple[str, dict[str, Any]], ...]:
    return candidate.encoder, candidate.upsampler


def network(candidate: Candidate, config: RunConfig) -> polyres.SRModel:
    """Fresh weights; the same encoder has the same ones under every upsampler."""
    torch.manual_seed(config.seed)
    model = polyres.build(config.model)
    if candidate.recalibrated:
        recalibrate(model.encoder, select=lambda _, part: isinstance(part, nn.Conv2d))
    if config.equivariant is not None:
        begin_equivariant(model.encoder, config.equivariant, fresh=model.encoder.state_dict().keys())
    return model


def run(
    candidate: Candidate, config: RunConfig, learned: list[Pixels], measured: list[Pixels]
) -> dict[str, Any]:
    """Train and measure one network."""
    model = network(candidate, config)
    data = config.data
    batches = CropSampler(learned, SCALES, data.patch, data.batch, config.seed, choose_from=data.choose_from)
    losses: list[float] = []
    began = time.process_time()
    average = train(model, batches, config, lambda _, report: losses.append(report.loss))
    seconds = time.process_time() - began
    return {
        "candidate": candidate.name,
        "seed": config.seed,
        "steps": config.steps,
        "patch": data.patch,
        "batch": data.batch,
        "tiles": len(learned),
        "psnr": {str(scale): quality(average, scale, measured) for scale in SCALES},
        "loss": statistics.fmean(losses[-100:]),
        "seconds": seconds,
        "trained_weights": parameters(model),
        "machine": describe(torch.device("cpu")),
    }


def engine(model: polyres.SRModel, scale: Scale, native: bool = True) -> TorchEngine:
    """What ``polyres upscale`` runs in float32; without ``native``, torch alone."""
    return TorchEngine(polyres.fuse(model, scale), torch.device("cpu"), torch.float32, native)


def quality(model: polyres.SRModel, scale: Scale, pictures: list[Pixels]) -> float:
    """Mean PSNR on RGB in dB."""
    enlarge, values = engine(model, scale), []
    for picture in pictures:
        high = crop_to_fit(picture, scale)
        made = enlarge(resize(high, scale=inverse(scale))[None])[0].permute(1, 2, 0).numpy()
        values.append(PROTOCOLS["rgb"].score(made, high, scale, with_ssim=False).psnr)
    return statistics.fmean(values)


def latencies(rounds: int) -> dict[str, Any]:
    """Seconds of processor time that one picture takes each candidate; fused weights; how busy the machine was."""
    load = os.getloadavg()[0]
    picture = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8)
    engines: dict[str, TorchEngine] = {}
    weights: dict[str, int] = {}
    for candidate in CANDIDATES:
        if candidate.longer == 1:
            model = network(candidate, configuration(candidate, 1, 32, 0)).eval()
            weights[candidate.name] = parameters(polyres.fuse(model, SCALES[-1]))
            for native in (True, False):
                engines[f"{candidate.name}|{'native' if native else 'torch'}"] = engine(
                    model, SCALES[-1], native
                )
    calls = {name: lambda engine=engine: engine(picture) for name, engine in engines.items()}
    seconds = take_turns(calls, rounds, clock=time.process_time)
    return {
        "seconds": seconds,
        "weights": weights,
        "load": load,
        "threads": torch.get_num_threads(),
        "machine": describe(torch.device("cpu")),
    }


def mean_psnr(result: dict[str, Any]) -> float:
    return mean(result["psnr"].values())


def write_report(folder: Path, seeds: int, target: Path) -> None:
    """The page of ``docs/``, from the runs and times that there are."""
    found = {candidate.name: runs_of(folder, candidate, seeds) for candidate in CANDIDATES}
    results = [result for runs in found.values() for result in runs.values()]
    times = folder / "latency.json"
    if not (results and times.is_file()):
        print(f"no runs or no times in {folder}")
        return
    measured = json.loads(times.read_text())
    first = found[CANDIDATES[0].name]
    table = [row(name, runs, measured) for name, runs in found.items()]
    against = [difference(name, runs, first) for name, runs in found.items() if runs is not first]
    text = PAGE.format(
        table="\n".join(table),
        against="\n".join(line for line in against if line),
        steps=min(result["steps"] for result in results),
        tiles=results[0]["tiles"],
        patch=results[0]["patch"],
        load=measured["load"],
        rounds=len(next(iter(measured["seconds"].values()))),
        machine=measured["machine"],
        conclusions=CONCLUSIONS.format(steps=min(result["steps"] for result in results)),
    )
    with replacing(target) as stream:
        stream.write(text.encode())
    print(text)


def runs_of(folder: Path, candidate: Candidate, seeds: int) -> dict[int, dict[str, Any]]:
    """The runs that there are, by seed."""
    paths = {seed: result_path(folder, candidate, seed) for seed in range(seeds)}
    return {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.is_file()}


def row(name: str, runs: dict[int, dict[str, Any]], measured: dict[str, Any]) -> str:
    """What a candidate reached and what it costs."""
    cells = [name, str(measured["weights"].get(name, "")), str(len(runs))]
    if runs:
        cells += [f"{mean(run['psnr'][str(scale)] for run in runs.values()):.2f}" for scale in SCALES]
        cells += [f"{mean(mean_psnr(run) for run in runs.values()):.3f}", spread(runs)]
    else:
        cells += [""] * 5
    for kind in ("native", "torch"):
        seconds = measured["seconds"].get(f"{name}|{kind}")
        cells.append(f"{statistics.median(seconds) * 1000:.0f}" if seconds else "")
    cells.append(f"{mean(run['seconds'] for run in runs.values()):.0f}" if runs else "")
    return f"| {' | '.join(cells)} |"


def difference(name: str, runs: dict[int, dict[str, Any]], first: dict[int, dict[str, Any]]) -> str:
    """How much more than the first candidate at the same seed, seed by seed and scale by scale; empty without runs."""
    shared = [seed for seed in runs if seed in first]
    gains = [
        ", ".join(
            f"{runs[seed]['psnr'][str(scale)] - first[seed]['psnr'][str(scale)]:+.3f}" for seed in shared
        )
        for scale in SCALES
    ]
    total = ", ".join(f"{mean_psnr(runs[seed]) - mean_psnr(first[seed]):+.3f}" for seed in shared)
    return f"| {' | '.join([name, *gains, total])} |" if shared else ""


def mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def spread(runs: dict[int, dict[str, Any]]) -> str:
    """The largest less the smallest mean over seeds; empty for one seed."""
    means = [mean_psnr(run) for run in runs.values()]
    return f"{max(means) - min(means):.3f}" if len(means) > 1 else ""


PAGE = """# How designs compare after the same short training

`python benchmarks/ablation.py`: candidates for the bundled models, made of the zoo's parts at about half a million
fused weights. `python benchmarks/ablation.py --latency` measures the times anew, trains nothing and rewrites this page.

| candidate | weights, fused x4 | runs | x2 | x3 | x4 | mean | spread | ms, polyres | ms, torch | training, s |
|---|---|---|---|---|---|---|---|---|---|---|
{table}

Against the first row at the same seed, dB, seed by seed:

| candidate | x2 | x3 | x4 | mean |
|---|---|---|---|---|
{against}

## What was measured

**Training.** {steps} steps from fresh weights, in the last row five times as many: Muon (learning rate 2e-3, 50 steps
of warm-up, cosine to 1e-6), L1, four crops of {patch}x{patch} LR pixels of one scale, x2, x3 or x4, from {tiles} tiles
of the training pack, average of the weights 0.99, float32, one core. Within a seed all see the same crops in the same
order, and rows with the same encoder begin with the same weights in it. Recalibrated dense kernels are mixed within
each 3x3 slice, at the full learning rate; KRGN's at a tenth of it, as in `recipes/krgn-small.yaml`.

**Equal budgets.** Rows but the last have equal steps. Training seconds are processor time of one core, with other work
on the machine, so that they are good to a fifth or so. The last row is there for equal seconds: it is the first row's
network, with about the training time of SMFANet+.

**Quality.** PSNR on RGB in dB (protocol `rgb`) of the averaged weights on four Kodak pictures of the validation folder
(1, 3, 5 and 7), mean of the seeds; "mean" is that of the three scales, "spread" its largest less its smallest value
over seeds. No test set was looked at.

**Time.** Processor time of one picture of 320x180 pixels to x4 in float32 by one thread, median of {rounds} rounds in
which all candidates take turns: by the engine that `polyres upscale` runs (native kernels for KRGN's pairs, minimal
filtering for dense 3x3 convolutions), and by torch alone, channels last. Load average when it began: {load:.1f} (0 is
a quiet machine). What other programs take of the processor's time is left out; what they take of its caches and memory
is not. Unless the load is near 0, a training ran on the other core and this core was shared.
Equivariant rows were not timed: fused, they are the plain networks of their size.

Machine: {machine}

{conclusions}"""

CONCLUSIONS = """## What it shows

- **The base matters at this length.** Without the bilinearly enlarged picture beneath the generated one, 0.55 and
  0.65 dB are lost (seeds 0 and 1), at every scale, and no time is saved that could be told from noise. With a base
  the network begins at about its quality, without one at noise; how much of the lead a long training leaves is open.
- **IGConv+, geometric kernels and recalibrated dense kernels gain nothing that two seeds can show**: 0.00 to 0.07 dB,
  where the seeds of the first row alone differ by 0.06. Geometric kernels cost nothing. IGConv+ takes about twice the
  time, in training and after it; recalibration twice the training, and folds away.
- **Depth at the same width**: seven blocks for five are worse in one seed and better in the other (-0.08, +0.06) and
  take 1.4 to 1.5 times as long. **Depth for width**: 48x11 is worse in both (-0.03, -0.16) and takes nearly as long as
  64x7 with fewer weights.
- **SMFANet+ learns more slowly here**: half a decibel less after as many steps, each of which costs five times as much,
  and ten times the time of a picture. Its depthwise and pointwise convolutions have no native form; by torch alone it
  takes five times as long as the first row.
- **KRGN** is at 28.00 dB after as many steps, 0.44 and 0.49 below the first row and 0.06 above SMFANet+. It takes about
  three times the first row's time by its native kernels, ten times by torch alone, and eleven times in training.
- **At equal seconds** the gap doubles: the first row's network, trained for five times the steps, is 1.03 dB above
  SMFANet+ after about the same processor time (last row), and that took 40 % of KRGN's.
- **Kernels that treat [turned and negative pictures alike](equivariance.md) are the largest gain**: with the head and
  grey beyond the edges 0.48 and 0.39 dB over the first row, at every scale, at the first row's cost after training. Of
  that, turns alone are 0.25 and 0.19. Without the centre, and with seven blocks, one seed of two ended below the first
  row, others of the same design far above it: at this rate of 2e-3 such runs can go astray at the start.
- **Features of differences alone** (`normalisation_equivariant`: the first kernels sum to zero, nothing has a bias) are
  the next: 0.21 and 0.79 dB over the same network about grey, whose second seed went astray; no seed of these does, at
  this rate. Runs of 1,200 steps at 1.2e-3 (one each, not in the table) say that biases have to do with it, but not they
  alone: of one seed the network about grey reached 29.14 dB, 29.35 without biases, 29.32 with them and the kernels
  that end each block and the body a tenth as large at the start.
- **Each crop the best of three places** is worth 0.09 and 0.11 dB more. 32 channels with 128 within eight blocks are as
  good as 64 in seven; 16 blocks gain 0.14 and 0.12 dB at twice the time.

Hence dense 3x3 convolutions of 64 channels, IGConv, the bilinear base and equivariant kernels for the bundled models.

## What it does not show

- **The end of a long training.** The 64x5 model without equivariance that long training made reaches 29.56 dB in the
  column "mean", a decibel more than its row after {steps} steps. Networks that learn slowly may end higher: the
  published SMFANet+, trained for longer on other data, is above that model on Set5. What seven blocks are worth in a
  long training is not seen here either. In the long training of
  the [bundled model](models.md), which has two blocks more, half of equivariance's lead was left, and of what the next
  rows gain here, hardly anything: they learn from a quarter of the crops and end at about the same place.
- **Each design at its best.** Optimiser, learning rate and the hypernetwork's spread were chosen on EDSR with IGConv
  ([models.md](models.md)); another rate may suit the others better. Crops of 32x32 show little to networks that look
  far, as SMFANet+ and KRGN do.
- **Other pictures.** The four that quality is measured on have many edges. The long-trained network of differences,
  whose crops were chosen, is 0.09 dB above the bundled one on them and 0.02 on all twelve ([models.md](models.md)).
- **Confidence.** Two seeds are too few for an interval. Differences below a tenth of a decibel say nothing.
- **Other machines.** This one has no units for bfloat16, and there was no GPU. Other engines are in
  [latency.md](latency.md): ONNX Runtime and OpenVINO run SMFANet+ faster than torch does.
- **Other sizes.** `tiny` takes the same parts by extrapolation.
"""


if __name__ == "__main__":
    main()
