"""The examples of docs/protocol.md, each read by the code that it describes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isoline import client, errors
from isoline.domain import mask_rle
from isoline.domain.events import (
    Cancelled,
    Contours,
    Done,
    Event,
    Failed,
    Objects,
    Progress,
    Warned,
)
from isoline.domain.segments import Saved
from isoline.exports.dsa import DSA
from isoline.exports.encoder import Encoder
from isoline.exports.geojson import GeoJSON
from isoline.exports.ohif import OHIF
from isoline.exports.qupath import QuPath
from isoline.geometry.grid import XY, Box
from isoline.geometry.volume_grid import LPS, SliceName, VolumeGrid, VolumeInfo
from isoline.models.model import Choice, ModelSpec, Number, Switch, Unbounded
from isoline.protocol import problems, region_query, requests, responses
from isoline.protocol.events import encode_event
from isoline.protocol.upload_requests import parse_upload
from isoline.sources.upload import Manifest, UploadLevel, UploadRequest
from isoline.sources.uploaded_volume import VolumeUploadRequest
from isoline.testing.contracts import results
from tests.protocol.test_openapi import check

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
EXAMPLES = re.findall(r"^```json(?: (\w+))?\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
STARTED = results.started(spacing_um=XY(0.2457, 0.2457))
PIXEL = results.objects_of([[[results.rectangle(3, 5, 4, 6)]]], measurements={"contrast": [41.5]})


_PLANES = np.zeros((2, 4, 300), np.uint8)
_PLANES[0, 1, 5:7] = _PLANES[0, 2, 5:205] = 1
MASK = mask_rle.encode(_PLANES, [30, 31])
_GRID = VolumeGrid(
    (300, 4, 32), LPS(0.0, 0.0, 0.0), LPS(1.0, 0, 0), LPS(0, 1.0, 0), LPS(0, 0, 1.0), "1.2.3.9"
)
SCAN = replace(
    STARTED,
    kind="mask",
    volume=VolumeInfo(_GRID, tuple(SliceName(f"1.2.3.{k + 1}") for k in range(32)), "CT"),
)


def examples(kind: str) -> list[Any]:
    return [json.loads(text) for name, text in EXAMPLES if name == kind]


def keys_of(value: Any) -> Any:
    """The shape of JSON: keys all the way down, the first of each list standing for all."""
    if isinstance(value, dict):
        return {key: keys_of(item) for key, item in value.items()}
    if isinstance(value, list):
        return [keys_of(item) for item in value[:1]]
    return None


def test_every_example_has_a_test() -> None:
    tested = {
        "request", "upload", "uploaded", "volumeupload", "volumeuploaded", "job", "focus", "event",
        "volume", "qupath", "dsa", "image", "model", "problem", "save", "saved",
    }  # fmt: skip
    assert {name for name, _ in EXAMPLES} == tested


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        ("request", "SegmentRequest"),
        ("upload", "UploadRequest"),
        ("uploaded", "Upload"),
        ("volumeupload", "VolumeUploadRequest"),
        ("volumeuploaded", "VolumeUpload"),
        ("focus", "Focus"),
        ("image", "Image"),
        ("event", "Event"),
        ("model", "Model"),
        ("problem", "Problem"),
        ("save", "SaveRequest"),
        ("saved", "Saved"),
    ],
)
def test_examples_are_what_the_document_describes(kind: str, schema: str) -> None:
    assert examples(kind)
    for example in examples(kind):
        check(example, schema)


@pytest.mark.parametrize("example", examples("request"))
def test_requests_are_accepted(example: Any) -> None:
    request = requests.parse_request(json.dumps(example).encode())
    assert request.region is not None or request.prompts


def test_every_key_of_a_request_is_in_the_table() -> None:
    table = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)
    requested = table[: len(requests.REQUEST_KEYS)]
    assert requested == list(requests.REQUEST_KEYS)
    assert table[len(requested) :] == list(region_query.KEYS)


def test_a_focus_is_accepted() -> None:
    (example,) = examples("focus")
    assert requests.parse_focus(json.dumps(example).encode()) == XY(*example["focus"])


def test_an_upload_is_accepted() -> None:
    (example,) = examples("upload")
    asked = parse_upload(json.dumps(example).encode())
    assert isinstance(asked, UploadRequest)
    assert asked.size == tuple(example["size"])
    (answer,) = examples("uploaded")
    layers = tuple(
        UploadLevel(level["downsample"], Box(*level["area"])) for level in answer["levels"]
    )
    manifest = Manifest(
        asked.size, asked.spacing_um, asked.channels, asked.dtype, "slide", 512, layers
    )
    assert json.loads(json.dumps(responses.upload_json(answer["upload"], manifest))) == answer


def test_an_upload_of_a_volume_is_accepted() -> None:
    (example,) = examples("volumeupload")
    asked = parse_upload(json.dumps(example).encode())
    assert isinstance(asked, VolumeUploadRequest)
    assert asked.volume.grid.step_k_mm == LPS(*example["volume"]["step_k_mm"])
    (answer,) = examples("volumeuploaded")
    said = responses.volume_upload_json(answer["upload"], asked.manifest)
    assert said == answer


def test_a_labelmap_is_kept() -> None:
    (example,) = examples("save")
    asked = requests.parse_save(json.dumps(example).encode())
    kinds = [segment.algorithm_type for _, segment in asked.segments]
    assert kinds == ["SEMIAUTOMATIC", "MANUAL"]
    (layer,) = asked.slices[0].layers
    assert int(mask_rle.decode(layer.code, layer.box).sum()) == 202
    (answer,) = examples("saved")
    assert (
        responses.saved_json(Saved("1.2.3", answer["series"], answer["instance"], True)) == answer
    )


def test_a_job_is_what_the_client_reads() -> None:
    (example,) = examples("job")
    assert example["events"] == f"/v1/jobs/{example['job']}/events"
    assert isinstance(example["position"], int)


@pytest.mark.parametrize("example", examples("event"))
def test_events_are_what_the_server_says_and_the_client_understands(example: Any) -> None:
    event = client.decode_event(json.dumps(example))
    assert event is not None
    area = requests.parse_box("0,0,1,1") if example.get("area") else None
    objects = PIXEL if example.get("features") else results.objects_of([])
    replaces = results.ids(7, len(example.get("replaces", [])))
    said: dict[str, Event] = {
        "started": STARTED,
        "contours": Contours(objects, replaces=replaces),
        "mask": MASK,
        "progress": Progress(3, 16, 4.2),
        "warned": Warned("", "", area),
        "done": Done(1, 1, 0, 0, 1.0),
        "failed": Failed("", "", ""),
        "cancelled": Cancelled(1, 2),
    }
    is_mask = example["event"] == "mask"
    started, encoder = (SCAN, OHIF()) if is_mask else (STARTED, GeoJSON())
    line = encode_event(example["seq"], said[example["event"]], started, encoder)
    assert shape(json.loads(line)) == shape(example)


def test_a_volume_is_what_the_server_says() -> None:
    (example,) = examples("volume")
    assert SCAN.volume is not None
    said = json.loads(json.dumps({"volume": responses.volume_json(SCAN.volume)}))
    assert keys_of(said) == keys_of(example)


def test_the_runs_in_the_example_are_the_runs_of_the_code() -> None:
    (example,) = (each for each in examples("event") if each["event"] == "mask")
    said = json.loads(encode_event(3, MASK, SCAN, OHIF()))
    assert said == example


def shape(event: Any) -> Any:
    return {key: None if key == "parameters" else keys_of(value) for key, value in event.items()}


def test_all_events_have_an_example() -> None:
    assert [e["event"] for e in examples("event")] == [
        "started", "contours", "contours", "mask", "progress", "warned", "done", "failed",
        "cancelled",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "encoder"), [("qupath", QuPath()), ("dsa", DSA())])
def test_features_are_what_the_encoder_gives(name: str, encoder: Encoder) -> None:
    (example,) = examples(name)
    (feature,) = json.loads(b"[" + encoder.features(with_id(example), STARTED, False) + b"]")
    for place in (feature.get("user", {}), feature.get("properties", {}).get("metadata", {})):
        for key in ("scope", "isoline.scope"):
            if key in place:
                place[key] = "0a51e7c2b9f04d13"
    if name == "dsa":  # 24 of the 32 digits
        feature["id"] = example["id"]
    assert feature == example


def with_id(example: Any) -> Objects:
    raw = bytes.fromhex(example["id"].replace("-", "").ljust(32, "0"))
    return Objects(**{**vars(PIXEL), "ids": np.frombuffer(raw, np.uint8).reshape(1, 16)})


def test_a_model_is_what_the_server_says() -> None:
    (example,) = examples("model")
    limit, output, fill = example["parameters"]
    spec = ModelSpec(
        name="threshold",
        title="Threshold",
        description=example["description"],
        version="1.0",
        labels=(results.LABELS[0].__class__("dark", (200, 30, 60)),),
        output=Unbounded(),
        channels=(1, 3),
        parameters=(
            Number("below", 200.0, 0, 255, limit["help"], integer=True),
            Choice("output", "instances", ("instances", "mask"), output["help"]),
            Switch("fill", False, fill["help"]),
        ),
    )
    assert json.loads(json.dumps(responses.model_json(spec))) == example


def test_a_problem_is_what_the_server_says() -> None:
    (example,) = examples("problem")
    error = errors.BadParameter(example["detail"], example["remedy"])
    assert json.loads(problems.problem(error)) == example


def test_the_table_of_problems_is_the_table_of_errors() -> None:
    rows = re.findall(r"^\| (\d{3}) \| (.*) \|$", TEXT, re.MULTILINE)
    told = {
        (int(status), code)
        for status, codes in rows
        for code in re.findall(r"`([A-Z]\w+[a-z])`", codes)
    }
    names = {code for _, code in told}
    assert told == {(problems.http_status(getattr(errors, name)("")), name) for name in names}
    leaves = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type)
        and issubclass(kind, errors.IsolineError)
        and not any(child.__module__ == errors.__name__ for child in kind.__subclasses__())
    }
    assert names == leaves | {"Busy"}, "which is raised itself, and StreamsTaken beside it"
