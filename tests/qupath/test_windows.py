"""The menu and the windows of QuPath's extension and script, in JavaFX on a display."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.qupath import building as qupath
from tests.qupath.building import PLUGIN, Proxy, joined, proxied
from tests.qupath.test_client import REGION, URI
from tests.serving import free_port
from tests.slides import Shapes

NATIVE = "/usr/lib/*/jni/libglass.so"
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
"""To look at; nothing compares them."""


def test_every_window_does_what_it_says(server: str, disk_slide: Shapes) -> None:
    if shutil.which("xvfb-run") is None or not [*Path("/").glob(NATIVE[1:])]:
        missing = "no display, or no JavaFX to show on it: install xvfb and libopenjfx-jni"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    build = qupath.built()
    y, x = (disk_slide.labels[1000:1400, 1000:1400] > 0).nonzero()
    point = {"type": "Point", "coordinates": [1000.5 + int(x[0]), 1000.5 + int(y[0])]}
    feature = {"type": "Feature", "geometry": point, "properties": {"objectType": "annotation"}}
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    asked: dict[str, Any] = {
        "pictures": str(SCREENSHOTS),
        "nobody": f"http://127.0.0.1:{free_port()}",
        "pan": [2400, 2200],
        "uri": URI,
        "size": [6007, 5003],
        "um": 0.25,
        "region": REGION,
        "click": {"type": "FeatureCollection", "features": [feature]},
    }
    proxy = Proxy(server)
    command = [
        *("xvfb-run", "-a", "java", "-XX:TieredStopAtLevel=1", "-Dprism.order=sw"),
        *("-cp", joined(build.harness("java")), "groovy.ui.GroovyMain"),
        *map(str, (PLUGIN / "test" / "windows.groovy", PLUGIN / "isoline.groovy")),
    ]
    with proxied(proxy) as url:
        command.append(json.dumps({**asked, "url": url}))
        result = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stdout + result.stderr
    said = json.loads(result.stdout.splitlines()[-1])
    assert said["menu"][:3] == ["Run model...", "Segment selected objects", "Click to segment"]
    assert said["waiting"].startswith(f"Nothing answers at {asked['nobody']}")
    assert said["connection"].startswith("Connected to isoline")
    assert "Threshold" in said["models"]
    assert not {"Flood", "Threshold in volumes"} & set(said["models"])
    assert said["run"] == said["script"] == "Done."
    assert said["found"] > 100
    assert proxy.moves[-1] == {"focus": asked["pan"]}
    assert "left" in said["slow"]
    assert said["cancelled"].startswith("Cancelled")
    assert re.fullmatch(r"\d+ objects were removed\.", said["removed"])
    assert said["after_removal"] == said["found"]
    assert said["results"] == 1
    menu, _, clicked, script = said["steps"]
    assert menu.startswith("isoline.qupath.Isoline.run(")
    assert '"prompts":[{"kind":"point"' in clicked
    assert script.startswith("run(new File('")
    assert "'--model', 'threshold'" in script
