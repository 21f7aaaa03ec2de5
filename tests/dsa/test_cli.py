"""The task for slicer_cli_web: understood by it, and run as a container would run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.dsa.conftest import REGION, Archive
from tests.dsa.stack import PLUGIN

CLI = PLUGIN / "isoline_dsa" / "cli"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # -I: in a container there is nothing but the standard library
    command = [sys.executable, "-I", str(CLI / "__main__.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_slicer_cli_web_understands_it(archive: Archive) -> None:
    assert json.loads(run("--list_cli").stdout) == {"Segment": {"type": "python"}}
    xml = archive.stack.home / "Segment.xml"
    xml.write_text(run("Segment", "--xml").stdout)
    script = Path(__file__).parent / "inside_cli.py"
    told = json.loads(archive.stack.inside(script, str(xml)).splitlines()[-1])
    assert told == {
        "index": ["inputImageFile"],
        "optional": ["girderApiUrl", "girderToken", "model", "parameters", "region"],
        "copied": [],
        "filled in": ["girderApiUrl", "girderToken"],
    }


def test_it_segments_a_region(archive: Archive) -> None:
    x0, y0, x1, y1 = map(int, REGION)
    (file,) = archive.admin.call("GET", f"item/{archive.item}/files")
    given = [
        *("Segment", file["_id"], "--model", "nuclei"),
        *("--region", f"{x0},{y0},{x1 - x0},{y1 - y0}", "--parameters", "{}"),
        *("--girderApiUrl", f"{archive.stack.url}/api/v1"),
    ]
    done = run(*given, "--girderToken", archive.admin.token)
    assert done.returncode == 0, done.stderr
    assert "<filter-progress>1.0</filter-progress>" in done.stdout
    (annotation,) = archive.annotations()
    assert f"{len(archive.elements(annotation))} contours" in done.stdout

    refused = run(*given, "--girderToken", archive.stack.guest.token)
    assert refused.returncode != 0
    assert "Girder responded with 403" in refused.stderr
