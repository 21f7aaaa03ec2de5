"""More contours than one annotation holds, through a real Girder: 12,800, and then once more.

    python -m tests.benchmarks.dsa_parts

To reach: parts of at most 10,000 that belong together, every contour of the server's result in
exactly one of them. The second run is accepted over the first, which it replaces. The seconds say
more about the database that stands in for MongoDB than about one that is real.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from isoline.demo.slide import SAMPLE_SLIDE
from isoline.models import downloads
from tests.benchmarks.measuring import describe_machine
from tests.dsa.stack import Girder, Stack, running
from tests.serving import serving

REGION = [5120, 5120, 7680, 6400]
"""10 by 5 tiles of 256 contours."""


def main() -> None:
    print(describe_machine())
    slide = downloads.fetch(SAMPLE_SLIDE)
    with tempfile.TemporaryDirectory() as folder:
        home, data = Path(folder) / "girder", Path(folder) / "isoline"
        home.mkdir()
        data.mkdir()
        with running(home, slide) as stack:
            server = f'[girder.girder]\nurl = "{stack.url}"\n'
            with serving(data, data, more=server) as url:
                stack.admin.call("PUT", "system/setting", key="isoline.url", value=url)
                first = _run(stack)
                second = _run(stack)
    print(f"the same contours in both runs: {_said(first == second)}")


def _run(stack: Stack) -> list[str]:
    """Segment, accept, and print what is stored; return the ids of all contours."""
    admin, item = stack.admin, stack.item
    began = time.perf_counter()
    body = {"model": "specks", "title": "Specks", "region": REGION}
    run = admin.call("POST", f"isoline/item/{item}/run", json=body)
    while run["state"] == "running":
        time.sleep(0.2)
        run = admin.call("GET", f"isoline/run/{run['_id']}")
    stored = time.perf_counter()
    admin.call("POST", f"isoline/run/{run['_id']}/accept")
    accepted = time.perf_counter()
    parts = [admin.call("GET", f"annotation/{each}", limit=0) for each in run["annotations"]]
    listed = admin.call("GET", "annotation", itemId=item)
    ids = sorted(each["id"] for part in parts for each in part["annotation"]["elements"])

    print(f"{run['state']}: {run['elements']:,} contours in {stored - began:.1f} s, ", end="")
    print(f"accepted in {accepted - stored:.1f} s")
    for part in parts:
        name, elements = part["annotation"]["name"], part["annotation"]["elements"]
        print(f"  {name}: {len(elements):,} contours, counted as {part['_elementCount']:,}")
    print(f"  one run in all parts, numbered: {_said(_belong_together(parts))}")
    print(f"  the server's result, each contour once: {_said(ids == _result(admin, run))}")
    print(f"  nothing else is on the slide: {_said(len(listed) == len(parts))}")
    return ids


def _belong_together(parts: list[Any]) -> bool:
    ours = [part["annotation"]["attributes"]["isoline"] for part in parts]
    return len({each["run"] for each in ours}) == 1 and [each["part"] for each in ours] == list(
        range(len(parts))
    )


def _result(admin: Girder, run: Any) -> list[str]:
    """Return the ids of the final contours as the isoline server tells them."""
    told = admin.open("GET", f"isoline/run/{run['_id']}/events", stream=True)
    events = [json.loads(line) for line in told.iter_lines() if line]
    final = (each for each in events if each["event"] == "contours" and not each["provisional"])
    return sorted(feature["id"] for event in final for feature in event["features"])


def _said(right: bool) -> str:
    return "yes" if right else "NO"


if __name__ == "__main__":
    main()
