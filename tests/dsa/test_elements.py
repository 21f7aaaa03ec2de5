"""What belongs together, and what counts as touched: no Girder needed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dsa.stack import imported_alone

elements = imported_alone("elements")


def element(**changes: Any) -> dict[str, Any]:
    return {
        "id": "0" * 24,
        "type": "polyline",
        "closed": True,
        "points": [[0, 0, 0], [4, 0, 0], [4, 3.25, 0]],
        "holes": [],
        "group": "nucleus",
        "user": {"scope": "s"},
    } | changes


@given(
    sizes=st.lists(st.integers(1, 4), max_size=60),
    room=st.integers(0, 40),
    most=st.integers(4, 40),
)
def test_parts_keep_order_size_and_objects(sizes: list[int], room: int, most: int) -> None:
    made = [
        element(id=f"{k}-{part}", user={"object": str(k)} if size > 1 else {})
        for k, size in enumerate(sizes)
        for part in range(size)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elements, "MAX_ELEMENTS", most)
        found = list(elements.parts(made, min(room, most)))
    assert [each for part in found for each in part] == made
    assert len(found[0]) <= min(room, most)
    assert all(len(part) <= most for part in found)
    where: dict[str, int] = {}
    for index, part in enumerate(found):
        for each in part:
            key = each["id"].split("-")[0]
            assert where.setdefault(key, index) == index


def test_what_comes_back_from_a_browser_is_untouched() -> None:
    stored = json.loads(json.dumps(elements.marked(element())))
    stored["points"] = [[float(x), float(y), 0.0] for x, y, _ in stored["points"]]
    del stored["holes"]
    stored["lineColor"] = "rgb(1, 2, 3)"  # how it is drawn is not what it is
    assert not elements.is_touched(stored)


@pytest.mark.parametrize(
    "change",
    [
        {"points": [[0, 0, 0], [4, 0, 0], [4, 3.5, 0]]},
        {"holes": [[[1, 1, 0], [2, 1, 0], [2, 2, 0]]]},
        {"group": "tumour"},
        {"user": {}},
    ],
    ids=["a point moved", "a hole cut", "another class", "drawn by hand"],
)
def test_what_a_user_did_is_seen(change: dict[str, Any]) -> None:
    assert elements.is_touched(elements.marked(element()) | change)
