"""Reading what commands of this room have written as JSON."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from polyres.errors import DataError

M = TypeVar("M", bound=BaseModel)


def from_json(cls: type[M], text: str, what: str) -> M:
    """The ``cls`` that ``text`` holds.

    Raises:
        DataError: it holds none: "this is no ``what``", and what is wrong first.
    """
    try:
        return cls.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"this is no {what}: {where}: {first['msg']}") from None
