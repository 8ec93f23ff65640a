"""Figures as PNG and SVG, drawn by matplotlib without its windows and its global state."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyres.errors import MissingExtraError, OutputError
from polyres.files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What figures are written as.
SUFFIXES = (".png", ".svg")
_DOTS_PER_INCH = 120


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` by ``height`` inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("drawing figures", "plots") from None
    return Figure(figsize=(width, height), layout="constrained")


def encoded(figure: Figure, suffix: str = ".png") -> bytes:
    """The figure's file, equal for equal figures: it bears no date."""
    from matplotlib import rc_context

    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": "polyres"}):
        figure.savefig(
            stream,
            format=suffix.removeprefix("."),
            dpi=_DOTS_PER_INCH,
            metadata={"Date": None} if suffix == ".svg" else {},
        )
    return stream.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path``, PNG or SVG by its suffix.

    Raises:
        OutputError: another suffix, or a place that cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{path}: figures are written as {' or '.join(SUFFIXES)}")
    write_file(path, encoded(figure, path.suffix.lower()))


def draw_matrix(figure: Figure, axes: Any, values: Any, label: str, **options: Any) -> None:
    """``values`` (rows, columns) as a heat map in ``axes`` with a colour bar that says ``label``."""
    image = axes.imshow(values, interpolation="nearest", **options)
    figure.colorbar(image, ax=axes, label=label, shrink=0.8)
