"""``polyres convert``: a checkpoint of an original implementation becomes a file that describes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from polyres.errors import ConfigError


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="Weights of an original implementation (.pth, .safetensors).")
    ],
    output: Annotated[Path, typer.Argument(help="File to write (.safetensors).")],
    options: Annotated[
        Path | None,
        typer.Option(
            help="Options file (YAML) that holds network_g; without it sizes are read from the weights."
        ),
    ] = None,
    licence: Annotated[str, typer.Option(help="SPDX identifier of the weights' licence.")] = "unknown",
) -> None:
    """Rewrite a checkpoint of an original repository as a polyres model file."""
    from polyres.weights import ModelCard, load, save

    model = load(checkpoint, network_g=None if options is None else read_network_g(options))
    save(
        model,
        output,
        ModelCard(name=output.stem, source=f"converted from {checkpoint.name}", licence=licence),
    )
    if model.config is not None:
        typer.echo(f"{output}: {model.config.encoder.name} with {model.config.upsampler.name}")
        typer.echo(f"  encoder {model.config.encoder.options}")
        typer.echo(f"  upsampler {model.config.upsampler.options}")


def read_network_g(path: Path) -> dict[str, Any]:
    """The ``network_g`` of a BasicSR-style options file.

    Raises:
        ConfigError: no such file, no YAML, or no ``network_g`` in it.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the options file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    network = content.get("network_g") if isinstance(content, dict) else None
    if not isinstance(network, dict):
        raise ConfigError(f"{path} has no network_g, which names the network and its sizes")
    return network
