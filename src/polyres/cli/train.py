"""``polyres train``: a run file in, a model file out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

    from polyres.training.journal import Watch
    from polyres.training.state import StepReport


def train(
    run: Annotated[Path, typer.Argument(help="Run file (YAML); see examples/ and recipes/.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint of this run.")
    ] = False,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Resume although the run file or the pictures changed.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only try two steps on two pictures and a checkpoint.")
    ] = False,
) -> None:
    """Train a model on pictures; interrupted runs go on with --resume."""
    from rich.console import Console

    from polyres.training import read_run
    from polyres.training import run as start

    config = read_run(run)
    console = Console(stderr=True)
    if check:
        from polyres.training.check import check_run

        console.print(f"{run} is ready to train: {check_run(config)}", soft_wrap=True, highlight=False)
        return
    with _progress(console) as progress:
        start(config, resume, _watcher(progress, config.steps), allow_changes)
    console.print(f"Trained {config.steps} steps: {config.output / 'model.safetensors'}", soft_wrap=True)


def _progress(console: object) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=console)  # type: ignore[arg-type]


def _watcher(progress: Progress, steps: int) -> Watch:
    """What is shown after each step: loss, speed and wait, averaged a little, and the newest validation."""
    task = progress.add_task("reading pictures", total=steps)
    means: dict[str, float] = {}

    def watch(report: StepReport, validation: dict[str, float]) -> None:
        newest = {"loss": report.loss, "seconds": report.seconds, "wait": report.wait}
        for name, value in newest.items() if report.fault is None else ():
            means[name] = 0.98 * means.get(name, value) + 0.02 * value
        seconds = max(means.get("seconds", 0.0), 1e-9)
        shown = " ".join(f"x{scale} {value:.2f} dB" for scale, value in validation.items())
        progress.update(
            task,
            completed=report.step,
            description=f"loss {means.get('loss', 0):.4f} · {1 / seconds:.1f} steps/s · "
            f"{100 * means.get('wait', 0) / seconds:.0f} % waiting for data · {shown}".rstrip(" ·"),
        )

    return watch
