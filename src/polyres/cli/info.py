"""``polyres info``: what a model is, from its own file."""

from __future__ import annotations

from typing import Annotated

import typer


def info(
    model: Annotated[str, typer.Argument(help="Model name or file.")] = "default",
) -> None:
    """Print a model's card: what it is, its size, training and measured results."""
    from rich.console import Console
    from rich.table import Table

    from polyres.weights import load, load_card

    network, card = load(model), load_card(model)
    console = Console()
    table = Table(show_header=False, box=None)
    if network.config is not None:
        table.add_row("encoder", f"{network.config.encoder.name} {network.config.encoder.options or ''}")
        table.add_row(
            "upsampler", f"{network.config.upsampler.name} {network.config.upsampler.options or ''}"
        )
    table.add_row("parameters", f"{sum(p.numel() for p in network.parameters()):,}")
    for name in ("name", "summary", "licence", "source", "training_data", "training"):
        table.add_row(name.replace("_", " "), str(getattr(card, name)))
    table.add_row("scales", ", ".join(card.scales))
    console.print(table)
    if card.results:
        results = Table("set", "scale", "PSNR (dB)", "SSIM", "protocol")
        for row in card.results:
            results.add_row(row.data, row.scale, f"{row.psnr:.2f}", f"{row.ssim:.4f}", row.protocol)
        console.print(results)
