"""``polyres export``: a model at one scale as a file that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyres.errors import UsageError
from polyres.scale import Scale


def export(
    model: Annotated[str, typer.Argument(help="Model name or file.")] = "default",
    scale: Annotated[str, typer.Option("-s", "--scale", help="Factor, such as 2, 3, 2.5 or 5/2.")] = "2",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write (.onnx). Default: 2x_NAME.onnx in this folder."),
    ] = None,
) -> None:
    """Write a model at one scale as an ONNX file for pictures of any size.

    The file is compared with the model, at sizes that it was not made at, before it is written.
    """
    from polyres.deploy import fuse
    from polyres.deploy.onnx import OPSET, export_onnx
    from polyres.weights import load, load_card, resolve

    wanted = Scale.of(scale)
    target = output or Path(f"{_in_a_name(wanted)}x_{resolve(model).stem}.onnx")
    if target.suffix.lower() != ".onnx":
        raise UsageError(f"--output names an ONNX file, which ends in .onnx; got '{target}'")
    card = load_card(model)
    described = {"name": card.name, "licence": card.licence, "training_data": card.training_data}
    difference = export_onnx(fuse(load(model), wanted), target, described)
    typer.echo(
        f"{target}: x{wanted}, opset {OPSET}, {target.stat().st_size / 1e6:.1f} MB; "
        f"differs from the model by at most {difference:.1e} of 1"
    )


def _in_a_name(scale: Scale) -> str:
    """``2``, ``2.5`` or ``7-3``: what a file name can hold."""
    return str(scale).replace("/", "-").replace(",", "-")
