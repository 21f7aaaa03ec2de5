"""Labelmaps that a real server keeps in a real archive, read again from there."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from isoline.domain import mask_rle
from isoline.errors import NotStored
from isoline.exports import stow
from isoline.geometry.volume_grid import VolumeGrid
from isoline.server.access import digest
from isoline.sources.archive import Archive
from tests import segs, volumes
from tests.orthanc import PASSWORD, USER, orthanc, store
from tests.protocol.test_openapi import check
from tests.serving import free_port, serving

pytestmark = pytest.mark.slow

LOGIN = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
ORDER = [3, 1, 4, 0, 5, 8, 2, 6, 7]
GRIDS = {
    "2.25.1": volumes.grid(axes=volumes.turned(0.4, -0.3, 1.2)),
    "2.25.2": volumes.grid(axes=np.diag([1.0, -1.0, -1.0])),
    "2.25.3": volumes.grid(size=(30, 11, 9), spacing=(0.5, 1.7, 3.0)),
    "2.25.4": volumes.grid(axes=volumes.turned(-0.2, 0.5, 0.1)),
}
"""Oblique, reversed, with pixels that are not square, and multi-frame."""
MULTIFRAME = "2.25.4"
BRAIN = {
    "label": 3,
    "name": "Brain",
    "color": [255, 170, 60],
    "anatomy": {"code": "12738006", "meaning": "Brain"},
    "algorithm": {"model": "brain", "version": "1+abc"},
    "edited": True,
}
LESION = {"label": 7, "name": "Lesion", "color": [0, 0, 255]}


@dataclass(frozen=True)
class Place:
    """A server and its archive."""

    url: str
    archive: str
    data: Path
    more: str

    def save(self, body: object, token: str = "") -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.post(f"{self.url}/v1/segmentations", json=body, headers=headers, timeout=60)

    def read(self, saved: Any) -> Any:
        client = DICOMwebClient(self.archive, headers={"Authorization": LOGIN})
        return client.retrieve_instance(
            saved["study"],
            saved["series"],
            saved["instance"],
            media_types=(("application/dicom", "*"),),
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, data = tmp_path_factory.mktemp("archive"), tmp_path_factory.mktemp("data")
    with orthanc(folder) as archive:
        for series, where in GRIDS.items():
            voxels = volumes.ramp(where.shape)
            if series == MULTIFRAME:
                files = [volumes.write_enhanced(folder / "all.dcm", where, voxels, ORDER)]
            else:
                files = volumes.write_classic(folder / series, where, voxels, ORDER)
            store(archive, volumes.as_series(files, series))
        more = f'[dicomweb.here]\nurl = "{archive}"\nheaders = {{ Authorization = "{LOGIN}" }}\n'
        with serving(data, data, more=more) as url:
            yield Place(url, archive, data, more)


TOKENS = {"reader": ["view", "run"], "keeper": ["view", "save"]}
"""Scopes by token."""


@pytest.fixture(scope="module")
def guarded(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Another server on the same archive, which remembers nothing of the first, with tokens."""
    data = tmp_path_factory.mktemp("guarded")
    more = place.more + "".join(
        f'[tokens.{token}]\nsha256 = "{digest(token)}"\nscopes = {json.dumps(scopes)}\n'
        for token, scopes in TOKENS.items()
    )
    with serving(data, data, more=more) as url:
        yield replace(place, url=url, data=data)


def drawn(where: VolumeGrid) -> NDArray[np.uint8]:
    """Return labels on the grid that was written: not symmetric, one voxel alone, two labels."""
    labels = np.zeros(where.shape, np.uint8)
    labels[2:6, 2:9, 5:12] = 3
    labels[3:5, 4:6, 7:10] = 0
    labels[7, 1, 20] = 3
    labels[4:8, 7:10, 13:19] = 7
    return labels


def name_of(series: str, k: int) -> tuple[str, int]:
    """Return instance and frame of the slice `k` of the grid that was written."""
    number = ORDER.index(k) + 1
    return (f"{series}.1", number) if series == MULTIFRAME else (f"{series}.{number}", 1)


