"""Write docs/benchmarks.md: ``python benchmarks/page.py`` measures a model on the three sets at whole and other scales.

Every picture's scores are kept in runs/benchmarks-COMMIT.json; a run that was cut off goes on where it was.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

from polyres import __version__
from polyres.evaluation import Report
from polyres.evaluation.compare import Comparison, Side, compare
from polyres.evaluation.published import choose
from polyres.evaluation.tables import to_markdown
from polyres.files import write_file
from polyres.weights import load_card

SETS = ("Set5", "Set14", "BSD100")
SCALES = ("4/3", "3/2", "2", "5/2", "3", "7/2", "4")
PUBLISHED = ("Bicubic", "IMDN", "SMFANet+-SPConv", "EDSR-IGConv")
BASELINE = "bicubic"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bench"))
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--scales", nargs="+", default=SCALES)
    parser.add_argument("--json", type=Path, default=Path(f"runs/benchmarks-{commit().split(',')[0]}.json"))
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    command = evaluation_command(arguments)
    subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
    report = Report.from_json(arguments.json.read_text(encoding="utf-8"))
    write_file(arguments.output, page(arguments.model, chosen(report, arguments), command).encode())
    print(arguments.output)


def evaluation_command(arguments: argparse.Namespace) -> list[str]:
    """What is run, without the Python before it."""
    folders = [str(arguments.data / name) for name in arguments.sets]
    models = ["--model", BASELINE, arguments.model]
    scales = ["--scales", *arguments.scales]
    return ["polyres", "evaluate", "--data", *folders, *models, *scales, "--json", str(arguments.json)]


def chosen(report: Report, arguments: argparse.Namespace) -> Report:
    """The rows of this page: a file may hold those of other models and scales as well."""
    from polyres import Scale

    models, scales = (BASELINE, arguments.model), {str(Scale.of(scale)) for scale in arguments.scales}
    wanted = [row for row in report.rows if row.model in models and row.scale in scales]
    return report.model_copy(update={"rows": tuple(row for row in wanted if row.group in arguments.sets)})


def page(model: str, report: Report, command: list[str]) -> str:
    card = load_card(model)
    whole, between = split(report)
    parts = [
        "# Benchmarks",
        f"Model: `{model}` ({card.name}; {card.summary}). {card.training}",
        f"polyres {__version__}, commit {commit()}, {datetime.date.today().isoformat()}. {machine()}. Protocol: "
        f"`{report.protocol}`, route `{report.route}`; its definition stands below each table.",
        "Written by `python benchmarks/page.py`, which runs",
        f"```\n{' '.join(command)}\n```",
        "## Whole scales",
        to_markdown(whole, choose(PUBLISHED)) if whole.rows else "None were measured.",
        "## Scales between",
        "LR pictures of these scales are made from HR by MATLAB's rule, as no set publishes any.",
        to_markdown(between) if between.rows else "None were measured.",
        f"## Against {BASELINE}",
        "Mean difference in PSNR (dB) by picture, with its 95 % bootstrap interval (BCa), the p-value of Wilcoxon's "
        "signed-rank test and the pictures on which the model is better; see `polyres compare`.",
        differences(report, model),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def split(report: Report) -> tuple[Report, Report]:
    """The rows of whole scales, and the others."""
    whole = tuple(row for row in report.rows if row.scale.isdecimal())
    others = tuple(row for row in report.rows if not row.scale.isdecimal())
    return report.model_copy(update={"rows": whole}), report.model_copy(update={"rows": others})


def differences(report: Report, model: str) -> str:
    sides = [Side.of("the report", report, name) for name in (BASELINE, model)]
    head = ["| set | pictures | difference | 95 % interval | p | better on |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *(line(each) for each in compare(*sides))])


def line(found: Comparison) -> str:
    cells = (
        f"{found.group} ×{found.scale}",
        len(found.differences),
        f"{found.mean:+.3f}",
        f"{found.low:+.3f} to {found.high:+.3f}",
        f"{found.p:.2g}",
        found.wins,
    )
    return f"| {' | '.join(map(str, cells))} |"


def commit() -> str:
    """The commit of the code, marked if tracked files differ from it."""
    result = subprocess.run(
        ["git", "describe", "--always", "--dirty=, with changes"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent,
    )  # fmt: skip
    return result.stdout.strip() or "unknown"


def machine() -> str:
    """Processor, cores and torch."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [text.split(": ")[1] for text in lines if text.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"Machine: {os.cpu_count()} cores of {processor}; torch {torch.__version__}, float32"


if __name__ == "__main__":
    main()
