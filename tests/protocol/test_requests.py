"""Strict JSON to types, and events to JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoline import client
from isoline.domain.events import (
    Cancelled,
    Contours,
    Done,
    Event,
    Failed,
    Label,
    Objects,
    Progress,
    Warned,
)
from isoline.domain.request import SegmentRequest
from isoline.errors import (
    BadParameter,
    BadRegion,
    IsolineError,
    Malformed,
    TooLarge,
    UnknownModel,
)
from isoline.exports.dsa import DSA
from isoline.exports.geojson import GeoJSON
from isoline.geometry.grid import XY, Rect
from isoline.geometry.volume_grid import SliceName
from isoline.models.base import Bounded, Choice, ModelSpec, Number, Switch
from isoline.models.parameters import check_parameters
from isoline.protocol import requests
from isoline.testing.contracts import results

FULL = {
    "image": "slides/a.svs",
    "model": "nuclei",
    "region": [2600, 3900.5, 6696, 7996],
    "focus": [4000, 5000],
    "parameters": {"below": 190, "output": "instances", "fast": True},
    "tile": 512,
    "spacing_um": 0.25,
    "at_um": 0.5,
    "channel": ["DAPI", 2],
    "z": 0,
    "format": "qupath",
    "simplify_px": 0.5,
}


def parse(**changed: object) -> SegmentRequest:
    return requests.parse_request(json.dumps({**FULL, **changed}).encode())


def test_every_key_of_a_request_is_read() -> None:
    request = parse()
    assert request.region is not None
    assert request.region.bounds == Rect(2600, 3900.5, 6696, 7996)
    assert request.focus == XY(4000, 5000)
    assert request.parameters == FULL["parameters"]
    assert (request.tile, request.at_um, request.z) == (512, 0.5, 0)
    assert request.spacing_um == XY(0.25, 0.25)
    assert request.channel == ("DAPI", 2)
    assert (request.format, request.simplify_px) == ("qupath", 0.5)
    assert parse(spacing_um=[0.25, 0.5]).spacing_um == XY(0.25, 0.5)


def test_what_is_left_out_or_null_is_the_default() -> None:
    least = {"image": "a.png", "model": "threshold"}
    nulls = {key: None for key in FULL if key not in least}
    for given_ in (least, {**least, **nulls}):
        assert requests.request_of(given_) == SegmentRequest("a.png", "threshold")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": ""}, "image: expected a text, got ''"),
        ({"image": "x" * 5000}, "image: expected a text"),
        ({"model": 3}, "model: expected a text, got 3"),
        ({"tile": 512.5}, "tile: expected a whole number from 0, got 512.5"),
        ({"tile": True}, "tile: expected a whole number"),
        ({"z": -1}, "z: expected a whole number from 0, got -1"),
        ({"focus": [1]}, "focus: expected [x, y]"),
        ({"focus": [1, "2"]}, "focus[1]: expected a number, got '2'"),
        ({"spacing_um": 0}, "spacing_um: expected a number above 0, got 0"),
        ({"spacing_um": [0.25, -1]}, "spacing_um[1]: expected a number above 0"),
        ({"at_um": "0.5"}, "at_um: expected a number"),
        ({"simplify_px": -0.1}, "simplify_px: expected a number from 0"),
        ({"parameters": [1]}, "parameters: expected a JSON object, got [1]"),
        ({"parameters": {"below": [1]}}, "parameters.below: expected a number"),
        ({"parameters": {"below": None}}, "parameters.below: expected a number"),
        ({"channel": "DAPI"}, "channel: expected a list"),
        ({"channel": []}, "channel: expected a list"),
        ({"channel": [0, 1.5]}, "channel[1]: expected a whole number"),
        ({"region": [1, 2, 3]}, "region: expected [x0, y0, x1, y1] or a GeoJSON geometry"),
        ({"region": [1, 2, 3, None]}, "region[3]: expected a number, got None"),
        ({"paramters": {}}, "unknown key 'paramters'; did you mean 'parameters'?"),
        ({"zzz": 1}, "unknown key 'zzz'; known keys: image, model"),
    ],
)
def test_a_mistake_is_refused_with_its_place(change: dict[str, object], told: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse(**change)
    assert told in str(caught.value)


def test_an_empty_region_is_refused() -> None:
    with pytest.raises(BadRegion):
        parse(region=[5, 5, 5, 9])
    with pytest.raises(BadRegion, match=r"region\.coordinates"):
        parse(region={"type": "Polygon", "coordinates": 7})


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"[1]", b'"x"', b"null", b'{"image":NaN}', b'{"model":"x"}',
     b'{"image":"a","model":"m","at_um":1e999}', b'{"image":"a","model":"m","tile":-Infinity}',
     b"[" * 100_000, b'{"image":' * 5_000],
)  # fmt: skip
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        requests.parse_request(body)


def test_a_body_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(TooLarge):
        requests.parse_request(b" " * (requests.MAX_BODY_BYTES + 1))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


@settings(max_examples=150)
@given(given_=st.dictionaries(st.sampled_from(sorted(FULL)), json_values))
def test_no_json_whatever_gets_past_the_error_tree(given_: dict[str, object]) -> None:
    with suppress(IsolineError):  # anything else fails the test
        requests.request_of({**FULL, **given_})


@given(
    region=st.none() | st.just([0, 1, 2.5, 3]),
    focus=st.none() | st.just([1.5, 2]),
    tile=st.none() | st.integers(1, 9999),
    spacing_um=st.none() | st.floats(0.01, 100) | st.just([0.25, 0.5]),
    channel=st.none() | st.lists(st.text(min_size=1, max_size=4) | st.integers(0, 9), min_size=1),
    parameters=st.dictionaries(st.text(), st.booleans() | st.integers() | st.text()),
)
def test_a_request_comes_back(**changed: object) -> None:
    request = requests.request_of({**FULL, **changed})
    said = requests.request_json(request)
    again = requests.request_of(json.loads(json.dumps(said)))
    assert requests.request_json(again) == said
    assert (again.focus, again.tile, again.spacing_um) == (
        request.focus,
        request.tile,
        request.spacing_um,
    )
    assert (again.channel, again.parameters) == (request.channel, request.parameters)


def test_a_focus_is_read() -> None:
    assert requests.parse_focus(b'{"focus":[1,2.5]}') == XY(1, 2.5)
    assert requests.parse_focus(b'{"slice":3}') == 3
    assert requests.parse_focus(b'{"slice":{"instance":"1.2","frame":4}}') == SliceName("1.2", 4)
    both = b'{"focus":[1,2],"slice":1}'
    for body in (both, b"{}", b'{"focus":null}', b'{"focus":[1,2],"z":1}', b"[1,2]"):
        with pytest.raises(Malformed):
            requests.parse_focus(body)


def test_queries_are_read() -> None:
    assert requests.parse_box("0,-1.5,100,20") == Rect(0, -1.5, 100, 20)
    assert requests.parse_integer("-1", "after", -1, 99) == -1
    for text in (None, "", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1,2,3,nan", "1e9,0,0,0"):
        with pytest.raises(Malformed, match="box"):
            requests.parse_box(text)
    for text in ("", "x", "1.5", "100", "-2", "9" * 400, "١"):
        with pytest.raises(Malformed, match="after"):
            requests.parse_integer(text, "after", -1, 99)


# Events

EVENTS: list[tuple[Event, dict[str, Any]]] = [
    (Progress(3, 12, None), {"tiles_done": 3, "tiles": 12, "seconds_left": None}),
    (Progress(3, 12, 1.5), {"tiles_done": 3, "tiles": 12, "seconds_left": 1.5}),
    (
        Warned("Unreadable", "a tile\nis damaged", Rect(0, 0.5, 10, 20)),
        {"code": "Unreadable", "message": "a tile\nis damaged", "area": [0, 0.5, 10, 20]},
    ),
    (Warned("Slow", "m"), {"code": "Slow", "message": "m", "area": None}),
    (
        Done(7, 12, 1, 2, 3.5),
        {"objects": 7, "tiles": 12, "tiles_failed": 1, "tiles_skipped": 2, "seconds": 3.5},
    ),
    (Failed("Broken", "m", "r"), {"code": "Broken", "message": "m", "remedy": "r"}),
    (Cancelled(3, 12), {"tiles_done": 3, "tiles": 12}),
]


@pytest.mark.parametrize(("event", "said"), EVENTS)
def test_an_event_is_said_and_understood(event: Event, said: dict[str, Any]) -> None:
    line = requests.encode_event(5, event, results.STARTED, GeoJSON())
    name = type(event).__name__
    assert json.loads(line) == {"event": name.lower(), "seq": 5, **said}
    assert b"\n" not in line
    understood = client.decode_event(line)
    assert type(understood).__name__ == name
    assert understood is not None
    assert understood.seq == 5


def test_the_first_event_says_what_is_coming() -> None:
    started = results.started(XY(4.0004, 4.0004), spacing_um=XY(0.25, 0.25), kind="regions", z=2)
    event = client.decode_event(requests.encode_event(0, started, started, GeoJSON()))
    assert isinstance(event, client.Started)
    assert (event.seq, event.job, event.image) == (0, "a1b2c3", "slides/a.svs")
    assert (event.image_size, event.scale) == ((31872, 13835), (4.0004, 4.0004))
    assert (event.spacing_um, event.z, event.kind) == ((0.25, 0.25), 2, "regions")
    assert event.labels[0] == {"name": "nucleus", "color": [200, 30, 60]}
    assert event.parameters == {"sensitivity": 0.5, "spacing_um": 0.25}
    assert (event.tiles, event.format) == (12, "geojson")


@given(objects=results.batches(), provisional=st.booleans(), replaced=st.integers(0, 3))
def test_contours_are_said_and_understood(
    objects: Objects, provisional: bool, replaced: int
) -> None:
    ids = results.ids(100, replaced)
    contours = Contours(objects, provisional, ids)
    for encoder in (GeoJSON(), DSA()):
        line = requests.encode_event(9, contours, results.STARTED, encoder)
        assert b"\n" not in line
        event = client.decode_event(line)
        assert isinstance(event, client.Contours)
        assert event.provisional is provisional
        assert event.replaces == [encoder.id_text(bytes(raw)) for raw in ids]
        own = encoder.features(objects, results.STARTED, provisional)
        assert event.features == json.loads(b"[" + own + b"]")


def test_a_client_passes_over_what_it_does_not_know() -> None:
    assert client.decode_event('{"event":"hologram","seq":3}') is None
    event = client.decode_event('{"event":"cancelled","seq":3,"tiles_done":1,"tiles":2,"new":1}')
    assert event == client.Cancelled(3, 1, 2)
    assert client.decode_event('{"event":"mask","seq":3,"rle":[3,5]}') is None
    for line in ("[]", "{}", "nonsense", '{"event":"cancelled"}', '{"event":3,"seq":3}'):
        with pytest.raises(ValueError, match=r"event|Expecting"):
            client.decode_event(line)


def test_a_problem_names_the_remedy() -> None:
    body = json.loads(requests.problem(UnknownModel("no model 'x'", "try 'nuclei'")))
    assert body == {
        "type": "urn:isoline:problem:UnknownModel",
        "title": "Unknown model",
        "status": 404,
        "detail": "no model 'x'",
        "code": "UnknownModel",
        "remedy": "try 'nuclei'",
    }
    assert json.loads(requests.problem(IsolineError("gone"), 503))["status"] == 503


# Parameters

SPEC = ModelSpec(
    name="threshold",
    title="Threshold",
    description="",
    version="1",
    labels=(Label("dark", (1, 2, 3)),),
    output=Bounded(10.0),
    parameters=(
        Number("below", 200, 0, 255, "darker than this", integer=True),
        Number("blur", 0.0, 0, 5, "in pixels"),
        Choice("output", "instances", ("instances", "mask"), ""),
        Switch("fill", False, ""),
    ),
)


def test_parameters_are_completed_and_put_in_their_own_type() -> None:
    assert check_parameters(SPEC, {}) == {
        "below": 200,
        "blur": 0.0,
        "output": "instances",
        "fill": False,
    }
    checked = check_parameters(SPEC, {"blur": 2, "below": 190.0, "fill": True})
    assert list(checked) == ["below", "blur", "output", "fill"]
    assert (type(checked["below"]), type(checked["blur"])) == (int, float)
    assert str(check_parameters(SPEC, {"blur": -0.0})["blur"]) == "0.0"


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ({"blow": 1}, "threshold has no parameter 'blow'; did you mean 'below'?"),
        ({"below": 256}, "parameters.below: expected a whole number from 0 to 255, got 256"),
        ({"below": 1.5}, "expected a whole number"),
        ({"below": True}, "expected a whole number"),
        ({"below": 10**400}, "expected a whole number"),
        ({"below": "x"}, "parameters.below: expected a whole number from 0 to 255, got 'x'"),
        ({"blur": float("nan")}, "parameters.blur: expected a number from 0 to 5, got nan"),
        ({"blur": -1}, "leave it out for the default, 0.0"),
        ({"output": "both"}, "expected one of instances, mask, got 'both'"),
        ({"output": 1}, "expected one of instances, mask"),
        ({"fill": 1}, "expected true or false, got 1"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_with_its_bounds(
    given_: dict[str, Any], told: str
) -> None:
    with pytest.raises(BadParameter) as caught:
        check_parameters(SPEC, given_)
    assert told in str(caught.value)


def test_a_model_is_described_with_its_parameters() -> None:
    said = json.loads(json.dumps(requests.model_json(SPEC, "no weights")))
    assert [p["kind"] for p in said["parameters"]] == ["number", "number", "choice", "switch"]
    assert said["parameters"][2]["choices"] == ["instances", "mask"]
    assert (said["kind"], said["problem"]) == ("objects", "no weights")


# Imports


@pytest.mark.parametrize(
    ("module", "barred"),
    [
        ("isoline.protocol.requests", "numba cv2 torch flask openslide cc3d shapely"),
        ("isoline.domain.request", "numba cv2 torch flask openslide cc3d shapely"),
        ("isoline.domain.events", "numba cv2 torch flask openslide cc3d shapely"),
        ("isoline.client", "numpy numba cv2 torch flask openslide orjson"),
    ],
)
def test_what_a_viewer_needs_is_light(module: str, barred: str) -> None:
    code = f"import sys, {module}; print([m for m in {barred.split()} if m in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.strip() == "[]"
