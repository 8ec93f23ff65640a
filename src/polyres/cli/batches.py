"""Running a batch for a person: results, failures and remarks told, and written down if asked."""

from __future__ import annotations

import io
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from polyres.errors import OutputError, PictureError, PolyresError, UsageError
from polyres.files import replacing
from polyres.scale import Scale

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from polyres.pictures import Format, Handling, Picture, Stack
    from polyres.pictures.stacks import Kind
    from polyres.upscale import Plan, Target, Tiling, Upscaler
    from polyres.upscale.batch import Batch, Job

#: Files whose headers are read to foresee the work of a run: enough to choose an engine by.
_COUNTED = 1000


@dataclass(frozen=True)
class Settings:
    """What applies to every picture of a run."""

    target: Target
    quality: int = 95
    max_pixels: int = 256_000_000
    verbose: bool = False
    trained: tuple[Scale, ...] = ()
    skip_existing: bool = False
    compare: bool = False
    verify_tiling: bool = False
    target_format: Format | None = None
    handling: Handling | None = None
    kind: Kind = "picture"
    told: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Outcome:
    """What became of one input; a line of the log."""

    input: str
    output: str | None
    status: Literal["written", "skipped", "failed"]
    reason: str | None = None
    size: tuple[int, int] | None = None
    enlarged: tuple[int, int] | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        if self.status == "skipped" or self.size is None or self.enlarged is None:
            return f"{self.output}  {self.reason}"
        (width, height), (wide, tall) = self.size, self.enlarged
        return f"{self.output}  {width}x{height} to {wide}x{tall}, {self.seconds:.1f} s"


