"""`docs/extending.md`: its examples are installed and run, and nothing of isoline lacks a test."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")

# the contracts of the examples, collected and run by pytest as tests of this file
sys.path.insert(0, str(EXAMPLES))
_contract = importlib.import_module("contract")
TestBrown = _contract.TestBrown
TestNpySource = _contract.TestNpySource
TestParts = _contract.TestParts
test_the_adapter_conforms = importlib.import_module("test_adapter").test_the_adapter_conforms

KINDS = {
    "sources": ("SourceContract", "source"),
    "models": ("ModelContract", "kind"),
    "exports": ("EncoderContract", "encoder"),
}
"""Group of entry points -> the end of its contracts' names, and what they call what they test."""


def blocks(language: str, page: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_pages_quote_every_example_word_for_word() -> None:
    conformance = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    quoted = {*blocks("python"), *blocks("python", conformance)}
    paths = list(EXAMPLES.glob("*.py"))
    assert len(paths) >= 3
    for path in paths:
        assert path.read_text(encoding="utf-8") in quoted, path.name


def test_the_page_quotes_the_viewer() -> None:
    viewer = (ROOT / "backend" / "isoline" / "server" / "web" / "viewer.html").read_text(
        encoding="utf-8"
    )
    assert blocks("js")
    for block in blocks("js"):
        assert block in viewer


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the examples as pip would have installed them."""
    (project,) = map(tomllib.loads, blocks("toml"))
    site = tmp_path_factory.mktemp("site")
    entry_points = ConfigParser()
    for group, entries in project["project"]["entry-points"].items():
        entry_points[group] = entries
        for value in entries.values():
            shutil.copy(EXAMPLES / f"{value.partition(':')[0]}.py", site)
    name, version = project["project"]["name"], project["project"]["version"]
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    with (info / "entry_points.txt").open("w") as file:
        entry_points.write(file)
    return site


def isoline(site: Path, *arguments: str | Path) -> str:
    """Run the command `isoline` with `site` installed; return what it prints."""
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "isoline", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_are_listed(installed: Path) -> None:
    assert re.search(r"^brown +Brown \(DAB\)$", isoline(installed, "models"), re.MULTILINE)


def test_an_image_of_the_new_kind_is_understood(installed: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "picture.npy", np.zeros((30, 70, 3), np.uint8))
    said = isoline(installed, "check", tmp_path / "picture.npy")
    assert re.search(r"^reader +npy$", said, re.MULTILINE)
    assert re.search(r"^size +70 x 30 px$", said, re.MULTILINE)


@pytest.mark.slow
def test_all_three_work_together(installed: Path, tmp_path: Path) -> None:
    """As on the page: a picture of the new kind, the new model, the new dialect."""
    picture = np.full((700, 900, 3), 240, np.uint8)
    brown = (120, 70, 30)
    picture[100:103, 200:205] = brown
    picture[400, 10:800] = brown  # crosses tiles
    picture[600:620, 600:620] = (70, 30, 120)
    np.save(tmp_path / "picture.npy", picture)
    (command,) = re.findall(r"^    isoline segment (.*)$", PAGE, re.MULTILINE)
    arguments = [
        tmp_path / each if each.startswith(("picture", "brown.")) else each
        for each in command.split()
    ]
    isoline(installed, "segment", *arguments, "--tile", "128", "--workers", "1")
    found = json.loads((tmp_path / "brown.json").read_text(encoding="utf-8"))
    assert sorted(each["parts"] for each in found) == [
        [[[[10, 400], [800, 400], [800, 401], [10, 401], [10, 400]]]],
        [[[[200, 100], [205, 100], [205, 103], [200, 103], [200, 100]]]],
    ]
    assert {each["label"] for each in found} == {"Positive"}


# Nothing of isoline without its contract and its docs


def registered(group: str) -> dict[str, str]:
    """Return name -> class of what isoline itself registers."""
    entries = metadata.entry_points(group=f"isoline.{group}")
    return {
        entry.name: entry.value.partition(":")[2]
        for entry in entries
        if entry.value.startswith("isoline.")
    }


def under_contract(group: str) -> Iterator[str]:
    """Yield the classes that a subclass of their contract in `tests/` names."""
    contract, tested = KINDS[group]
    for path in Path(__file__).parents[1].rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(base).endswith(contract) for base in node.bases
            ):
                for line in node.body:
                    named = re.fullmatch(rf"{tested} = (\w+)(\(\))?", ast.unparse(line))
                    if named:
                        yield named[1]


@pytest.mark.parametrize("group", KINDS)
def test_everything_registered_fulfils_its_contract(group: str) -> None:
    assert registered(group)
    assert set(registered(group).values()) <= set(under_contract(group))


@pytest.mark.parametrize("group", KINDS)
def test_everything_registered_is_in_the_docs(group: str) -> None:
    docs = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/*.md"))
    assert [name for name in registered(group) if f"`{name}`" not in docs] == []
