"""``polyres config``: the schema of run files, and run files from other repositories' options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Run files: their schema, and options files of other repositories.", no_args_is_help=True
)


@app.command()
def schema() -> None:
    """Print the JSON Schema of run files, for editors that complete and check YAML."""
    path = Path(__file__).parents[1] / "training" / "run.schema.json"  # found without importing torch
    typer.echo(path.read_text(encoding="utf-8"), nl=False)


@app.command(name="import")
def import_(
    options: Annotated[Path, typer.Argument(help="Options file (YAML) of BasicSR or the IGConv repository.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Run file to write; printed if not given.")
    ] = None,
) -> None:
    """Turn an options file into a run file; what does not carry over is listed in it as comments."""
    import yaml

    from polyres.files import replacing
    from polyres.training.importing import imported
    from polyres.training.reading import read_mapping

    run, notes = imported(read_mapping(options))
    lines = [f"# From {options.name}.", *(f"# {note}" for note in notes)]
    text = "\n".join(lines) + "\n" + yaml.safe_dump(run, sort_keys=False, default_flow_style=None, width=100)
    if output is None:
        typer.echo(text, nl=False)
        return
    with replacing(output) as stream:
        stream.write(text.encode())
    typer.echo(f"{output}: {len(notes)} notes; read the comments at its top")