class Run:
    """One run over a batch.

    Args:
        batch: what to do.
        upscaler: what does it.
        settings: for every picture.
        errors: console on standard error.
    """

    def __init__(self, batch: Batch, upscaler: Upscaler, settings: Settings, errors: Console) -> None:
        self.batch, self.upscaler, self.settings, self.errors = batch, upscaler, settings, errors
        self.failures: list[tuple[Path, PolyresError]] = list(batch.failures)
        self.outcomes: list[Outcome] = [
            Outcome(str(path), None, "failed", str(error)) for path, error in batch.failures
        ]
        self._bar: Callable[[float], None] = lambda part: None

    @property
    def made(self) -> int:
        """Inputs whose results are there."""
        return sum(outcome.status != "failed" for outcome in self.outcomes)

    def go(self) -> None:
        """Do all jobs, reading and writing beside the network."""
        from rich.console import Console
        from rich.markup import escape

        from polyres.upscale.batch import PIPE
        from polyres.upscale.overlap import overlapped

        to_pipe = any(job.target == PIPE for job in self.batch.jobs)
        results = Console(soft_wrap=True, highlight=False, stderr=to_pipe)
        with _progress(self.errors) as progress, warnings.catch_warnings():
            # Pillow tells of damaged metadata in several lines; what matters is in the notes and errors.
            warnings.filterwarnings("ignore", module="PIL")
            bar = progress.add_task("", total=len(self.batch.jobs))
            self._expect_files()

            def work(job: Job, read: tuple[Stack, bool]) -> Callable[[], Outcome]:
                done = len(self.outcomes) - len(self.batch.failures)
                progress.update(bar, completed=done, description=escape(job.source.name))
                self._bar = lambda part: progress.update(bar, completed=done + part)
                return self._work(job, *read)

            for job, outcome in overlapped(self.batch.jobs, self._read, work, PolyresError):
                if isinstance(outcome, Outcome):
                    self.outcomes.append(outcome)
                    results.print(str(outcome), markup=False)
                elif isinstance(outcome, UsageError) and not isinstance(outcome, PictureError):
                    raise outcome  # the next picture would fail for the same reason
                else:
                    self._failed(job, outcome)

    def _expect_files(self) -> None:
        """Tell the upscaler how much work there is, as far as headers say; of several frames nobody knows."""
        from polyres.pictures import picture_size
        from polyres.upscale.batch import PIPE

        settings = self.settings
        if settings.kind == "picture":
            done = {job for job in self.batch.jobs if settings.skip_existing and job.target.exists()}
            sources = [job.source for job in self.batch.jobs if job not in done and job.source != PIPE]
            sizes = map(picture_size, sources[:_COUNTED])
            self.upscaler.expect((size for size in sizes if size is not None), settings.target)

    def _failed(self, job: Job, error: Any) -> None:
        self.failures.append((job.source, error))
        self.outcomes.append(Outcome(str(job.source), str(job.target), "failed", str(error)))

    def _read(self, job: Job) -> tuple[Stack, bool]:
        """The picture, or its frames or bands, and whether its result is there already."""
        from polyres.pictures import Limits, Stack, decode_picture, read_stack
        from polyres.upscale.batch import PIPE

        limits = Limits(self.settings.max_pixels)
        if job.source == PIPE:
            content = io.BytesIO(sys.stdin.buffer.read())
            return Stack((decode_picture(content, "standard input", limits),)), False
        stack = read_stack(job.source, limits, self.settings.kind)
        return stack, self.settings.skip_existing and self._is_done(job, stack.pictures[0])

    def _is_done(self, job: Job, picture: Picture) -> bool:
        """Whether the result is there, can be read to its end, and has the size that is wanted."""
        from polyres.pictures import Limits, read_picture

        if not job.target.is_file():
            return False
        work = self.upscaler.plan(picture, target=self.settings.target)
        try:
            there = read_picture(job.target, Limits(work.width * work.height))
        except PolyresError:
            return False
        return (there.width, there.height) == (work.width, work.height)

    def _work(self, job: Job, stack: Stack, is_done: bool) -> Callable[[], Outcome]:
        """Enlarge one picture, or all its frames or bands; what is left to do is to write it."""
        from polyres.upscale.batch import PIPE
        from polyres.upscale.comparison import write_comparison
        from polyres.upscale.streaming import write_streamed

        started = time.monotonic()
        if is_done:
            skipped = Outcome(str(job.source), str(job.target), "skipped", "is there already")
            return lambda: skipped
        picture = stack.pictures[0]
        if job.source == PIPE:
            self.upscaler.expect([(picture.height, picture.width)], self.settings.target)
        for note in picture.notes:
            self.errors.print(f"{job.source}: {note}", markup=False)
        self._tell(job, picture)
        work = self.upscaler.plan(picture, target=self.settings.target)
        if self._is_streamed(job, picture, work):
            write_streamed(self.upscaler, picture, work, job.target, self._bar)
            sizes = (picture.width, picture.height), (work.width, work.height)
            seconds = round(time.monotonic() - started, 3)
            outcome = Outcome(str(job.source), str(job.target), "written", None, *sizes, seconds)
            return lambda: outcome
        results = stack.mapped(self._enlarged)
        enlarged = results.pictures[0]
        sizes = (picture.width, picture.height), (enlarged.width, enlarged.height)

        def finish() -> Outcome:
            self._write(results, job)
            if self.settings.compare:
                write_comparison(picture, enlarged, work, job.target)
            seconds = round(time.monotonic() - started, 3)
            return Outcome(str(job.source), str(job.target), "written", None, *sizes, seconds)

        return finish

    def _is_streamed(self, job: Job, picture: Picture, work: Plan) -> bool:
        """Whether the result is written while it is made: large, and nothing asked for that needs all of it."""
        from polyres.pictures import Handling
        from polyres.upscale.batch import PIPE
        from polyres.upscale.streaming import is_streamed

        settings = self.settings
        as_it_is = settings.handling in (None, Handling()) and settings.kind == "picture"
        plain = as_it_is and not settings.compare and job.target != PIPE
        return plain and is_streamed(picture, work, job.target)

    def _enlarged(self, picture: Picture) -> Picture:
        """``picture`` enlarged, and handled as asked."""
        from polyres.pictures import Handling

        handling = self.settings.handling or Handling()
        shown = handling.before(picture)
        enlarged = self.upscaler(shown, target=self.settings.target, on_progress=self._bar)
        return handling.after(enlarged, picture)

    def _write(self, stack: Stack, job: Job) -> None:
        from polyres.pictures import encode_picture, format_named, write_stack
        from polyres.upscale.batch import PIPE

        picture, dither = (
            stack.pictures[0],
            self.settings.handling is not None and self.settings.handling.dither,
        )
        if job.target != PIPE:
            self._tell_left_out(stack, job)
            write_stack(stack, job.target, self.settings.quality, dither=dither)
            return
        own = format_named(picture.format) if picture.format in _written() else format_named("png")
        content = io.BytesIO()
        wanted = self.settings.target_format or own
        encode_picture(picture, content, wanted, self.settings.quality, "standard output", dither=dither)
        try:
            sys.stdout.buffer.write(content.getvalue())
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # the reader has seen enough
            raise
        except OSError as error:
            sys.stdout = io.StringIO()  # what is left in the buffer would be tried again at the end
            raise OutputError(f"standard output: cannot be written: {error.strerror}") from error

    def _tell_left_out(self, stack: Stack, job: Job) -> None:
        from polyres.pictures import format_of, left_out

        target = format_of(job.target)
        several = len(stack.pictures) > 1
        lost = left_out(stack.pictures[0], target, several=several) if target is not None else ()
        if lost:
            self.errors.print(
                f"{job.target}: left out, for its format has no room: {', '.join(lost)}", markup=False
            )

    def _tell(self, job: Job, picture: Picture) -> None:
        """How ``picture`` will be made, if asked; what a person should know of it, once a run."""
        from polyres.upscale.planning import remarks
        from polyres.upscale.streaming import predicted_peak, tiling_of

        work = self.upscaler.plan(picture, target=self.settings.target)
        streamed = self._is_streamed(job, picture, work)
        tiling = tiling_of(self.upscaler, picture, work, streamed)
        if self.settings.verbose:
            peak = predicted_peak(self.upscaler, picture, work, streamed) / 1e6
            how = (
                f"{work}; about {peak:.0f} MB of memory{', the result streamed to disk' if streamed else ''}"
            )
            if tiling is not None and work.model_scale is not None:
                how = f"{how}; {tiling}; {self.upscaler.describe(work.model_scale)}"
            self.errors.print(f"{job.source}: {how}", markup=False)
        if tiling is not None and work.model_scale is not None:
            self._tell_tiling_error(job, picture, tiling, work.model_scale)
        for remark in remarks(work, picture.height, picture.width, self.settings.trained):
            if remark not in self.settings.told:
                self.settings.told.add(remark)
                self.errors.print(f"{job.source}: {remark}", markup=False)

    def _tell_tiling_error(self, job: Job, picture: Picture, tiling: Tiling, scale: Scale) -> None:
        """What tiles change, measured, if it was asked for or they are known to change something."""
        from polyres.upscale.streaming import tiling_error

        inexact = tiling.count > 1 and not tiling.exact
        if not (self.settings.verify_tiling or inexact):
            return
        error = tiling_error(self.upscaler, picture, scale)
        why = "" if not inexact else " (the network looks further than a tile and what is shown around it)"
        self.errors.print(
            f"{job.source}: tiles differ from the whole by at most {error:.1e} of 1 "
            f"({255 * error:.3f} of 255) on its central part{why}",
            markup=False,
        )

    def report(self) -> None:
        """Tell what failed, and leave with the exit status that says so."""
        from rich.table import Table
        from rich.text import Text

        if not self.failures:
            return
        if not self.made and len(self.failures) == 1:
            raise self.failures[0][1]
        skipped = sum(outcome.status == "skipped" for outcome in self.outcomes)
        done = f"{self.made - skipped} of {len(self.outcomes)} done"
        there = f", {skipped} there already" if skipped else ""
        table = Table(title=f"{done}{there}, {len(self.failures)} failed", title_justify="left")
        table.add_column("input", overflow="fold")
        table.add_column("reason", overflow="fold")
        for source, error in self.failures:
            table.add_row(Text(str(source)), Text(str(error).removeprefix(f"{source}: ")))
        self.errors.print(table)
        raise typer.Exit(2 if self.made else 1)

    def write_log(self, path: Path, model: str) -> None:
        """Write what became of every input as JSON; also of a run that was interrupted."""
        from polyres._version import __version__

        counts = {
            status: sum(outcome.status == status for outcome in self.outcomes)
            for status in ("written", "skipped", "failed")
        }
        content = {
            "polyres": __version__,
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "model": model,
            "target": self.settings.target.label,
            "jobs": len(self.batch.jobs) + len(self.batch.failures),
            **counts,
            "results": [asdict(outcome) for outcome in self.outcomes],
        }
        with replacing(path) as stream:
            stream.write(json.dumps(content, indent=1, ensure_ascii=False).encode(errors="backslashreplace"))


def _written() -> frozenset[str]:
    from polyres.pictures import FORMATS

    return frozenset(FORMATS)


def _progress(errors: Console) -> Progress:
    """A bar on standard error, if that is a terminal; standard output stays clean for a pipe."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = errors.is_terminal
    return Progress(
        *columns, console=errors, transient=True, disable=not shown, redirect_stdout=sys.stdout.isatty()
    )
