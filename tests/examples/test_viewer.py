"""`docs/examples/viewer.py`, run as on the page, with a real server."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from shapely.geometry import Polygon

from isoline_client import Client, Contours, Done
from tests.serving import serving
from tests.slides import disks

VIEWER = Path(__file__).parents[2] / "docs" / "examples" / "viewer.py"
SLIDE = "slides/disks.tif"
REGION = (100.0, 100.0, 900.0, 700.0)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    images = tmp_path_factory.mktemp("images")
    disks(images / "disks.tif", (1201, 1003))
    data = tmp_path_factory.mktemp("data")
    with serving(images, data, more="[engine]\nworkers = 1\nurgent_workers = 1\n") as url:
        yield url


def viewer(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", str(VIEWER), *map(str, arguments)]
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def printed(*arguments: object) -> list[str]:
    said, problem = viewer(*arguments).communicate(timeout=120)
    assert not problem
    return said.splitlines()


def left(lines: Sequence[str]) -> dict[str, Polygon]:
    """Return what is on the screen after these lines, as outlines by id."""
    screen: dict[str, Polygon] = {}
    for line in lines:
        mark, key, *rest = line.split(maxsplit=2)
        if mark == "-":
            del screen[key]
        else:
            shell, *holes = ast.literal_eval(rest[0])
            screen[key] = Polygon(shell, holes)
    return screen


def test_it_is_at_most_fifty_lines() -> None:
    assert len(VIEWER.read_text(encoding="utf-8").splitlines()) <= 50


def test_a_region_is_shown_as_it_is_found(url: str) -> None:
    *lines, end = printed(url, SLIDE, "threshold", *REGION)
    events = list(Client(url).segment(SLIDE, "threshold", region=REGION))
    expected = {
        feature["id"]: Polygon(*split(feature["geometry"]["coordinates"]))
        for event in events
        if isinstance(event, Contours) and not event.provisional
        for feature in event.features
    }
    screen = left(lines)
    assert screen.keys() == expected.keys()
    assert all(screen[key].equals(expected[key]) for key in expected)
    assert len(expected) > 50
    assert isinstance(events[-1], Done)
    assert end.startswith("Done(")


def split(rings: Sequence[Sequence[Sequence[float]]]) -> tuple[object, object]:
    return rings[0], rings[1:]


def test_ctrl_c_stops_and_says_so(url: str) -> None:
    started = time.monotonic()
    running = viewer(url, SLIDE, "slow", 0, 0, 1201, 1003)
    assert running.stdout is not None
    first = running.stdout.readline()
    running.send_signal(signal.SIGINT)
    said, problem = running.communicate(timeout=60)
    assert first[0] in "+~"
    assert said.splitlines()[-1].startswith("Cancelled(")
    assert not problem
    assert time.monotonic() - started < 60


def test_a_click_is_one_object(url: str) -> None:
    *_, end = printed(url, SLIDE, "flood", 1, 3)
    assert end == "it is bright there"
    everything = left(printed(url, SLIDE, "threshold", *REGION)[:-1])
    outline = next(each for each in everything.values() if 500 < each.area < 2000)
    inside = outline.representative_point()
    line, end = printed(url, SLIDE, "flood", inside.x, inside.y)
    assert left([line]).popitem()[1].area == outline.area
    assert end == "found"


def test_what_is_refused_is_told_with_its_remedy(url: str) -> None:
    running = viewer(url, "slides/nothing.tif", "threshold", *REGION)
    _, problem = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "nothing.tif" in problem
    assert "Traceback" not in problem
