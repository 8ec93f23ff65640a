"""Logs of a run: JSON lines and CSV always, TensorBoard where it is installed, trackers where they are asked for."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import IO, Any

from polyres.training.config import RunConfig
from polyres.training.state import StepReport
from polyres.training.trackers import Trackers

_COLUMNS = ["step", "loss", "lr", "gradient", "steps_per_second", "wait"]

#: With a discriminator: what it adds to the loss, and its own.
_GAN_COLUMNS = ["adversarial", "discriminator"]

#: With a teacher: what it adds to the loss.
_TEACHER_COLUMNS = ["teacher"]


class RunLog:
    """Appends to ``log.jsonl``, ``steps.csv`` and TensorBoard event files in the run's folder.

    Args:
        config: of the run, whose folder exists.
        step: lines of later steps, from a run that went further than its checkpoint, are dropped.
    """

    def __init__(self, config: RunConfig, step: int) -> None:
        folder = config.output
        self._lines = _opened(folder / "log.jsonl", step)
        self._table = _opened(folder / "steps.csv", step)
        self._rows = csv.writer(self._table)
        optional = ((config.gan, _GAN_COLUMNS), (config.teacher, _TEACHER_COLUMNS))
        self._more = [name for section, names in optional if section is not None for name in names]
        if not self._table.tell():
            self._rows.writerow([*_COLUMNS, *self._more])
        self._board = _tensorboard(folder)
        self._trackers = Trackers(config) if config.trackers else None
        self._seconds = self._wait = 0.0
        self._steps = 0

    def count(self, report: StepReport) -> None:
        """Take in the time that a step took; a rejected step gets a line of its own."""
        self._seconds += report.seconds
        self._wait += report.wait
        self._steps += 1
        if report.fault is not None:
            self._line({"step": report.step, "kind": "rejected", "where": report.fault})

    def step(self, report: StepReport) -> None:
        """One line for a step: its loss, the speed and the share of time spent waiting for crops since the last."""
        values = {
            "loss": report.loss,
            "lr": report.lr,
            "gradient": report.gradient,
            "steps_per_second": self._steps / max(self._seconds, 1e-9),
            "wait": self._wait / max(self._seconds, 1e-9),
        }
        self._seconds, self._wait, self._steps = 0.0, 0.0, 0
        more = [f"{report.more[name]:.6g}" if name in report.more else "" for name in self._more]
        self._rows.writerow([report.step, *(f"{value:.6g}" for value in values.values()), *more])
        self._table.flush()
        self._write(report.step, "train", {**values, **report.more})

    def validation(self, step: int, psnr: dict[str, float]) -> None:
        """One line for a validation: PSNR in dB by scale."""
        self._write(step, "validation", {f"psnr_x{scale}": value for scale, value in psnr.items()})

    def close(self) -> None:
        """Flush and close everything."""
        self._lines.close()
        self._table.close()
        if self._board is not None:
            self._board.close()
        if self._trackers is not None:
            self._trackers.close()

    def _write(self, step: int, kind: str, values: dict[str, float]) -> None:
        # JSON has no word for what is not finite but null.
        rounded = {
            name: float(f"{value:.6g}") if math.isfinite(value) else None for name, value in values.items()
        }
        self._line({"step": step, "kind": kind, **rounded})
        named = {f"{kind}/{name}": value for name, value in values.items()}
        if self._board is not None:
            for name, value in named.items():
                self._board.add_scalar(name, value, step)
        if self._trackers is not None:
            self._trackers.log(named, step)

    def _line(self, content: dict[str, Any]) -> None:
        self._lines.write(json.dumps(content) + "\n")
        self._lines.flush()


def _opened(path: Path, step: int) -> IO[str]:
    """``path`` open for appending, without the lines of steps after ``step`` and what a crash left half-written."""
    if path.exists():
        kept = [line for line in path.read_text().splitlines(keepends=True) if _step_of(line) <= step]
        path.write_text("".join(kept) if step else "")
    return path.open("a", encoding="utf-8", newline="")


def _step_of(line: str) -> float:
    """The step that a line of either log belongs to; a heading belongs to step 0, a torn line to none."""
    if not line.endswith("\n"):
        return math.inf
    if line.startswith("{"):
        return int(json.loads(line)["step"])
    first = line.split(",", 1)[0]
    return int(first) if first.isdigit() else 0


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
