"""``polyres analyze``: what networks have learned and what they do, each analysis a command that writes PNG and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyres.cli.variadic import VariadicCommand
from polyres.errors import UsageError

if TYPE_CHECKING:
    from polyres.evaluation.analysis import Finding
    from polyres.model import SRModel
    from polyres.scale import Scale

analyze = typer.Typer(
    help="Look into networks: kernels, features, symmetry, reach, spectra; pictures (PNG) and tables (CSV).",
    no_args_is_help=True,
)

Models = Annotated[list[str] | None, typer.Argument(help="Model names or files, before any option.")]
One = Annotated[str, typer.Argument(help="Model name or file.")]
Out = Annotated[Path, typer.Option("-o", "--output", help="Folder for the pictures and tables.")]
Image = Annotated[Path | None, typer.Option(help="Picture to look at; without, a drawn one.")]
Size = Annotated[int, typer.Option(help="Side in pixels of the part in the picture's middle that is used.")]
OneScale = Annotated[str, typer.Option(help="Scale, such as 4 or 2.5.")]
FOLDER = Path("analysis")


@analyze.command(cls=VariadicCommand)
def kernels(
    model: One = "default",
    layers: Annotated[str, typer.Option(help="Names of convolutions; * stands for anything.")] = "*",
    per: Annotated[str, typer.Option(help="A kernel is an out-channel, or a slice of one.")] = "out-channel",
    symmetrise: Annotated[str, typer.Option(help="none, mirror, jeffreys or js.")] = "none",
    vmax: Annotated[float, typer.Option(help="Where the colours end.")] = 0.1,
    output: Out = FOLDER,
) -> None:
    """How alike the kernels of each layer are, before and after recalibration (KRGN, Figure 4)."""
    from polyres.evaluation.analysis.kernels import find

    network = next(iter(_load([model]).values()))
    subject = f"{model}, layers {layers}, per {per}, symmetrise {symmetrise}"
    _write(find(network, layers, per, symmetrise, vmax), output, subject)  # type: ignore[arg-type]


@analyze.command(cls=VariadicCommand)
def similarity(
    model: Models = None,
    scales: Annotated[list[str] | None, typer.Option(help="Scales, such as 2 3 4.")] = None,
    image: Image = None,
    size: Size = 192,
    output: Out = FOLDER,
) -> None:
    """How alike the encoders' features are, across models and scales (CKA)."""
    from polyres.cli.evaluate import parse_scales
    from polyres.evaluation.analysis.inputs import picture
    from polyres.evaluation.analysis.similarity import find

    models, exact = _load(model), parse_scales(scales or ["2", "3", "4"])
    _write(find(models, exact, picture(image, size)), output, _subject(models, exact, image, size))


@analyze.command(cls=VariadicCommand)
def generated(
    model: One = "default",
    grids: Annotated[list[int] | None, typer.Option(help="Sub-pixels a side, such as 2 3 4 32.")] = None,
    channels: Annotated[int, typer.Option(help="Input channels shown, those that vary most.")] = 8,
    output: Out = FOLDER,
) -> None:
    """The generated kernels over the sub-pixel grid of several scales."""
    from polyres.evaluation.analysis.generated import find

    _write(find(next(iter(_load([model]).values())), grids or (2, 3, 4, 32), channels), output, model)


@analyze.command()
def equivariance(
    model: Models = None, scale: OneScale = "2", image: Image = None, size: Size = 64, output: Out = FOLDER
) -> None:
    """How far results of turned, moved, negative, lifted or flattened pictures are from the result so changed."""
    from polyres.evaluation.analysis.equivariance import find
    from polyres.evaluation.analysis.inputs import picture, tensor

    models, exact = _load(model), _scale(scale)
    found = find(models, exact, tensor(picture(image, size)))
    _write(found, output, _subject(models, [exact], image, size))


@analyze.command("receptive-field")
def receptive_field(
    model: Models = None, scale: OneScale = "4", image: Image = None, size: Size = 64, output: Out = FOLDER
) -> None:
    """How much each input pixel changes the middle of the result (effective receptive field)."""
    from polyres.evaluation.analysis.inputs import picture, tensor
    from polyres.evaluation.analysis.receptive_field import find

    models, exact = _load(model), _scale(scale)
    found = find(models, exact, tensor(picture(image, size)))
    _write(found, output, _subject(models, [exact], image, size))


@analyze.command()
def attribution(
    model: Models = None,
    scale: OneScale = "4",
    image: Image = None,
    size: Size = 64,
    patch: Annotated[int, typer.Option(help="Side of the patch, in pixels of the result.")] = 16,
    steps: Annotated[int, typer.Option(help="Steps from the blurred picture to the sharp one.")] = 20,
    output: Out = FOLDER,
) -> None:
    """Which input pixels the details of a patch of the result come from (LAM)."""
    from polyres.evaluation.analysis.attribution import find
    from polyres.evaluation.analysis.inputs import picture, tensor

    models, exact = _load(model), _scale(scale)
    found = find(models, exact, tensor(picture(image, size)), patch, steps)
    _write(found, output, f"{_subject(models, [exact], image, size)}, patch {patch}, {steps} steps")


@analyze.command()
def spectrum(
    model: Models = None, scale: OneScale = "4", image: Image = None, size: Size = 256, output: Out = FOLDER
) -> None:
    """Power of the error at each spatial frequency; the picture is the original, which is shrunk first."""
    from polyres.evaluation.analysis.inputs import picture
    from polyres.evaluation.analysis.spectrum import find

    models, exact = _load(model), _scale(scale)
    _write(find(models, exact, picture(image, size)), output, _subject(models, [exact], image, size))


def _load(names: list[str] | None) -> dict[str, SRModel]:
    """The models, called by the names of their files without folders unless two are equal then."""
    from polyres.weights import load

    wanted = list(dict.fromkeys(names or ["default"]))
    short = [Path(name).name for name in wanted]
    called = short if len(set(short)) == len(short) else wanted
    return {name: load(each).requires_grad_(False) for name, each in zip(called, wanted, strict=True)}


def _scale(word: str) -> Scale:
    from polyres.cli.evaluate import parse_scales

    scales = parse_scales([word])
    if len(scales) != 1:
        raise UsageError(f"this analysis looks at one scale; got {word}")
    return scales[0]


def _subject(models: dict[str, SRModel], scales: Sequence[Scale], image: Path | None, size: int) -> str:
    shown = "a drawn picture" if image is None else image.name
    return f"{', '.join(models)} at x{', x'.join(map(str, scales))}, {size} pixels of {shown}"


def _write(finding: Finding, folder: Path, subject: str) -> None:
    """Write the files, and print what was found, how, and where the files are."""
    from rich.console import Console

    from polyres.evaluation.analysis import write_finding

    paths = write_finding(finding, folder, subject)
    console = Console()
    for line in (
        finding.headline,
        f"formula: {finding.analysis.formula}",
        f"source: {finding.analysis.source}",
        f"written: {', '.join(map(str, paths))}",
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
