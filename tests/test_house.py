"""The architecture of DESIGN.md, read from the imports: arrows point down, no circles, no long files."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

import ipi_driver

PACKAGE = Path(ipi_driver.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_shipped" not in path.parts)
"""Without the inputs and models that an installed package holds."""
GROUND = {
    "allocator",
    "openmp",
    "wigner",
    "errors",
    "structure",
    "units",
    "elements",
    "neighbors",
    "lengths",
    "yaml_file",
    "whole_file",
    "shipped",
}
FLOORS = (
    GROUND,
    {"ipi_files", "observables"},
    {"networks"},
    {"potentials"},
    {"rotations"},
    {"symmetry", "client", "export"},
    {"runs", "training", "analysis", "report"},
    {"api"},
    {"studies"},
    {"cli"},
)
"""Rooms (folders, and the modules of the ground) from the bottom to the top."""
DOORS = {"__init__", "__main__"}
"""Modules that users enter by: they may import every room, and no room imports them."""
MOST_LINES = 400
TAKE_NAMES = {"cli", "api", "studies", "client/settings.py", "rotations/average.py", "rotations/tensors.py"}
"""Where a function may take an average by its name: a study writes the options of commands, averages are public."""


def test_every_room_has_its_floor() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    rooms -= {"__pycache__", "_shipped"} | DOORS
    assert rooms == set(_floors()), "a room is missing from FLOORS, or FLOORS names one that is gone"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_down(path: Path) -> None:
    room, floors = path.relative_to(PACKAGE).with_suffix("").parts[0], _floors()
    if room in DOORS:
        return
    for line, other in _imports(path):
        where = f"{path.relative_to(PACKAGE.parent)}:{line}: {room} imports {other}"
        assert other in floors, f"{where}, which no room may import"
        if other in ("ipi_files", "observables"):
            allowed = room == other or floors[room] > floors[other]
        else:
            allowed = floors[room] >= floors[other]
        assert allowed, f"{where}, which stands above it"


def test_no_two_rooms_import_each_other() -> None:
    arrows: dict[str, set[str]] = defaultdict(set)
    for path in MODULES:
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room not in DOORS:
            arrows[room] |= {other for _, other in _imports(path)} - {room}
    assert _circle(arrows) is None, f"circle of rooms: {' -> '.join(_circle(arrows) or [])}"


def test_a_circle_is_found() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) is not None
    assert _circle({"a": {"b", "c"}, "b": {"c"}}) is None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES, f"{path.relative_to(PACKAGE.parent)} has {lines} lines: split it"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_function_takes_the_name_of_an_average(path: Path) -> None:
    """A name becomes a `Quadrature` where it is read: in the command, the settings, or the public API."""
    where = path.relative_to(PACKAGE)
    if where.parts[0] in TAKE_NAMES or str(where) in TAKE_NAMES:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        named = [a for a in arguments if a.arg in ("average", "averages") and a.annotation is not None]
        for argument in named:
            kind = ast.unparse(argument.annotation) if argument.annotation else ""
            assert not re.search(r"\bstr\b", kind), f"{where}:{node.lineno}: {node.name} takes {kind}"


def _floors() -> dict[str, int]:
    return {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def _imports(path: Path) -> list[tuple[int, str]]:
    """Line and room of every import of the package, those inside functions and for the type checker included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; the test reads absolute ones"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names]
        found += [
            (node.lineno, room) for top, room, *_ in (p for p in parts if len(p) > 1) if top == "ipi_driver"
        ]
    # a public name comes through the package itself, from the room of the public functions
    found = [(line, "api" if room in ipi_driver.__all__ else room) for line, room in found]
    return [(line, room) for line, room in found if room != "__version__"]


def _circle(arrows: dict[str, set[str]]) -> list[str] | None:
    """Rooms on a circle of imports; None where there is none."""
    done: set[str] = set()

    def visit(room: str, way: list[str]) -> list[str] | None:
        if room in way:
            return [*way[way.index(room) :], room]
        if room in done:
            return None
        for other in sorted(arrows.get(room, ())):
            if circle := visit(other, [*way, room]):
                return circle
        done.add(room)
        return None

    for room in sorted(arrows):
        if circle := visit(room, []):
            return circle
    return None
