"""Results on disk: written to a temporary name beside the target and moved there, so that no half file is left."""

from __future__ import annotations

import io
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from polyres.errors import OutputError
from polyres.evaluation.report import Row


def write_file(path: Path, content: bytes) -> None:
    """``content`` at ``path``, whole or not at all; folders above it are made.

    Raises:
        OutputError: it cannot be written there.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(
            f"cannot write '{path}': {error.strerror or error}; choose a place you may write to"
        ) from error


def save_picture(folder: Path, row: Row, picture: npt.NDArray[np.uint8]) -> Path:
    """``picture`` as ``folder/MODEL/SET/xSCALE/NAME.png``; returns the path.

    Raises:
        OutputError: it cannot be written there.
    """
    parts = [_safe(part) for part in (row.model, row.group, f"x{row.scale}", f"{row.picture}.png")]
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    path = folder.joinpath(*parts)
    write_file(path, stream.getvalue())
    return path


def _safe(part: str) -> str:
    """``part`` as one component of a path: a model may be named by a path of its own."""
    return re.sub(r"[^\w.+,-]+", "_", part).lstrip(".") or "_"
