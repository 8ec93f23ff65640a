"""The shape of the house: who may import whom, what importing costs, what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import polyres

SOURCE = Path(polyres.__file__).parent

#: Rooms from the ground up; a room may import those on floors below its own, and itself.
FLOORS = [
    {"_version", "errors", "scale"},
    {"files"},
    {"registry", "pictures", "layers"},
    {"encoders", "upsamplers", "discriminators", "losses", "metrics", "data"},
    {"model"},
    {"deploy", "weights", "training"},
    {"upscale", "evaluation"},
    {"serve"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
#: Within a floor, these may build on each other in this direction.
NEIGHBOURS = {("training", "weights"), ("training", "deploy"), ("scale", "errors")}


def imports() -> list[tuple[str, str, str]]:
    """(file, its room, room that it imports), lazy imports included; type-only ones too."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
                if node.module == "polyres":
                    modules = [f"polyres.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            for module in modules:
                parts = module.split(".")
                if parts[0] == "polyres" and len(parts) > 1 and parts[1] != room:
                    found.append((str(path.relative_to(SOURCE)), room, parts[1]))
    return found


def test_imports_point_downwards() -> None:
    wrong = [
        f"{file} imports {target}"
        for file, room, target in imports()
        if not (FLOOR[target] < FLOOR[room] or (room, target) in NEIGHBOURS)
    ]
    assert wrong == []


def test_every_room_is_on_a_floor() -> None:
    rooms = {path.name.removesuffix(".py") for path in SOURCE.iterdir() if path.suffix in ("", ".py")}
    assert rooms - {"__init__", "__pycache__"} <= FLOOR.keys()


def test_every_module_says_what_it_is_for() -> None:
    missing = [str(p) for p in SOURCE.rglob("*.py") if not ast.get_docstring(ast.parse(p.read_text()))]
    assert missing == []


@pytest.mark.parametrize("code", ["import polyres", "import polyres.cli", "from polyres import Scale"])
def test_importing_is_light(code: str) -> None:
    check = f"import sys; before = list(sys.argv); {code}; assert 'torch' not in sys.modules; assert sys.argv == before"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_public_names_exist_and_are_all() -> None:
    assert all(getattr(polyres, name) is not None for name in polyres.__all__)
    assert set(polyres.__all__) == set(dir(polyres))
    with pytest.raises(AttributeError):
        polyres.nothing  # noqa: B018


def test_no_room_hides_a_public_name() -> None:
    # Importing polyres.evaluation sets that attribute of the package: a room called "evaluate" would replace the
    # function as soon as anything imported from it.
    rooms = {path.name.removesuffix(".py") for path in SOURCE.iterdir()}
    assert not rooms & set(polyres.__all__)
