"""An older client reads a newer server: what it does not understand is passed over."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoline.client import Mask, Progress, Started, Warned, decode_event
from isoline.domain.events import Cancelled, Contours, Done, Event, Failed
from isoline.domain.events import Progress as ServerProgress
from isoline.domain.events import Warned as ServerWarned
from isoline.exports.geojson import GeoJSON
from isoline.protocol.events import encode_event
from isoline.testing.contracts import results

SAID: list[Event] = [
    results.STARTED,
    Contours(results.objects_of([[[results.rectangle(0, 0, 3, 3)]]])),
    ServerProgress(1, 2, 0.5),
    ServerWarned("Unreadable", "a tile is damaged"),
    Done(1, 2, 0, 0, 0.1),
    Failed("Broken", "the disk is full", "free some"),
    Cancelled(1, 2),
]
LINES: list[dict[str, Any]] = [
    *(json.loads(encode_event(3, each, results.STARTED, GeoJSON())) for each in SAID),
    {"event": "mask", "seq": 3, "provisional": False, "slices": [{"k": 1, "layers": []}]},
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.sampled_from(LINES), st.data())
def test_a_key_of_another_form_never_raises(said: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from([each for each in said if each not in ("event", "seq")]))
    line = json.dumps({**said, key: data.draw(ANYTHING)})
    event = decode_event(line)
    assert event is None or (type(event).__name__.lower(), event.seq) == (said["event"], 3)


@pytest.mark.parametrize("said", LINES, ids=lambda said: said["event"])
def test_unknown_keys_are_passed_over(said: dict[str, Any]) -> None:
    assert decode_event(json.dumps(said)) is not None
    assert decode_event(json.dumps({**said, "since": "v9", "class": [1]})) == decode_event(
        json.dumps(said)
    )


@pytest.mark.parametrize(
    "said",
    [
        {"event": "weather", "seq": 3, "features": [{"id": "sun"}]},
        {"event": "mask", "seq": 3, "rle": [3, 5]},
        {"event": "contours", "seq": 3, "provisional": False, "replaces": [], "features": {}},
        {"event": "contours", "seq": 3, "provisional": False, "replaces": [], "features": [{}]},
        {"event": "contours", "seq": 3, "provisional": False, "replaces": [7], "features": []},
        {"event": "mask", "seq": 3, "provisional": False, "slices": [{"instance": "1.2"}]},
        {"event": "progress", "seq": 3, "tiles_done": 1, "tiles": "two", "seconds_left": 1},
        {"event": "warned", "seq": 3, "code": "X", "message": "x", "area": {"z": 3}},
    ],
)
def test_what_is_not_understood_is_no_event(said: dict[str, Any]) -> None:
    assert decode_event(json.dumps(said)) is None


def test_a_mask_is_whole_where_the_server_says_so() -> None:
    said = LINES[-1]
    assert decode_event(json.dumps(said)) == Mask(3, said["slices"], False, False)
    assert decode_event(json.dumps({**said, "whole": True})) == Mask(3, said["slices"], False, True)
    assert decode_event(json.dumps({**said, "whole": 7})) == Mask(3, said["slices"], False, False)


def test_lists_of_a_fixed_length_are_tuples_and_null_is_none() -> None:
    started, _, progress, warned, *_ = (decode_event(json.dumps(said)) for said in LINES)
    assert isinstance(started, Started)
    assert started.image_size == results.STARTED.grid.image_size
    assert progress == Progress(3, 1, 2, 0.5)
    assert warned == Warned(3, "Unreadable", "a tile is damaged", None)
