"""More contours than one annotation should hold, on a real Girder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.dsa.conftest import REGION, Archive

MOST = 30
"""Elements of a part here; 10,000 outside of tests, whose database is slow with so many."""


def test_parts_belong_together(archive: Archive) -> None:
    request = {"model": "nuclei", "region": [*REGION]}
    told = json.dumps({"item": archive.item, "request": request, "most": MOST})
    script = Path(__file__).parent / "inside_parts.py"
    first, second, third = json.loads(archive.stack.inside(script, told).splitlines()[-1])

    parts = first["accept"]
    assert len(parts) >= 3
    assert [each["name"] for each in parts] == [f"Specks, part {k + 1}" for k in range(len(parts))]
    assert [each["ours"]["part"] for each in parts] == [str(k) for k in range(len(parts))]
    assert len({each["ours"]["run"] for each in parts}) == 1
    assert all(each["count"] == len(each["ids"]) == MOST for each in parts[:-1])
    assert 0 < parts[-1]["count"] == len(parts[-1]["ids"]) <= MOST
    whole = ids(parts)
    assert len(set(whole)) == len(whole)

    assert len(second["ended"]) == 2 * len(parts)
    assert second["discard"] == parts

    assert ids(third["accept"]) == whole
    assert not {each["ours"]["run"] for each in third["accept"]} & {parts[0]["ours"]["run"]}


def ids(parts: list[Any]) -> list[str]:
    return sorted(each for part in parts for each in part["ids"])
