"""Reading results back from files."""

from __future__ import annotations

from pathlib import Path

from polyres.errors import DataError


def read_text(path: Path) -> str:
    """The text at ``path``.

    Raises:
        DataError: there is none, or it is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DataError(f"'{path}' is not text; expected a file that polyres wrote") from None
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror or error}") from error
