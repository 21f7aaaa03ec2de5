"""`tests/structure.py` counts what a small package of known shape has."""

from __future__ import annotations

from pathlib import Path

from tests.structure import Structure, floors, lines

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
