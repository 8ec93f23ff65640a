"""``polyres report``: one page of HTML about a model, from its file and the results of other commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyres.errors import UsageError

if TYPE_CHECKING:
    from polyres.evaluation import Report
    from polyres.evaluation.worst import Crop


def report(
    model: Annotated[str, typer.Argument(help="Model name or file, before any option.")] = "default",
    evaluation: Annotated[Path | None, typer.Option(help="Results of polyres evaluate --json.")] = None,
    profile: Annotated[Path | None, typer.Option(help="Results of polyres profile --json.")] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="Pictures that were measured, to show the worst crops.")
    ] = None,
    crops: Annotated[int, typer.Option(min=0, help="How many pictures have a crop shown.")] = 6,
    analyses: Annotated[Path | None, typer.Option(help="Folder that polyres analyze wrote.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.")] = Path("report.html"),
) -> None:
    """Write one self-contained page of HTML: card, results, costs, worst crops and analyses; opens offline."""
    from polyres.evaluation import Report
    from polyres.evaluation.page import read_analyses, report_page
    from polyres.evaluation.profiling import Profile
    from polyres.evaluation.reading import read_text
    from polyres.files import write_file

    if data and evaluation is None:
        raise UsageError("--data shows the pictures measured worst: give the measurements with --evaluation")
    results = Report.from_json(read_text(evaluation)) if evaluation else None
    page = report_page(
        Path(model).name,
        _facts(model),
        results,
        Profile.from_json(read_text(profile)) if profile else None,
        _worst(model, results, data, crops) if data and results else (),
        read_analyses(analyses) if analyses else (),
    )
    write_file(output, page.encode())
    typer.echo(f"{output}: {len(page) / 1e6:.1f} MB")


def _facts(model: str) -> dict[str, str]:
    """The card, and what the network is built from."""
    from polyres.deploy.cost import parameters
    from polyres.weights import load, load_card

    network, card = load(model), load_card(model)
    facts = {}
    if network.config is not None:
        for kind, part in (("encoder", network.config.encoder), ("upsampler", network.config.upsampler)):
            options = ", ".join(f"{name} {value}" for name, value in part.options.items())
            facts[kind] = f"{part.name} ({options})" if options else part.name
    facts["parameters"] = f"{parameters(network):,}"
    for name in ("summary", "licence", "source", "training_data", "training"):
        if getattr(card, name):
            facts[name.replace("_", " ")] = str(getattr(card, name))
    if card.scales:
        facts["scales"] = ", ".join(card.scales)
    return facts


def _worst(model: str, results: Report, data: list[Path], count: int) -> list[Crop]:
    from polyres.data import find_pairs
    from polyres.evaluation.models import model_upscaler
    from polyres.evaluation.worst import worst_crops
    from polyres.scale import Scale
    from polyres.weights import load

    scales = dict.fromkeys(row.scale for row in results.rows if row.model == model)
    if not scales:
        known = ", ".join(dict.fromkeys(row.model for row in results.rows))
        raise UsageError(f"the evaluation has no results of '{model}'; it has those of {known}")
    exact = [Scale.from_text(text) for text in scales]
    pairs = [pair for folder in data for pair in find_pairs(folder, exact)]
    return worst_crops(results, model, model_upscaler(load(model)), pairs, count) if count else []
