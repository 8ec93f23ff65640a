"""Options that take several values in a row: ``--scales 2 3 4`` as well as ``--scales 2 --scales 3``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand


class VariadicCommand(TyperCommand):
    """A command without arguments of its own, in which every repeatable option may be followed by several values.

    Registered by ``app.command(cls=VariadicCommand)``. Values end at the next word that starts with a dash.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat each repeatable option before each of its values, then parse as usual."""
        repeatable = {name for each in self.params if getattr(each, "multiple", False) for name in each.opts}
        return super().parse_args(ctx, spread(args, repeatable))


def spread(args: Iterable[str], repeatable: Iterable[str]) -> list[str]:
    """``args`` with every option of ``repeatable`` repeated: ``--scales 2 3`` -> ``--scales 2 --scales 3``."""
    names, spread_out = set(repeatable), list[str]()
    option, values = None, 0
    for word in args:
        if word.startswith("-"):
            option, values = (word if word in names else None), 0
        elif option is not None:
            values += 1
            if values > 1:
                spread_out.append(option)
        spread_out.append(word)
    return spread_out
