"""One file for x2, x3 and x4 against three fixed-scale networks: ``python benchmarks/curves.py``.

IGConv+ and SPConv behind the same encoder, from the two curve recipes, at two learning rates and with two seeds. Each
run is a folder of ``polyres train`` below ``runs/curves``, with its run file and its scores beside it; a run that was
interrupted is gone on with, one that has scores is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import yaml

import polyres
from polyres.data import Pair, find_pairs
from polyres.deploy.devices import describe
from polyres.evaluation import BASELINES, Upscale, evaluate
from polyres.evaluation.figures import new_figure, save_figure
from polyres.evaluation.models import model_upscaler
from polyres.files import replacing
from polyres.scale import Scale
from polyres.training import RunConfig, read_run
from polyres.training import run as train
from polyres.training.checkpoint import has_checkpoints
from polyres.training.reading import read_mapping

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Network: TypeAlias = tuple[str, tuple[int, ...]]
Scores: TypeAlias = dict[str, Any]
Psnr: TypeAlias = dict[str, dict[str, float]]

RECIPES = {"igconv+": "curve-igconv-plus.yaml", "spconv": "curve-spconv-x2.yaml"}
SCALES = (2, 3, 4)
#: What is trained: an upsampler, and the scales that it learns.
NETWORKS: tuple[Network, ...] = (("igconv+", SCALES), *(("spconv", (scale,)) for scale in SCALES))
RATES = (5e-4, 2e-3)
#: Which rate of each is tried first; what the page calls better is what the scores say.
LIKELY = {"igconv+": 2e-3, "spconv": 5e-4}
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SETS = ("Set5", "Set14")
VALIDATION = "Kodak"
#: The page holds table and machine between these.
MARKS = "<!-- measured -->", "<!-- end of measured -->"


@dataclass(frozen=True)
class Run:
    """One network, trained once."""

    upsampler: str
    scales: tuple[int, ...]
    rate: float
    seed: int
    steps: int

    @property
    def network(self) -> str:
        """What is trained, in a word."""
        return f"{self.upsampler.replace('+', '-plus')}-x{''.join(map(str, self.scales))}"

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.network}-{self.rate:g}-seed{self.seed}-{self.steps}"


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    if not arguments.only_report:
        arguments.results.mkdir(parents=True, exist_ok=True)
        measure_bicubic(arguments.results, arguments.recipes)
        for run in wanted(arguments.steps, arguments.seeds):
            attend(run, arguments)
        found = read_scores(arguments.results)
        for run in longer(found, arguments.steps, arguments.seeds) if arguments.longer else ():
            attend(run, arguments)
    write_report(arguments.results, arguments.steps, arguments.report)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--longer", action="store_true", help="also IGConv+ with three times the steps")
    parser.add_argument("--data", type=Path, help="a pack of the recipes' tiles, which opens faster")
    parser.add_argument("--recipes", type=Path, default=Path("recipes"))
    parser.add_argument("--results", type=Path, default=Path("runs/curves"))
    parser.add_argument("--report", type=Path, default=Path("docs/curves.md"))
    parser.add_argument("--only-report", action="store_true", help="train nothing")
    return parser.parse_args()


def wanted(steps: int, seeds: int) -> list[Run]:
    """All runs, the likely rates first, so that what is there when time runs out compares all scales and seeds."""
    return [
        Run(upsampler, scales, rate, seed, steps)
        for likely in (True, False)
        for seed in range(seeds)
        for upsampler, scales in NETWORKS
        for rate in RATES
        if (rate == LIKELY[upsampler]) is likely
    ]


def longer(found: list[Scores], steps: int, seeds: int) -> list[Run]:
    """IGConv+ at its better rate with three times the steps: as many crops of each scale as a fixed-scale network."""
    rate = better_rate(found, "igconv+", SCALES, steps)
    return [Run("igconv+", SCALES, rate, seed, len(SCALES) * steps) for seed in range(seeds)]


def attend(run: Run, arguments: argparse.Namespace) -> None:
    """Train and measure, unless that was done."""
    scores = arguments.results / f"{run.name}.json"
    if scores.is_file():
        return
    began = time.process_time()
    config = make_run_file(run, arguments.recipes, arguments.results, arguments.data)
    if not is_trained(config):
        train(config, resume=has_checkpoints(config.output))
    seconds = time.process_time() - began
    result = {
        "upsampler": run.upsampler,
        "scales": run.scales,
        "rate": run.rate,
        "seed": run.seed,
        "steps": run.steps,
        "psnr": {VALIDATION: validations(config.output)[-1][1], **measure(config)},
        "processor_seconds": seconds,
        "machine": describe(torch.device("cpu")),
    }
    with replacing(scores) as stream:
        stream.write(json.dumps(result, indent=1).encode())
    print(f"{run.name}: {json.dumps(result['psnr'])}, {seconds:.0f} s", flush=True)


def make_run_file(run: Run, recipes: Path, results: Path, data: Path | None) -> RunConfig:
    """The recipe with this run's scales, rate, seed and steps, written beside the run's folder."""
    content = read_mapping(recipes / RECIPES[run.upsampler])
    content["data"]["scales"] = list(run.scales)
    if run.upsampler == "spconv":
        content["model"]["upsampler"]["options"]["scales"] = list(run.scales)
    if data is not None:
        content["data"]["train"] = [str(data)]
    content["optimiser"]["lr"] = run.rate
    often = {"validate_every": max(1, run.steps // 4), "save_every": 100, "log_every": 10}
    content |= {
        "output": str(results / run.name),
        "steps": run.steps,
        "seed": run.seed,
        "fast_convolutions": True,
        "keep": 1,
        "pictures": 0,
        **often,
    }
    path = results / f"{run.name}.yaml"
    with replacing(path) as stream:
        stream.write(yaml.safe_dump(content, sort_keys=False).encode())
    return read_run(path)


def is_trained(config: RunConfig) -> bool:
    """Whether the run came to its end."""
    log = config.output / "log.jsonl"
    return log.is_file() and any(step == config.steps for step, _ in validations(config.output))


def validations(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """The steps after which a run was validated, and the PSNR of each scale then, in dB."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [
        (line["step"], {key.removeprefix("psnr_x"): line[key] for key in line if key.startswith("psnr_x")})
        for line in lines
        if line["kind"] == "validation"
    ]


