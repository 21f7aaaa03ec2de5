"""The script takes up tens of thousands of objects: `tests.benchmarks.qupath_stream` in short."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.qupath_stream import MODEL, serving_nuclei
from tests.qupath import building as qupath

OBJECTS, SIDE = 50_000, 4096
FIRST_PAUSE_S = 1.0


def test_the_script_takes_up_fifty_thousand_objects_in_little_memory(tmp_path: Path) -> None:
    build = qupath.built()
    with serving_nuclei(tmp_path, OBJECTS, SIDE) as url:
        said = build.run(
            "script",
            do="run",
            url=url,
            uri="file:///slides/white.tif",
            size=[SIDE, SIDE],
            um=0.25,
            options=MODEL,
        )
    assert said["state"] == "done", said["message"]
    assert said["children"] == said["objects"] >= OBJECTS
    assert len(said["ids"]) == said["children"]
    assert said["refused"] == 0
    assert said["shortest_pause"] >= FIRST_PAUSE_S
    assert said["flushes"] <= 2 + said["seconds"] / FIRST_PAUSE_S
    assert said["megabytes"] < 160  # 256 is all there is
