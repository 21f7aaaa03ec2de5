"""The plugin's JavaScript by itself: its style, and its tests in Node."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def npm() -> str:
    """npm, with the packages of package.json installed; without it CI fails and others skip."""
    found = shutil.which("npm")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI has no npm: the JavaScript cannot be checked")
        pytest.skip("no npm on this machine")
    run(found, "install", "--silent", "--no-package-lock", "--no-audit", "--no-fund")
    return found


@pytest.mark.parametrize("script", ["lint", "test"])
def test_script(npm: str, script: str) -> None:
    run(npm, "run", "--silent", script)


def run(*command: str) -> None:
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