def measure(config: RunConfig) -> Psnr:
    """PSNR-Y in dB by set and scale."""
    upscale = model_upscaler(polyres.load(config.output / "model.safetensors"))
    scales = [Scale.of(scale) for scale in config.data.scales]
    return scores_of(upscale, [pair for name in SETS for pair in find_pairs(DATA / "bench" / name, scales)])


def measure_bicubic(results: Path, recipes: Path) -> None:
    """What both begin from, as scores of their own: a network that was never trained."""
    path = results / "bicubic.json"
    if path.is_file():
        return
    scales = [Scale.of(scale) for scale in SCALES]
    count = read_mapping(recipes / RECIPES["spconv"])["data"]["validation_pictures"]
    shown = [pair for scale in scales for pair in find_pairs(DATA / "validation", [scale])[:count]]
    pairs = [pair for name in SETS for pair in find_pairs(DATA / "bench" / name, scales)]
    psnr = scores_of(BASELINES["bicubic"], [*(replace(pair, group=VALIDATION) for pair in shown), *pairs])
    result = {"upsampler": "bicubic", "scales": SCALES, "rate": 0, "seed": 0, "steps": 0, "psnr": psnr}
    with replacing(path) as stream:
        stream.write(json.dumps(result, indent=1).encode())


def scores_of(upscale: Upscale, pairs: list[Pair]) -> Psnr:
    """PSNR-Y in dB by set and scale."""
    report = evaluate(upscale, pairs, "paper-y", with_ssim=False, workers=1)
    result: Psnr = {}
    for mean in report.means():
        result.setdefault(mean.group, {})[mean.scale] = mean.psnr
    return result


def read_scores(results: Path) -> list[Scores]:
    """The scores of all runs that have them."""
    return [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]


def chosen(found: Iterable[Scores], upsampler: str, scales: Iterable[int], steps: int) -> list[Scores]:
    """The runs of one network, at all rates and of all seeds."""
    wanted = (upsampler, list(scales), steps)
    return [each for each in found if (each["upsampler"], each["scales"], each["steps"]) == wanted]


def better_rate(found: Iterable[Scores], upsampler: str, scales: Iterable[int], steps: int) -> float:
    """The rate with the highest mean PSNR on the validation pictures; test sets choose nothing."""
    means: dict[float, list[float]] = {}
    for each in chosen(found, upsampler, scales, steps):
        means.setdefault(each["rate"], []).append(statistics.fmean(each["psnr"][VALIDATION].values()))
    return max(means, key=lambda rate: statistics.fmean(means[rate]))


def write_report(results: Path, steps: int, page: Path) -> None:
    """The table and the picture of the page, from the runs that there are; its words are left as they are."""
    found = read_scores(results)
    runs = [each for each in found if each["steps"]]
    if not runs:
        print(f"no scores in {results}")
        return
    table = "\n".join(table_of(found, steps))
    before, _, rest = page.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    note = f"Machine: {runs[0]['machine']}. Runs measured: {len(runs)}."
    with replacing(page) as stream:
        stream.write(f"{before}{MARKS[0]}\n{table}\n\n{note}\n{MARKS[1]}{after}".encode())
    pictures = page.parent / "curves"
    save_figure(comparison(found, results, steps), pictures / "comparison.png")
    for upsampler, scales in NETWORKS:
        rate = better_rate(found, upsampler, scales, steps)
        picture = results / Run(upsampler, scales, rate, 0, steps).name / "curve.png"
        with replacing(pictures / f"{Run(upsampler, scales, rate, 0, steps).network}.png") as stream:
            stream.write(picture.read_bytes())
    print(table)