def body(series: str, labels: NDArray[np.uint8], **more: object) -> dict[str, Any]:
    slices = []
    for k, layers in mask_rle.layers(mask_rle.encode(labels, range(len(labels)))):
        instance, frame = name_of(series, k)
        coded = [
            {"label": n, "box": list(box), "runs": base64.b64encode(code).decode()}
            for n, box, code in layers
        ]
        slices.append({"instance": instance, "frame": frame, "layers": coded})
    image = f"dicomweb:here/{volumes.STUDY}/{series}"
    return {"image": image, "segments": [BRAIN, LESION], "slices": slices, **more}


@pytest.mark.parametrize("format_", ["dicomseg", "dicomseg-labelmap"])
@pytest.mark.parametrize("series", GRIDS)
def test_it_lies_in_the_archive_where_it_was_drawn(place: Place, series: str, format_: str) -> None:
    labels = drawn(GRIDS[series])
    asked = body(series, labels, format=format_, description="brain, corrected")
    check(asked, "SaveRequest")
    answer = place.save(asked)
    assert answer.status_code == 201, answer.text
    check(answer.json(), "Saved")
    seg = place.read(answer.json())
    assert (seg.PatientID, seg.StudyInstanceUID) == ("P-1", volumes.STUDY)
    assert seg.FrameOfReferenceUID == volumes.FRAME
    assert seg.SeriesDescription == "brain, corrected"
    for number, label in ((1, 3), (2, 7)):
        expected = segs.expected(GRIDS[series], labels == label)
        np.testing.assert_allclose(segs.positions(seg, number), expected, atol=1e-3)


def test_it_says_who_found_what(place: Place) -> None:
    seg = highdicom.seg.Segmentation.from_dataset(
        place.read(place.save(body("2.25.1", drawn(GRIDS["2.25.1"]))).json())
    )
    brain, lesion = (seg.get_segment_description(n) for n in (1, 2))
    assert (brain.segment_label, lesion.segment_label) == ("Brain", "Lesion")
    assert brain.segmented_property_type.value == "12738006"
    assert (brain.algorithm_type.value, lesion.algorithm_type.value) == ("SEMIAUTOMATIC", "MANUAL")
    (algorithm,) = brain.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("brain", "1+abc")


def test_rtstruct(place: Place) -> None:
    labels = drawn(GRIDS["2.25.1"])
    saved = place.save(body("2.25.1", labels, format="rtstruct"))
    assert saved.status_code == 201, saved.text
    structures = place.read(saved.json())
    assert [roi.ROIName for roi in structures.StructureSetROISequence] == ["Brain", "Lesion"]


def test_the_same_result_is_stored_once(place: Place, guarded: Place) -> None:
    labels = drawn(GRIDS["2.25.3"])
    first = place.save(body("2.25.3", labels, description="once"))
    again = place.save(body("2.25.3", labels, description="once"))
    later = guarded.save(body("2.25.3", labels, description="once"), "keeper")
    assert [each.status_code for each in (first, again, later)] == [201, 200, 200]
    uids = [{**each.json(), "new": None} for each in (first, again, later)]
    assert uids[0] == uids[1] == uids[2]
    labels[0, 0, 0] = 7
    changed = place.save(body("2.25.3", labels, description="once"))
    assert changed.status_code == 201
    assert changed.json()["series"] != first.json()["series"]


def test_who_may_save(guarded: Place) -> None:
    asked = body("2.25.2", drawn(GRIDS["2.25.2"]), description="rights")
    assert [guarded.save(asked, each).status_code for each in TOKENS] == [403, 201]


def test_who_saved_is_noted(place: Place) -> None:
    saved = place.save(body("2.25.2", drawn(GRIDS["2.25.2"]), description="noted")).json()
    last = (place.data / "audit.log").read_text().splitlines()[-1]
    assert '"action":"save"' in last
    assert saved["instance"] in last


