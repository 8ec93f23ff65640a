"""Logs of a run: JSON lines and CSV always, TensorBoard where it is installed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import IO, Any

from polyres.training.loop import StepReport


class RunLog:
    """Appends to ``log.jsonl``, ``steps.csv`` and TensorBoard event files in ``folder``.

    Args:
        folder: of the run; exists.
        step: lines of later steps, from a run that went further than its checkpoint, are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._lines = _opened(folder / "log.jsonl", step)
        self._table = _opened(folder / "steps.csv", step)
        self._rows = csv.writer(self._table)
        if not self._table.tell():
            self._rows.writerow(["step", "loss", "lr", "gradient", "steps_per_second"])
        self._board = _tensorboard(folder)

    def step(self, report: StepReport, speed: float) -> None:
        """One line for a step; ``speed`` in steps a second."""
        values = {
            "loss": report.loss,
            "lr": report.lr,
            "gradient": report.gradient,
            "steps_per_second": speed,
        }
        self._rows.writerow([report.step, *(f"{value:.6g}" for value in values.values())])
        self._table.flush()
        self._write(report.step, "train", values)

    def validation(self, step: int, psnr: dict[str, float]) -> None:
        """One line for a validation: PSNR in dB by scale."""
        self._write(step, "validation", {f"psnr_x{scale}": value for scale, value in psnr.items()})

    def close(self) -> None:
        """Flush and close everything."""
        self._lines.close()
        self._table.close()
        if self._board is not None:
            self._board.close()

    def _write(self, step: int, kind: str, values: dict[str, float]) -> None:
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        self._lines.write(json.dumps({"step": step, "kind": kind, **rounded}) + "\n")
        self._lines.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)


def _opened(path: Path, step: int) -> IO[str]:
    """``path`` open for appending, without the lines of steps after ``step``."""
    if path.exists():
        kept = [line for line in path.read_text().splitlines(keepends=True) if _step_of(line) <= step]
        path.write_text("".join(kept) if step else "")
    return path.open("a", encoding="utf-8", newline="")


def _step_of(line: str) -> int:
    """The step that a line of either log belongs to; a heading belongs to step 0."""
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
