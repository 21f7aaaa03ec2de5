"""The OpenAPI document says what the server does: no route more, no key less."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import orjson
import pytest
import requests
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from PIL import Image

from isoline import errors
from isoline.config.settings import Settings
from isoline.domain import mask_rle
from isoline.domain.events import Cancelled, Contours, Done, Event, Failed, Mask, Progress, Warned
from isoline.exports.geojson import GeoJSON
from isoline.exports.ohif import OHIF
from isoline.geometry.grid import Rect
from isoline.images.catalog import Images
from isoline.models.catalogue import MODELS
from isoline.pipeline.planner import Planner
from isoline.protocol import openapi
from isoline.protocol.events import encode_event
from isoline.protocol.problems import problem
from isoline.protocol.requests import (
    REQUEST_KEYS,
    parse_focus,
    parse_request,
    parse_save,
)
from isoline.protocol.responses import image_json, model_json
from isoline.protocol.upload_requests import parse_upload
from isoline.server.app import create_app
from isoline.server.services import Services
from isoline.testing.contracts import results
from tests.conftest import SharedServer
from tests.protocol.test_requests import FULL, parts_of

DOCUMENT: dict[str, Any] = openapi.document()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]

OBJECTS = results.objects_of(
    [
        [[results.rectangle(0, 0, 9, 9), results.hole(2, 2, 5, 5)]],
        [[results.rectangle(20, 0, 22, 2)], [results.rectangle(30, 0, 31, 1)]],
    ],
    labels=[0, 1],
    measurements={"contrast": [0.5, 1.5]},
)
EVENTS: tuple[Event, ...] = (
    results.STARTED,
    Contours(OBJECTS),
    Contours(OBJECTS, provisional=True, replaces=OBJECTS.ids),
    Contours(results.objects_of([])),
    Progress(1, 2, None),
    Progress(2, 2, 0.5),
    Warned("Unreadable", "a tile cannot be read", Rect(0, 0, 512, 512)),
    mask_rle.encode(np.eye(3, dtype=np.uint8)[None], [0]),
    Warned("Outline", "it crosses itself"),
    Done(2, 2, 0, 0, 1.5),
    Failed("Broken", "the disk is full", "free some space"),
    Cancelled(1, 2),
)


def check(value: object, schema: str) -> None:
    """Assert that `value` fits `schema`, and has no key that the schema does not mention."""
    closed = _closed(DOCUMENT)
    validator = Draft202012Validator({**closed, "$ref": f"#/components/schemas/{schema}"})
    validator.validate(json.loads(json.dumps(value)))


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    if "properties" in node and node.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def test_it_has_the_routes_of_the_app_and_no_others() -> None:
    documented = {
        (path, method)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
        if method != "parameters"
    }
    assert documented == set(_routes(_app()))


def _app() -> Flask:
    nothing = cast(Any, None)  # no route is called: only what they are called matters
    parts: dict[str, Any] = dict.fromkeys((each.name for each in fields(Services)), nothing)
    images = Images({})
    planner = Planner(images, nothing, nothing, nothing)
    return create_app(
        Services(**{**parts, "settings": Settings(), "images": images, "planner": planner})
    )


def _routes(app: Flask) -> Iterator[tuple[str, str]]:
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("monailabel."):
            continue  # another's API, described in docs/monailabel.md
        if rule.endpoint.startswith("ohif."):
            continue  # files, not an API
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            yield path, method.lower()


def test_every_parameter_in_a_path_is_described() -> None:
    checked = 0
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            described = [*operations.get("parameters", ()), *operation.get("parameters", ())]
            names = {each["name"] for each in described if each["in"] == "path"}
            assert names == set(re.findall(r"{(\w+)}", path))
            checked += len(names)
    assert checked > 10


def test_every_operation_has_a_name_of_its_own() -> None:
    operations = [
        operation
        for path in DOCUMENT["paths"].values()
        for method, operation in path.items()
        if method != "parameters"
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_schemas_and_their_examples_fit(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    for example in SCHEMAS[name].get("examples", ()):
        check(example, name)


def test_references_lead_somewhere() -> None:
    targets = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT))
    assert set(targets) <= set(SCHEMAS)


def test_the_server_reads_the_examples_of_requests() -> None:
    for example in SCHEMAS["SegmentRequest"]["examples"]:
        parse_request(json.dumps(example).encode())
    for example in SCHEMAS["Focus"]["examples"]:
        parse_focus(json.dumps(example).encode())


def test_a_request_has_the_keys_that_the_server_reads() -> None:
    assert tuple(SCHEMAS["SegmentRequest"]["properties"]) == REQUEST_KEYS


BODIES: dict[str, tuple[Callable[[bytes], object], Mapping[str, object]]] = {
    "SegmentRequest": (parse_request, FULL),
    "UploadRequest": (
        parse_upload,
        {
            "size": [9, 5],
            "spacing_um": 0.5,
            "channels": ["a", "b"],
            "dtype": "uint16",
            "is_slide": False,
            "request": {**FULL, "image": "x"},
        },
    ),
    "VolumeUploadRequest": (
        parse_upload,
        {
            "volume": {
                "size": [9, 5, 1],
                "origin_mm": [1.5, 2, -3],
                "step_i_mm": [0.5, 0.0, 0.0],
                "step_j_mm": [0.0, 0.5, 0.0],
                "step_k_mm": [0.0, 0.0, -1.5],
                "frame_of_reference": "1.2",
                "modality": "MR",
                "slices": [{"instance": "1.2.3", "frame": 1}],
            },
            "dtype": "int16",
            "request": {**FULL, "image": "x"},
        },
    ),
    "SaveRequest": (
        parse_save,
        {
            "image": "dicomweb:a/1/2",
            "segments": [
                {
                    "label": 1,
                    "name": "Brain",
                    "color": [1, 2, 3],
                    "anatomy": {"code": "1", "meaning": "Brain"},
                    "algorithm": {"model": "brain", "version": "1"},
                    "edited": True,
                }
            ],
            "slices": [
                {
                    "instance": "1.2",
                    "frame": 1,
                    "k": 3,
                    "layers": [{"label": 1, "box": [0, 0, 3, 1], "runs": "AAM="}],
                }
            ],
            "format": "rtstruct",
            "description": "corrected",
        },
    ),
    "Focus": (parse_focus, {"focus": [1.5, 2]}),
}


@pytest.mark.parametrize("name", BODIES)
def test_what_is_described_is_read_and_nothing_else(name: str) -> None:
    read, full = BODIES[name]
    validator = Draft202012Validator({**DOCUMENT, "$ref": f"#/components/schemas/{name}"})
    assert validator.is_valid(full)
    outcomes: set[bool] = set()

    @settings(max_examples=400)
    @given(data=st.data())
    def agree(data: st.DataObject) -> None:
        body = json.loads(json.dumps(full))
        holder, key = data.draw(st.sampled_from(list(parts_of(body))))
        change = data.draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if change == "replace":
            holder[key] = data.draw(SENT)
        elif change == "remove":
            del holder[key]
        elif isinstance(holder, dict):
            holder["paramters"] = 1
        sent = orjson.dumps(body)
        if b'"points":[]' in sent:
            return  # refused as a BadPrompt, which says what a prompt of its kind has
        try:
            is_read = True
            read(sent)
        except (errors.BadRegion, errors.BadSeries, errors.BadSpacing):
            return  # right in form, or GeoJSON, which the schema does not spell out
        except errors.Malformed:
            is_read = False
        outcomes.add(is_read)
        assert is_read == validator.is_valid(body), body

    agree()
    assert outcomes == {True, False}


# JSON Schema takes 1.0 for a whole number
SENT = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats(-9, 9).filter(lambda number: not number.is_integer())
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, min_size=1, max_size=5) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


def test_every_kind_of_event_is_described() -> None:
    described = {each["$ref"].rpartition("/")[2] for each in SCHEMAS["Event"]["oneOf"]}
    assert described == {kind.__name__ for kind in get_args(Event)}
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_are_what_is_described(event: Event) -> None:
    encoder = OHIF() if isinstance(event, Mask) else GeoJSON()
    said = json.loads(encode_event(7, event, results.STARTED, encoder))
    check(said, type(event).__name__)
    check(said, "Event")
    for feature in said.get("features", ()):
        check(feature, "GeoJSONFeature")


def test_the_check_can_fail() -> None:
    said = json.loads(encode_event(7, EVENTS[4], results.STARTED, GeoJSON()))
    for wrong in ({**said, "tiles": -1}, {**said, "new": 1}, {"event": "progress", "seq": 7}):
        with pytest.raises(Exception, match=r"progress|oneOf|valid"):
            check(wrong, "Event")


@pytest.mark.parametrize("name", MODELS.names())
def test_models_are_what_is_described(name: str) -> None:
    check(model_json(MODELS.load(name).spec), "Model")
    check(model_json(MODELS.load(name).spec, "weights are missing"), "Model")


def test_images_are_what_is_described(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / "a.png")
    check(image_json("a.png", Images({"": tmp_path}).find("a.png").info), "Image")


def test_problems_are_what_is_described() -> None:
    check(json.loads(problem(errors.BadRegion("it is empty", "draw it again"))), "Problem")


@pytest.fixture(scope="module")
def url(shared_server: SharedServer) -> str:
    flat = np.full((300, 400, 3), 230, np.uint8)
    flat[100:120, 50:90] = 40
    Image.fromarray(flat).save(shared_server.images / "flat.png")
    return shared_server.url


WHOLE = {"image": "slides/flat.png", "model": "threshold"}
ANSWERS: tuple[tuple[str, str, str, object], ...] = (
    ("get", "/", "", None),
    ("get", "/v1/health", "", None),
    ("get", "/v1/health/ready", "", None),
    ("get", "/metrics", "", None),
    ("get", "/v1/models", "", None),
    ("get", "/v1/images", "", None),
    ("get", "/v1/images/{name}", "", None),
    ("get", "/v1/images/{name}/region", "?box=0,0,40,30&size=8", None),
    ("get", "/v1/images/{name}/region", "?box=0,0,40,30&channel=red&z=0&format=raw", None),
    ("get", "/v1/openapi.json", "", None),
    ("get", "/v1/jobs", "", None),
    ("post", "/v1/jobs", "", WHOLE),
    ("get", "/v1/jobs/{job_id}", "", None),
    ("patch", "/v1/jobs/{job_id}", "", {"focus": [3, 4]}),
    ("get", "/v1/jobs/{job_id}/events", "", None),
    ("delete", "/v1/jobs/{job_id}", "", None),
    ("post", "/v1/segment", "", WHOLE),
)
PROBLEMS: tuple[tuple[str, str, str, object], ...] = (
    ("get", "/v1/images/{name}", "/../x.png", None),
    ("get", "/v1/images/{name}/region", "?box=0,0,0,0", None),
    ("get", "/v1/images/{name}/region", "?box=wide", None),
    ("get", "/v1/images/{name}/region", "?box=0,0,4,3&channel=infrared", None),
    ("get", "/v1/images/{name}/region", "?box=0,0,4,3&format=jpeg", None),
    ("get", "/v1/images/{name}/region", "?box=0,0,4,3&colour=red", None),
    ("get", "/v1/jobs/{job_id}", "x", None),
    ("get", "/v1/jobs/{job_id}/events", "?after=last", None),
    ("post", "/v1/jobs", "", {**WHOLE, "model": "nucleus"}),
    ("post", "/v1/jobs", "", {**WHOLE, "model": "epithelium"}),
    ("post", "/v1/jobs", "", {**WHOLE, "tile": 1}),
    ("post", "/v1/segment", "", {**WHOLE, "colour": "red"}),
    ("patch", "/v1/jobs/{job_id}", "", {"focus": 3}),
)


ELSEWHERE = ("/v1/uploads", "/v1/segmentations")


def test_every_route_is_called_here() -> None:
    """Uploads and what is kept in an archive have tests of their own."""
    called = {(path, method) for method, path, _, _ in ANSWERS}
    assert called == {route for route in _routes(_app()) if not route[0].startswith(ELSEWHERE)}


@pytest.mark.parametrize(("method", "path", "more", "body"), ANSWERS)
def test_answers_are_what_is_described(
    url: str, method: str, path: str, more: str, body: object
) -> None:
    answer = _called(url, method, path, more, body)
    assert answer.status_code < 300, answer.text
    _check_answer(method, path, answer)


@pytest.mark.parametrize(("method", "path", "more", "body"), PROBLEMS)
def test_refusals_are_what_is_described(
    url: str, method: str, path: str, more: str, body: object
) -> None:
    answer = _called(url, method, path, more, body)
    assert 400 <= answer.status_code < 500, answer.text
    _check_answer(method, path, answer)


def _called(url: str, method: str, path: str, more: str, body: object) -> requests.Response:
    job = ""
    if "{job_id}" in path:
        job = requests.post(f"{url}/v1/jobs", json=WHOLE, timeout=20).json()["job"]
    full = path.format(name="slides/flat.png", job_id=job) + more
    return requests.request(method, url + full, json=body, timeout=20)


def _check_answer(method: str, path: str, answer: requests.Response) -> None:
    """Assert that status, media type, headers and body are among those described."""
    described = DOCUMENT["paths"][path][method]["responses"][str(answer.status_code)]
    kind = answer.headers["Content-Type"].partition(";")[0]
    schema = described["content"][kind]["schema"]
    headers = described.get("headers", {})
    assert {key for key, header in headers.items() if header["required"]} <= set(answer.headers)
    if kind == openapi.NDJSON:
        for line in filter(None, answer.text.split("\n")):
            check(json.loads(line), "Event")
    elif "$ref" in schema:
        check(answer.json(), schema["$ref"].rpartition("/")[2])
    else:
        assert answer.content