WRONG: Sequence[tuple[int, str, dict[str, Any]]] = [
    (404, "there is no archive 'there'", {"image": "dicomweb:there/1.2/2.25.1"}),
    (404, "the archive does not have", {"image": f"dicomweb:here/{volumes.STUDY}/2.25.99"}),
    (422, "is not in an archive", {"image": "slides/a.svs"}),
    (404, "in an archive as 'nifti'", {"format": "nifti"}),
    (400, "two segments have the label 3", {"segments": [BRAIN, {**LESION, "label": 3}]}),
    (400, "has the label 7", {"segments": [BRAIN]}),
    (400, "whole number from 1 to 255, got 256", {"segments": [{**BRAIN, "label": 256}]}),
    (400, "did you mean 'color'", {"segments": [{**BRAIN, "colour": [1, 2, 3]}]}),
    (422, "nothing was found", {"slices": []}),
]


@pytest.mark.parametrize(("status", "detail", "change"), WRONG)
def test_mistakes_are_named(place: Place, status: int, detail: str, change: dict[str, Any]) -> None:
    answer = place.save(body("2.25.1", drawn(GRIDS["2.25.1"])) | change)
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"] + answer.json()["remedy"]


LAYER = {"label": 3, "box": [2, 2, 4, 4], "runs": base64.b64encode(b"\x00\x04").decode()}


@pytest.mark.parametrize(
    ("status", "detail", "layers"),
    [
        (400, "two labels on one voxel", [LAYER, {**LAYER, "label": 7}]),
        (422, "not in 24 x 20 voxels", [{**LAYER, "box": [23, 2, 25, 4]}]),
        (422, "not in 24 x 20 voxels", [{**LAYER, "box": [4, 2, 2, 4]}]),
        (400, "the runs contain", [{**LAYER, "box": [2, 2, 4, 5]}]),
    ],
)
def test_mistakes_in_a_slice_are_named(
    place: Place, status: int, detail: str, layers: list[Any]
) -> None:
    instance, frame = name_of("2.25.1", 2)
    slices = [{"instance": instance, "frame": frame, "layers": layers}]
    answer = place.save(body("2.25.1", drawn(GRIDS["2.25.1"]), slices=slices))
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]


def test_a_slice_is_one_of_the_series_and_given_once(place: Place) -> None:
    labels = drawn(GRIDS["2.25.1"])
    whole = body("2.25.1", labels)
    twice = place.save(body("2.25.1", labels, slices=[whole["slices"][2]] * 2))
    other = place.save(body("2.25.1", labels, slices=body("2.25.2", labels)["slices"]))
    assert "given twice" in twice.json()["detail"]
    assert "not in the series" in other.json()["detail"]


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    where = GRIDS["2.25.1"]
    folder = tmp_path_factory.mktemp("one")
    return pydicom.dcmread(volumes.write_classic(folder, where, volumes.ramp(where.shape), [4])[0])


def test_an_archive_that_is_down(instance: Dataset) -> None:
    archive = Archive(f"http://127.0.0.1:{free_port()}/dicom-web", timeout_seconds=1)
    with pytest.raises(NotStored, match="does not respond: ConnectionError"):
        stow.store(archive, instance)


def test_an_archive_that_does_not_know_the_server(place: Place, instance: Dataset) -> None:
    with pytest.raises(NotStored, match=r"not allow this server to store .*401.*headers"):
        stow.store(Archive(place.archive), instance)


FAILED = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA701]}}]}}


@pytest.mark.parametrize(
    ("kind", "said", "reason"),
    [
        ("application/dicom+json", json.dumps(FAILED), "409, it is out of resources"),
        ("text/plain", "disk quota of radiology", "409, disk quota of radiology"),
        ("application/json", '{"Message": "Bad file", "Details": "x"}', "409, Bad file x"),
        ("text/html", "<h1>Conflict</h1>", "409; see the archive's log"),
        ("application/json", "[", "409; see the archive's log"),
    ],
)
def test_a_refusal_gives_the_reason_of_the_archive(
    instance: Dataset, kind: str, said: str, reason: str
) -> None:
    class Full(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(409)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Full) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        archive = Archive(f"http://127.0.0.1:{server.server_port}/dicom-web", timeout_seconds=5)
        try:
            with pytest.raises(NotStored, match=re.escape(reason)):
                stow.store(archive, instance)
        finally:
            server.shutdown()
            thread.join()
