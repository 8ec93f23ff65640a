"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

ModelOption: TypeAlias = Annotated[
    str, typer.Option("-n", "--model", help="Name of a model, or a model file.")
]
