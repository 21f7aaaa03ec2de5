"""Strict JSON to types, and events to JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import Field, fields, replace
from typing import Any

import orjson
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
from isoline.domain.prompts import KINDS, DrawnSlice, Prompt
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
from isoline.geometry.region import Region
from isoline.geometry.volume_grid import SliceName
from isoline.models.model import Bounded, Choice, ModelSpec, Number, Switch
from isoline.models.parameters import check_parameters
from isoline.protocol import requests
from isoline.protocol.events import encode_event
from isoline.protocol.problems import problem
from isoline.protocol.responses import model_json
from isoline.protocol.upload_requests import parse_upload
from isoline.testing.contracts import results

FULL = {
    "image": "slides/a.svs",
    "model": "nuclei",
    "region": [2600, 3900.5, 6696, 7996],
    "focus": [4000, 5000],
    "parameters": {"below": 190, "output": "instances", "fast": True},
    "tile": 512,
    "spacing_um": 0.25,
    "override_spacing": True,
    "at_um": 0.5,
    "channel": ["DAPI", 2],
    "z": 3,
    "series": "scan",
    "slice": {"instance": "1.2.3", "frame": 4},
    "prompts": [
        {"kind": "point", "points": [[1, 2.5, 3]]},
        {"kind": "box", "points": [[1, 2], [3, 4]], "include": False},
    ],
    "frame_of_reference": "1.2.9",
    "initial": {
        "slices": [
            {"slice": {"instance": "1.2.4"}, "box": [1, 2, 30, 40], "runs": "AALGAcgB"},
            {"slice": 7, "box": [0, 0, 1, 1], "runs": ""},
        ]
    },
    "image_size": [31872, 13835],
    "format": "qupath",
    "simplify_px": 0.5,
    "keep": True,
    "replaces": "5f2b8c",
}


POINT = {"kind": "point", "points": [[1, 2]]}
DRAWN = {"slice": 3, "box": [0, 0, 1, 1], "runs": ""}


def parse(**changed: object) -> SegmentRequest:
    return requests.parse_request(json.dumps({**FULL, **changed}).encode())


def test_every_key_of_a_request_is_read() -> None:
    assert tuple(FULL) == requests.REQUEST_KEYS
    request = parse()
    assert request.region is not None
    assert request.region.bounds == Rect(2600, 3900.5, 6696, 7996)
    assert replace(request, region=None) == SegmentRequest(
        image="slides/a.svs",
        model="nuclei",
        focus=XY(4000, 5000),
        parameters={"below": 190, "output": "instances", "fast": True},
        tile=512,
        spacing_um=XY(0.25, 0.25),
        override_spacing=True,
        at_um=0.5,
        channel=("DAPI", 2),
        z=3,
        series="scan",
        slice=SliceName("1.2.3", 4),
        prompts=(Prompt("point", ((1, 2.5, 3),)), Prompt("box", ((1, 2), (3, 4)), include=False)),
        frame_of_reference="1.2.9",
        initial=(
            DrawnSlice(SliceName("1.2.4", 1), (1, 2, 30, 40), b"\0\2\xc6\1\xc8\1"),
            DrawnSlice(7, (0, 0, 1, 1), b""),
        ),
        keep=True,
        replaces="5f2b8c",
        image_size=(31872, 13835),
        format="qupath",
        simplify_px=0.5,
    )
    default = SegmentRequest("", "")
    assert [f.name for f in fields(request) if value_of(request, f) == value_of(default, f)] == []


def value_of(request: SegmentRequest, field: Field[Any]) -> object:
    return getattr(request, field.name)


@pytest.mark.parametrize(
    ("given_", "key", "read"),
    [
        ({"spacing_um": [0.25, 0.5]}, "spacing_um", XY(0.25, 0.5)),
        ({"slice": 0}, "slice", 0),
        ({"slice": {"instance": "1"}}, "slice", SliceName("1", 1)),
        ({"keep": False}, "keep", False),
        ({"replaces": ["0123456789abcdef01234567"]}, "replaces", ("0123456789abcdef01234567",)),
        ({"initial": {"slices": []}}, "initial", ()),
        ({"parameters": {"a": 1, "b": 1.0, "c": True, "d": "1"}}, "parameters",
         {"a": 1, "b": 1.0, "c": True, "d": "1"}),
    ],
)  # fmt: skip
def test_forms_of_a_value(given_: dict[str, object], key: str, read: object) -> None:
    said = getattr(parse(**given_), key)
    assert repr(said) == repr(read)  # 1 is not 1.0, nor True


def test_what_is_left_out_or_null_is_the_default() -> None:
    least = {"image": "a.png", "model": "threshold"}
    nulls = {key: None for key in FULL if key not in least}
    for given_ in (least, {**least, **nulls}):
        assert requests.request_of(given_) == SegmentRequest("a.png", "threshold")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": ""}, "image: expected a string of 1 to 4096 characters, got ''"),
        ({"image": "x" * 5000}, "image: expected a string of 1 to 4096 characters"),
        ({"model": 3}, "model: expected a string of 1 to 4096 characters, got 3"),
        ({"tile": 512.5}, "tile: expected a whole number of at least 0, got 512.5"),
        ({"tile": True}, "tile: expected a whole number"),
        ({"z": -1}, "z: expected a whole number of at least 0, got -1"),
        ({"focus": [1]}, "focus: expected [x, y]"),
        ({"focus": [1, "2"]}, "focus[1]: expected a number, got '2'"),
        ({"spacing_um": 0}, "spacing_um: expected a number above 0, got 0"),
        ({"spacing_um": [0.25, -1]}, "spacing_um[1]: expected a number above 0"),
        ({"at_um": "0.5"}, "at_um: expected a number"),
        ({"simplify_px": -0.1}, "simplify_px: expected a number of at least 0"),
        ({"parameters": [1]}, "parameters: expected a JSON object, got [1]"),
        ({"parameters": {"below": [1]}}, "parameters.below: expected a number"),
        ({"parameters": {"below": None}}, "parameters.below: expected a number"),
        ({"channel": "DAPI"}, "channel: expected a list"),
        ({"channel": []}, "channel: expected a list"),
        ({"channel": [0, 1.5]}, "channel[1]: expected a whole number"),
        ({"region": [1, 2, 3]}, "region: expected [x0, y0, x1, y1] or a GeoJSON geometry"),
        ({"region": [1, 2, 3, None]}, "region[3]: expected a number, got None"),
        ({"keep": 1}, "keep: expected true or false, got 1"),
        ({"replaces": 1}, "replaces: expected a string of 1 to 4096 characters, got 1"),
        ({"replaces": ["1-2"]}, "replaces[0]: expected the id of a feature, got '1-2'"),
        ({"image_size": [1]}, "image_size: expected [width, height], got [1]"),
        (
            {"image_size": [0, 5]},
            "image_size[0]: expected a whole number from 1 to 16777216, got 0",
        ),
        ({"image_size": [1, 2**25]}, "image_size[1]: expected a whole number from 1 to"),
        ({"slice": "x"}, "slice: expected a whole number of at least 0, got 'x'"),
        (
            {"slice": {"frame": 1}},
            "slice has no 'instance'; add \"instance\"; known",
        ),
        (
            {"slice": {"instance": "1", "frane": 1}},
            "slice has an unknown key 'frane'; did you mean",
        ),
        ({"slice": {"instance": "1", "frame": True}}, "slice.frame: expected a whole number"),
        ({"prompts": {}}, "prompts: expected a list of prompts, got {}"),
        ({"prompts": [7]}, "prompts[0]: expected a JSON object, got 7"),
        (
            {"prompts": [POINT, {"kind": "dot", "points": []}]},
            'prompts[1].kind: expected "point" or "box" or "scribble" or "polygon", got \'dot\'',
        ),
        (
            {"prompts": [POINT, POINT, POINT, {"kind": "point", "points": [7]}]},
            "prompts[3].points[0]: expected [x, y], or [x, y, z] in a volume, got 7",
        ),
        (
            {"prompts": [{"kind": "box", "points": [[1, 2], [1, "2"]]}]},
            "prompts[0].points[1][1]: expected a number, got '2'",
        ),
        (
            {"prompts": [{"kind": "box", "points": [[1, 2, 3, 4]]}]},
            "prompts[0].points[0]: expected",
        ),
        (
            {"prompts": [{"points": []}]},
            "prompts[0] has no 'kind'; add \"kind\"",
        ),
        (
            {"prompts": [{**POINT, "includes": True}]},
            "prompts[0] has an unknown key 'includes'; did you mean 'include'?",
        ),
        (
            {"prompts": [{**POINT, "include": 0}]},
            "prompts[0].include: expected true or false, got 0",
        ),
        ({"initial": {"slices": 3}}, "initial.slices: expected a list of slices, got 3"),
        ({"initial": {"slices": [], "x": 1}}, "initial has an unknown key 'x'; known keys: slices"),
        (
            {"initial": {"slices": [{**DRAWN, "box": [1, 2]}]}},
            "initial.slices[0].box: expected [i0, j0, i1, j1] in voxels, got [1, 2]",
        ),
        (
            {"initial": {"slices": [DRAWN, {**DRAWN, "runs": "?"}]}},
            "initial.slices[1].runs: expected runs in base64, got '?'",
        ),
        (
            {"initial": {"slices": [{**DRAWN, "slice": {"instance": 3}}]}},
            "initial.slices[0].slice.instance: expected a string of 1 to 4096 characters, got 3",
        ),
        (
            {"initial": [1, 2]},
            "initial: expected [x0, y0, x1, y1] or a GeoJSON geometry, got [1, 2]",
        ),
        ({"at_um": float("inf")}, "at_um: expected a number above 0, got inf"),
        ({"focus": [1e301, 0]}, "focus[0]: expected a number, got 1e+301"),
        ({"paramters": {}}, "unknown key 'paramters'; did you mean 'parameters'?"),
        ({"zzz": 1}, "unknown key 'zzz'; known keys: image, model"),
    ],
)
def test_a_mistake_is_refused_with_its_place(change: dict[str, object], told: str) -> None:
    with pytest.raises(Malformed) as caught:
        requests.request_of({**FULL, **change})
    assert told in str(caught.value)


def test_mistakes_in_other_bodies_have_their_places() -> None:
    upload = {"size": [9, 9], "request": {"model": "nuclei"}}
    segment = {"label": 1, "name": "a", "color": [1, 2, 3]}
    layer = {"label": 1, "box": [0, 0, 1, 1], "runs": ""}
    kept = {"instance": "1", "layers": [layer]}
    save = {"image": "dicomweb:a/1/2", "segments": [segment], "slices": [kept]}
    cases: list[tuple[Callable[[bytes], object], object, str]] = [
        (parse_upload, {"size": [9, 9]}, "the upload has no 'request'; add"),
        (parse_upload, {**upload, "request": {}}, "request has no 'model'"),
        (parse_upload, {**upload, "request": {"model": "m", "tile": 1.5}},
         "request.tile: expected a whole number of at least 0, got 1.5"),
        (parse_upload, {**upload, "request": {"model": "m", "tiles": 1}},
         "request has an unknown key 'tiles'; did you mean 'tile'?"),
        (parse_upload, {**upload, "channels": []}, "channels: expected a list of 1 to 64"),
        (parse_upload, {**upload, "channels": ["x"] * 65}, "channels: expected a list of"),
        (parse_upload, {**upload, "channels": ["a", "a"]}, "channels: expected a list of diff"),
        (parse_upload, {**upload, "dtype": 8}, 'dtype: expected "uint8" or "uint16"'),
        (parse_upload, {**upload, "is_slide": None}, "is_slide: expected true or false"),
        (requests.parse_save, {**save, "segments": []}, "segments: expected a list of segments"),
        (requests.parse_save, {**save, "segments": [{**segment, "label": 0}]},
         "segments[0].label: expected a whole number from 1 to 255, got 0"),
        (requests.parse_save, {**save, "segments": [{**segment, "color": [1, 2, 256]}]},
         "segments[0].color[2]: expected a whole number from 0 to 255, got 256"),
        (requests.parse_save, {**save, "segments": [{**segment, "anatomy": {"code": "1"}}]},
         "segments[0].anatomy has no 'meaning'"),
        (requests.parse_save, {**save, "slices": [{**kept, "layers": [{**layer, "runs": 3}]}]},
         "slices[0].layers[0].runs: expected runs in base64, got 3"),
        (requests.parse_focus, {"focsu": [1, 2]}, "unknown key 'focsu'; did you mean 'focus'?"),
        (requests.parse_focus, {}, "the body must have either 'focus' or 'slice'"),
    ]  # fmt: skip
    for parse_body, body, told in cases:
        with pytest.raises(Malformed) as caught:
            parse_body(json.dumps(body).encode())
        assert told in str(caught.value)
    assert len(cases) > 10


def test_what_is_too_much_is_refused_as_such() -> None:
    with pytest.raises(TooLarge, match="the request has 1001 prompts; send at most 1000"):
        parse(prompts=[POINT] * 1001)
    with pytest.raises(TooLarge, match="the request has 1001 parameters"):
        parse(parameters=dict.fromkeys(map(str, range(1001))))


MEGABYTES = 8 << 20


@pytest.mark.parametrize(
    "body",
    [
        {"image": "a", "model": "m", "x" * MEGABYTES: 1},
        {"image": "a", "model": "m", **{f"{k:06}": 1 for k in range(MEGABYTES // 10)}},
        {"image": "a", "model": "m", "channel": [None] * (MEGABYTES // 5)},
        {"image": "a", "model": "m", "parameters": {"x" * MEGABYTES: None}},
        {"image": "a", "model": "m", "prompts": [{"kind": "scribble", "points": [[]] * 10**6}]},
        {"image": "a", "model": "m", "region": {"type": "Polygon", "coordinates": [[0] * 10**6]}},
        {"image": "x" * MEGABYTES, "model": "m"},
    ],
    ids=["key", "keys", "items", "parameter", "points", "corners", "text"],
)
def test_a_large_mistake_is_soon_found_and_told_in_short(body: dict[str, object]) -> None:
    sent = json.dumps(body).encode()
    began = time.process_time()
    with pytest.raises(IsolineError) as caught:
        requests.parse_request(sent)
    assert time.process_time() - began < 3
    assert len(caught.value.what) < 200


@settings(max_examples=300)
@given(data=st.data())
def test_messages_are_our_own(data: st.DataObject) -> None:
    """Whatever stands wherever: nothing that pydantic says gets out, and the place is there."""
    body = json.loads(json.dumps(FULL))
    parts = list(parts_of(body))
    holder, key = data.draw(st.sampled_from(parts))
    holder[key] = data.draw(json_values)
    refusal = None
    try:
        requests.request_of(body)
    except IsolineError as error:
        refusal = error
    assert refusal is None or OWN.match(refusal.what), str(refusal)
    assert not re.search(r"pydantic|Input should|\x1f|function-|something else", str(refusal))


OWN = re.compile(
    r"(the request|[a-z_]+(\.[^:]*|\[\d+\])*)"
    r"(: expected | has no '| has an unknown key |: a polygon|: an outline| is empty| has a coord)"
    r"|the region (\[.*\] )?(is empty|has a coordinate)",
    re.DOTALL,
)


def parts_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in a JSON value: what holds it, and its key there."""
    keys = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from parts_of(value[key])


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


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)
wholes = st.integers(0, 2**53)
numbers = st.floats(-1e9, 1e9)
positive = st.floats(1e-9, 1e9)
names = st.builds(SliceName, texts, wholes) | wholes
regions = st.builds(
    lambda x, y, w, h: Region.rectangle(x, y, x + w, y + h),
    *(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(1, 99), st.integers(1, 99)),
) | st.just(
    Region.from_geojson(
        {
            "type": "MultiPolygon",
            "coordinates": [
                [[[0, 0], [9.5, 0], [9, 9], [0, 0]], [[2, 1], [3, 1], [3, 2]]],
                [[[20, 0], [29, 0.125], [29, 9]]],
            ],
        }
    )
)
drawn = st.builds(DrawnSlice, names, st.tuples(*[wholes] * 4), st.binary(max_size=9))
prompts = st.builds(
    Prompt,
    st.sampled_from(KINDS),
    st.lists(st.tuples(numbers, numbers) | st.tuples(numbers, numbers, numbers)).map(tuple),
    st.booleans(),
)
whole_requests = st.builds(
    SegmentRequest,
    image=texts,
    model=texts,
    region=regions,
    focus=st.builds(XY, numbers, numbers),
    parameters=st.dictionaries(
        st.text(st.characters(codec="utf-8")),
        st.booleans() | st.integers(-(2**63), 2**63 - 1) | numbers | st.text(),
        min_size=1,
    ),
    tile=wholes,
    spacing_um=st.builds(XY, positive, positive),
    override_spacing=st.just(True),
    at_um=positive,
    channel=st.lists(texts | wholes, min_size=1).map(tuple),
    z=wholes,
    series=texts | wholes,
    slice=names,
    prompts=st.lists(prompts, min_size=1, max_size=5).map(tuple),
    frame_of_reference=texts,
    initial=regions | st.lists(drawn, max_size=4).map(tuple),
    keep=st.just(True),
    replaces=st.just("5f2b8c") | st.uuids().map(lambda each: (str(each),)),
    image_size=st.tuples(st.integers(1, 1 << 24), st.integers(1, 1 << 24)),
    format=texts,
    simplify_px=st.floats(0, 1e9),
)


