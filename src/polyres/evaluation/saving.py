"""Results on disk: written to a temporary name beside the target and moved there, so that no half file is left."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from polyres.evaluation.report import Row
from polyres.files import write_file


def save_picture(folder: Path, row: Row, picture: npt.NDArray[np.uint8]) -> Path:
    """``picture`` as ``folder/MODEL/SET/xSCALE/NAME.png``; returns the path.

    Raises:
        OutputError: it cannot be written there.
    """
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    path = picture_path(folder, *row.key)
    write_file(path, stream.getvalue())
    return path


def picture_path(folder: Path, model: str, group: str, scale: str, picture: str) -> Path:
    """Where :func:`save_picture` puts a result."""
    return folder.joinpath(*(_safe(part) for part in (model, group, f"x{scale}", f"{picture}.png")))


def _safe(part: str) -> str:
    """``part`` as one component of a path: a model may be named by a path of its own."""
    return re.sub(r"[^\w.+,-]+", "_", part).lstrip(".") or "_"
