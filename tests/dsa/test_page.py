"""The panel's modules as the one script that Girder loads: no Girder needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.dsa.stack import PLUGIN, imported_alone

page = imported_alone("page")


def test_each_module_follows_those_that_it_imports() -> None:
    assert sorted(f"{name}.js" for name in page.MODULES) == sorted(
        path.name for path in page.WEB.glob("*.js")
    )
    for place, name in enumerate(page.MODULES):
        text = (page.WEB / f"{name}.js").read_text(encoding="utf-8")
        imported = re.findall(r"^import .* from '\./(\w+)\.js';$", text, re.MULTILINE)
        assert set(imported) <= set(page.MODULES[:place]), name


@pytest.mark.parametrize("name", ["attempt.js", "retry.js"])
def test_requests_are_tried_again_as_in_ohif(name: str) -> None:
    of_ohif = PLUGIN.parent / "ohif" / "src" / name
    assert (page.WEB / name).read_bytes() == of_ohif.read_bytes()


def test_together_they_are_one_script(tmp_path: Path) -> None:
    """No two of them use one name for two things, for they share a scope."""
    node = shutil.which("node")
    if node is None:
        assert os.environ.get("CI") != "true"
        pytest.skip("no node on this machine")
    script = tmp_path / "plugin.js"
    script.write_bytes(page.script())
    ran = subprocess.run(
        [node, "--check", str(script)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