@given(request=whole_requests, without=st.sets(st.sampled_from(requests.REQUEST_KEYS[2:])))
def test_a_request_comes_back(request: SegmentRequest, without: set[str]) -> None:
    """With every key, and without some."""
    default = SegmentRequest(request.image, request.model)
    some = replace(request, **{key: getattr(default, key) for key in without})
    for sent in (request, some):
        body = orjson.dumps(requests.request_json(sent))
        assert plain(requests.parse_request(body)) == plain(sent)


def plain(request: SegmentRequest) -> dict[str, str]:
    """Return every field to the last digit and the type of each value."""
    values = {field.name: value_of(request, field) for field in fields(request)}
    return {
        name: repr(value.to_geojson() if isinstance(value, Region) else value)
        for name, value in values.items()
    }


def test_the_strategy_fills_every_field() -> None:
    default = SegmentRequest("", "")

    @given(request=whole_requests)
    def full(request: SegmentRequest) -> None:
        same = [f.name for f in fields(request) if value_of(request, f) == value_of(default, f)]
        assert same == []

    full()


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
    line = encode_event(5, event, results.STARTED, GeoJSON())
    name = type(event).__name__
    assert json.loads(line) == {"event": name.lower(), "seq": 5, **said}
    assert b"\n" not in line
    understood = client.decode_event(line)
    assert type(understood).__name__ == name
    assert understood is not None
    assert understood.seq == 5


def test_the_first_event_says_what_is_coming() -> None:
    started = results.started(XY(4.0004, 4.0004), spacing_um=XY(0.25, 0.25), kind="regions", z=2)
    event = client.decode_event(encode_event(0, started, started, GeoJSON()))
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
        line = encode_event(9, contours, results.STARTED, encoder)
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
    body = json.loads(problem(UnknownModel("no model 'x'", "try 'nuclei'")))
    assert body == {
        "type": "urn:isoline:problem:UnknownModel",
        "title": "Unknown model",
        "status": 404,
        "detail": "no model 'x'",
        "code": "UnknownModel",
        "remedy": "try 'nuclei'",
    }
    assert json.loads(problem(IsolineError("gone"), 503))["status"] == 503


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
    said = json.loads(json.dumps(model_json(SPEC, "no weights")))
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
