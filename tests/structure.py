"""Counts the rooms of isoline, their floors, arrows, circles and upward imports.

    python -m tests.structure [CHECKOUT]

A room is a module or package directly below `isoline`; an arrow says that one room imports another,
wherever the import stands, also under TYPE_CHECKING. The floors are the rooms on the longest chain
of arrows, where a circle of rooms is one floor. Circles are looked for among the modules of each
package too. An import is upward when it leads to a higher layer, or to an independent neighbour in
the same one, of the import-linter contract in the pyproject.toml of CHECKOUT.
"""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = "isoline"
CODE = {".py", ".js", ".mjs", ".java", ".groovy", ".html", ".css", ".sh"}
Graph = dict[str, set[str]]


def imports_between_modules(source: Path, package: str = PACKAGE) -> Graph:
    """Return, for each module below `source`, the modules of `package` that it imports."""
    files = {_name(path, source): path for path in sorted((source / package).rglob("*.py"))}
    return {name: set(_imported(path, name, files)) - {name} for name, path in files.items()}


def _name(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path, name: str, modules: dict[str, Path]) -> Iterator[str]:
    container = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                candidates = [alias.name for alias in names]
            case ast.ImportFrom(module=module, names=names, level=level):
                parts = container.split(".")[: len(container.split(".")) + 1 - level]
                base = ".".join([*(parts if level else ()), *([module] if module else ())])
                candidates = [f"{base}.{alias.name}" for alias in names]
            case _:
                continue
        for candidate in candidates:
            # what is imported is either a module or a name that the module before it defines
            found = candidate if candidate in modules else candidate.rpartition(".")[0]
            if found in modules:
                yield found


def siblings(modules: Graph, package: str) -> Graph:
    """Return the imports between what lies directly below `package`."""
    depth = package.count(".") + 1
    graph: Graph = defaultdict(set)
    for importer, imported in modules.items():
        if not importer.startswith(f"{package}."):
            continue
        room = importer.split(".")[depth]
        graph[room] |= {
            other.split(".")[depth] for other in imported if other.startswith(f"{package}.")
        } - {room}
    return dict(graph)


def circles(graph: Graph) -> list[set[str]]:
    """Return the sets of nodes that reach one another, where there is more than one."""
    reached = {node: _reachable(graph, node) for node in graph}
    found = []
    for node in graph:
        circle = {other for other in reached[node] if node in reached.get(other, ())}
        if len(circle) > 1 and circle not in found:
            found.append(circle)
    return found


def _reachable(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return seen


def floors(graph: Graph) -> int:
    """Return the number of nodes on the longest chain; a circle counts as one."""
    home = {node: frozenset({node}) for node in graph}
    for circle in circles(graph):
        home.update(dict.fromkeys(circle, frozenset(circle)))

    @cache
    def height(group: frozenset[str]) -> int:
        below = {home[other] for node in group for other in graph[node] if home[other] != group}
        return 1 + max(map(height, below), default=0)

    return max(map(height, home.values()), default=0)


def layers(checkout: Path) -> list[list[str]] | None:
    """Return the rooms of each layer, the highest first; None where no contract names them."""
    settings = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in settings.get("tool", {}).get("importlinter", {}).get("contracts", []):
        if contract["type"] == "layers" and PACKAGE in contract["containers"]:
            return [
                [room.strip().strip("()") for room in layer.split("|")]
                for layer in contract["layers"]
            ]
    return None


def upward(rooms: Graph, order: list[list[str]]) -> list[tuple[str, str]]:
    """Return the arrows that do not lead to a lower layer."""
    layer = {room: number for number, names in enumerate(order) for room in names}
    return sorted(
        (room, other)
        for room, imported in rooms.items()
        for other in imported
        if layer[room] >= layer[other]
    )


@dataclass(frozen=True)
class Structure:
    """What the imports of one checkout look like."""

    modules: Graph
    rooms: Graph
    circles_by_package: dict[str, list[set[str]]]
    upward: list[tuple[str, str]] | None

    @classmethod
    def of(cls, checkout: Path) -> Structure:
        """Read the sources of `checkout`."""
        modules = imports_between_modules(checkout / "backend")
        rooms = siblings(modules, PACKAGE)
        packages = sorted({name.rpartition(".")[0] for name in modules} - {""})
        found = {package: circles(siblings(modules, package)) for package in packages}
        order = layers(checkout)
        return cls(
            modules,
            rooms,
            {package: each for package, each in found.items() if each},
            None if order is None else upward(rooms, order),
        )


def lines(directory: Path) -> int:
    """Return the number of lines of code below `directory` that are not blank."""
    paths = (path for path in directory.rglob("*") if path.suffix in CODE)
    texts = (path.read_text(encoding="utf-8") for path in paths if "node_modules" not in path.parts)
    return sum(bool(line.strip()) for text in texts for line in text.splitlines())


def import_milliseconds(checkout: Path, repeats: int = 11) -> float:
    """Return the median time of `import isoline` in a new interpreter."""
    program = (
        "import time; start = time.perf_counter(); import isoline; "
        "print(1000 * (time.perf_counter() - start))"
    )
    environment = {**os.environ, "PYTHONPATH": str(checkout / "backend")}
    return statistics.median(
        float(
            subprocess.run(
                [sys.executable, "-c", program],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for _ in range(repeats)
    )


def _count(graph: Graph) -> int:
    return sum(map(len, graph.values()))


def main(arguments: list[str]) -> None:
    """Print what `Structure` says of the checkout that the arguments name, or of this one."""
    checkout = Path(arguments[0]) if arguments else Path(__file__).parents[1]
    structure = Structure.of(checkout)
    print(f"rooms            {len(structure.rooms)}, of {len(structure.modules)} modules")
    print(f"floors           {floors(structure.rooms)}")
    print(f"arrows           {_count(structure.rooms)}, of {_count(structure.modules)} imports")
    print(f"circles          {sum(map(len, structure.circles_by_package.values()))}")
    for package, found in structure.circles_by_package.items():
        for circle in found:
            print(f"                 {package}: {', '.join(sorted(circle))}")
    if structure.upward is None:
        print("upward imports   no layers in pyproject.toml")
    else:
        print(f"upward imports   {len(structure.upward)}")
        for importer, imported in structure.upward:
            print(f"                 {importer} imports {imported}")
    for name in ("backend", "plugins", "tests"):
        print(f"lines, {name:9} {lines(checkout / name)}")
    print(f"import isoline   {import_milliseconds(checkout):.1f} ms")


if __name__ == "__main__":
    main(sys.argv[1:])
