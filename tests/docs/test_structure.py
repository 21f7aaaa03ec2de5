"""`tests/structure.py` counts a small package of known shape; the docs show isoline's rooms."""

from __future__ import annotations

import re
from pathlib import Path

from tests.structure import Structure, floors, layers, lines

ROOT = Path(__file__).parents[2]

LAYERS = """
[[tool.importlinter.contracts]]
type = "layers"
containers = ["isoline"]
layers = ["app", "left | right", "(missing)", "base"]
"""
MODULES = {
    "__init__.py": "",
    "app.py": "from isoline import left\nfrom isoline.right import engine\n",
    "left.py": "from isoline import base\n\n\nif base:\n    from isoline.right.tool import x\n",
    "right/__init__.py": "",
    "right/engine.py": "from . import tool\nfrom .. import base\n",
    "right/tool.py": "import isoline.right.engine\n",
    "base.py": "if TYPE_CHECKING:\n    from isoline.app import App\n",
}


def written(checkout: Path, settings: str) -> Path:
    (checkout / "pyproject.toml").write_text(settings, encoding="utf-8")
    for name, text in MODULES.items():
        path = checkout / "backend" / "isoline" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return checkout


def test_a_package_of_known_shape(tmp_path: Path) -> None:
    structure = Structure.of(written(tmp_path, LAYERS))
    assert structure.rooms == {
        "app": {"left", "right"},
        "left": {"base", "right"},
        "right": {"base"},
        "base": {"app"},
    }
    assert structure.circles_by_package == {
        "isoline": [{"app", "left", "right", "base"}],
        "isoline.right": [{"engine", "tool"}],
    }
    assert structure.upward == [("base", "app"), ("left", "right")]
    assert floors(structure.rooms) == 1
    assert lines(tmp_path / "backend") == 10


def test_floors_are_the_rooms_of_the_longest_chain() -> None:
    assert floors({"a": {"b", "d"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": set()}) == 3


def test_without_a_contract_nothing_is_upward(tmp_path: Path) -> None:
    assert Structure.of(written(tmp_path, "")).upward is None


def test_architecture_shows_the_rooms_that_there_are_in_the_order_of_the_layers() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (`\w+`(?:, `\w+`)*) \|", page, re.MULTILINE)
    shown: dict[int, set[str]] = {}
    for floor, rooms in rows:
        shown.setdefault(int(floor), set()).update(re.findall(r"\w+", rooms))
    order = layers(ROOT)
    assert order is not None
    built = set(Structure.of(ROOT).rooms) - {"__main__"}
    assert set.union(*shown.values()) == built
    by_layer = [set(rooms) & built for rooms in reversed(order)]
    assert [shown[floor] for floor in sorted(shown)] == [rooms for rooms in by_layer if rooms]
