"""The command line: one file a command, and the one place that turns errors into exit statuses."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from polyres._version import __version__
from polyres.cli.analyze import analyze
from polyres.cli.compare import compare
from polyres.cli.config import app as config
from polyres.cli.convert import convert
from polyres.cli.data import app as data
from polyres.cli.doctor import doctor
from polyres.cli.evaluate import evaluate
from polyres.cli.export import export
from polyres.cli.info import info
from polyres.cli.profile import profile
from polyres.cli.report import report
from polyres.cli.train import train
from polyres.cli.upscale import upscale
from polyres.cli.variadic import VariadicCommand
from polyres.cli.video import video
from polyres.errors import PolyresError, UsageError

app = typer.Typer(
    name="polyres",
    help="Single-image super-resolution: one network, every scale.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(upscale)
app.command(cls=VariadicCommand)(evaluate)
app.command()(compare)
app.command(cls=VariadicCommand)(profile)
app.add_typer(analyze, name="analyze")
app.command(cls=VariadicCommand)(report)
app.command()(train)
app.command()(info)
app.command()(convert)
app.add_typer(config, name="config")
app.add_typer(data, name="data")
app.command()(export)
app.command()(doctor)
app.command()(video)


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
    try:
        app(prog_name="polyres")
    except PolyresError as error:
        typer.echo(f"polyres: {' '.join(str(error).split())}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        typer.echo("polyres: interrupted", err=True)
        sys.exit(130)
