"""Commands that are imported when they are run: listing all of them loads none."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from polyres.cli.variadic import VariadicCommand


@dataclass(frozen=True)
class Listed:
    """One command of the list.

    Attributes:
        summary: the first paragraph of its help.
        variadic: whether its repeatable options take several values in a row.
        attribute: what it is called in the module of its name, if not that: a function, or a group.
    """

    summary: str
    variadic: bool = False
    attribute: str = ""


class LazyGroup(TyperGroup):
    """A group of the commands in ``listed``, each the module of its name in ``package``; subclasses say both."""

    package: ClassVar[str]
    listed: ClassVar[dict[str, Listed]]

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands.update(
            {name: TyperCommand(name, help=each.summary) for name, each in self.listed.items()}
        )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that ``args`` begin with, now imported."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else self.imported(name), rest

    def imported(self, name: str) -> Any:
        """The command called ``name`` as it is run."""
        entry = self.listed[name]
        found = getattr(importlib.import_module(f"{self.package}.{name}"), entry.attribute or name)
        if isinstance(found, typer.Typer):
            return get_group(found)
        alone = typer.Typer(add_completion=False)
        alone.command(name, cls=VariadicCommand if entry.variadic else None)(found)
        return get_command(alone)
