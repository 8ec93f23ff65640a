"""What README and the pages of docs/ tell people to type: every command, option and file of it exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from polyres.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

#: A line of a block of code, and code within a sentence, that begins with the command.
LINE, INLINE = re.compile(r"^(polyres [a-z].*)", re.MULTILINE), re.compile(r"`(polyres [a-z][^`\n]*)`")


def typed(page: Path) -> Iterator[list[str]]:
    """The words of each command of ``page``: of whole lines within blocks, and of code within sentences."""
    text = re.sub(r"\\\n\s*", " ", page.read_text())
    for number, part in enumerate(re.split(r"^```.*$", text, flags=re.MULTILINE)):
        for line in (LINE if number % 2 else INLINE).findall(part):
            yield shlex.split(re.split(r"\s[|>]\s", line)[0], comments=True)[1:]


def options_of(words: list[str]) -> tuple[set[str], list[str]]:
    """All options of the command that ``words`` name, and the words after its name."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "resolve_command") and words:
        context = command.make_context("polyres", [], resilient_parsing=True)
        _, command, words = command.resolve_command(context, words)
    parameters = command.get_params(command.make_context("polyres", [], resilient_parsing=True))
    return {name for one in parameters for name in [*one.opts, *one.secondary_opts]}, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_options_exist(page: Path) -> None:
    for words in typed(page):
        names, rest = options_of(words)
        given = {word.split("=")[0] for word in rest if re.fullmatch(r"--?[a-z].*", word)}
        assert given <= names, f"{' '.join(words)}: no {', '.join(sorted(given - names))}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_recipes_and_benchmarks_exist(page: Path) -> None:
    for name in re.findall(r"\b(?:recipes|benchmarks)/[\w.-]+\.(?:yaml|py|md)\b", page.read_text()):
        assert (ROOT / name).is_file(), name


def test_the_readme_has_commands() -> None:
    assert len(list(typed(PAGES[0]))) > 10