def table_of(found: list[Scores], steps: int) -> list[str]:
    """Markdown: a group of rows for each rate, one for the better of each network, one for longer runs of IGConv+."""
    columns = [(name, str(scale)) for name in (VALIDATION, *SETS) for scale in SCALES]
    heads = ["", "learning rate", "steps", *(f"{name} ×{scale}" for name, scale in columns)]
    bicubic = [values(found, ("bicubic", SCALES), 0, 0, *column) for column in columns]
    lines = [
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        row("bicubic", "", "", map(cell, bicubic)),
    ]
    better = {network: better_rate(found, *network, steps) for network in NETWORKS}
    cases = [(dict.fromkeys(NETWORKS, rate), steps) for rate in RATES]
    cases += [(better, steps)] if (better, steps) not in cases else []
    for rates, single_steps in [*cases, (better, len(SCALES) * steps)]:
        lines += group_of_rows(found, columns, rates, single_steps, steps)
    return lines


def group_of_rows(
    found: list[Scores],
    columns: list[tuple[str, str]],
    rates: Mapping[Network, float],
    single_steps: int,
    steps: int,
) -> list[str]:
    """The single file, the fixed-scale networks, and the mean difference; none without the single file."""
    single, *fixed = NETWORKS
    one = [values(found, single, rates[single], single_steps, *column) for column in columns]
    if not any(one):
        return []
    by_scale = {str(network[1][0]): network for network in fixed}
    three = [
        values(found, by_scale[scale], rates[by_scale[scale]], steps, name, scale) for name, scale in columns
    ]
    used = [f"{rates[network]:g}" for network in fixed]
    used = used[:1] if len(set(used)) == 1 else used
    gains = [gain(a, b) for a, b in zip(one, three, strict=True)]
    return [
        row("IGConv+, one file", f"{rates[single]:g}", str(single_steps), map(cell, one)),
        row("SPConv, three files", ", ".join(used), str(steps), map(cell, three)),
        row("*difference*", "", "", gains),
    ]


def row(name: str, rate: str, steps: str, cells: Iterable[str]) -> str:
    return f"| {' | '.join([name, rate, steps, *cells])} |"


def values(
    found: list[Scores], network: Network, rate: float, steps: int, name: str, scale: str
) -> dict[int, float]:
    """PSNR by seed."""
    return {
        each["seed"]: each["psnr"][name][scale]
        for each in chosen(found, *network, steps)
        if each["rate"] == rate
    }


def cell(by_seed: Mapping[int, float]) -> str:
    """Mean, and the largest less the smallest if there are several."""
    numbers = list(by_seed.values())
    if len(numbers) < 2:
        return "".join(f"{number:.2f}" for number in numbers)
    return f"{statistics.fmean(numbers):.2f} ({max(numbers) - min(numbers):.2f})"


def gain(ours: Mapping[int, float], theirs: Mapping[int, float]) -> str:
    """The mean difference over the seeds that both have."""
    differences = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    return f"{statistics.fmean(differences):+.2f}" if differences else ""


def comparison(found: list[Scores], results: Path, steps: int) -> Figure:
    """Validation PSNR over steps, a panel a scale, a line a run."""
    figure = new_figure(9.6, 3.4)
    for axes, scale in zip(figure.subplots(1, len(SCALES)), SCALES, strict=True):
        named = set[str]()
        for network in (each for each in NETWORKS if scale in each[1]):
            for scores in chosen(found, *network, steps):
                label = f"{'IGConv+' if network == NETWORKS[0] else 'SPConv'}, {scores['rate']:g}"
                run = Run(*network, scores["rate"], scores["seed"], steps)
                points = [(step, psnr[str(scale)]) for step, psnr in validations(results / run.name)]
                axes.plot(
                    *zip(*points, strict=True),
                    marker=".",
                    color="C0" if network == NETWORKS[0] else "C1",
                    linestyle="-" if scores["rate"] == RATES[0] else "--",
                    label=None if label in named else label,
                )
                named.add(label)
        axes.grid(alpha=0.3)
        axes.set(title=f"×{scale}", xlabel="step", ylabel="PSNR-Y (dB)" if scale == SCALES[0] else "")
        axes.legend(fontsize="small", loc="lower right")
    return figure


if __name__ == "__main__":
    main()
