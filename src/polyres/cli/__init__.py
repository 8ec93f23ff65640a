"""The command line: one file a command, and the one place that turns errors into exit statuses."""

from __future__ import annotations

import sys
from typing import Annotated, ClassVar

import typer

from polyres._version import __version__
from polyres.cli.lazy import LazyGroup, Listed
from polyres.cli.memory import keep_freed_memory
from polyres.errors import PolyresError, UsageError


class Commands(LazyGroup):
    """The commands, in the order of the help."""

    package: ClassVar = "polyres.cli"
    listed: ClassVar = {
        "upscale": Listed("Enlarge pictures."),
        "evaluate": Listed(
            "Measure models on pictures whose original is known, by a named protocol.", variadic=True
        ),
        "compare": Listed(
            "Compare two models picture by picture: mean difference, 95 % bootstrap interval, Wilcoxon's test."
        ),
        "profile": Listed(
            "Count parameters, multiply-adds, memory and time of models, and plot quality against cost.",
            variadic=True,
        ),
        "report": Listed(
            "Write one self-contained page of HTML: card, results, costs, worst crops and analyses; opens offline.",
            variadic=True,
        ),
        "train": Listed("Train a model on pictures; interrupted runs go on with --resume."),
        "info": Listed("Print a model's card: what it is, its size, training and measured results."),
        "convert": Listed("Rewrite a checkpoint of an original repository as a polyres model file."),
        "export": Listed("Write a model at one scale as an ONNX file for pictures of any size."),
        "doctor": Listed(
            "Look at the environment, engines, codecs, memory and the bundled model; say what to do where something "
            "is amiss."
        ),
        "video": Listed(
            "Enlarge a video (extra: video). Started again after an interruption, it goes on where it was."
        ),
        "analyze": Listed(
            "Look into networks: kernels, features, symmetry, reach, spectra; pictures (PNG) and tables (CSV)."
        ),
        "config": Listed(
            "Run files: their schema, and options files of other repositories.", attribute="app"
        ),
        "data": Listed("Pack, check, verify and sort data sets.", attribute="app"),
    }


app = typer.Typer(
    name="polyres",
    cls=Commands,
    help="Single-image super-resolution: one network, every scale.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"polyres {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Single-image super-resolution: one network, every scale."""


def main() -> None:
    """Run the command line; exit with 0, 1 (error), 2 (wrong usage, or some inputs failed) or 130 (interrupted)."""
    keep_freed_memory()
    try:
        app(prog_name="polyres")
    except PolyresError as error:
        typer.echo(f"polyres: {' '.join(str(error).split())}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        typer.echo("polyres: interrupted", err=True)
        sys.exit(130)
