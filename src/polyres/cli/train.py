"""``polyres train``: a run file in, a model file out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

    from polyres.training.loop import StepReport
    from polyres.training.run import Watch


def train(
    run: Annotated[Path, typer.Argument(help="Run file (YAML); see examples/ and recipes/.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint of this run.")
    ] = False,
) -> None:
    """Train a model on a folder of pictures; interrupted runs go on with --resume."""
    from rich.console import Console

    from polyres.training import read_run
    from polyres.training import run as start

    config = read_run(run)
    console = Console(stderr=True)
    with _progress(console) as progress:
        start(config, resume, _watcher(progress, config.steps))
    console.print(f"Trained {config.steps} steps: {config.output / 'model.safetensors'}", soft_wrap=True)


def _progress(console: object) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=console)  # type: ignore[arg-type]


def _watcher(progress: Progress, steps: int) -> Watch:
    """What is shown after each step: the loss, averaged a little, and the newest validation."""
    task = progress.add_task("reading pictures", total=steps)
    smooth = [0.0]

    def watch(report: StepReport, validation: dict[str, float]) -> None:
        smooth[0] = report.loss if not smooth[0] else 0.98 * smooth[0] + 0.02 * report.loss
        shown = " ".join(f"x{scale} {value:.2f} dB" for scale, value in validation.items())
        progress.update(task, completed=report.step, description=f"loss {smooth[0]:.4f} {shown}")

    return watch
