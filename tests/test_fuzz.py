"""Requests that the OpenAPI document allows, and some that it does not; files that are damaged.

    FUZZ_CASES=5000 python -m pytest tests/test_fuzz.py

Whatever comes: no 5xx, no hang, and the server is the same process afterwards.
"""

from __future__ import annotations

import io
import os
import random
import struct
import sys
import zlib
from collections.abc import Iterator
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from PIL import Image
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from isoline import client as api
from isoline import openapi, registry, wire
from isoline.config import Limits
from isoline.errors import IsolineError
from tests.killable import Server, running
from tests.slides import disks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server as on Linux")

CASES = int(os.environ.get("FUZZ_CASES", "500"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ANSWER_SECONDS = 20
SLIDE, PICTURE = "slides/disks.tif", "slides/flat.png"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    images = tmp_path_factory.mktemp("images")
    disks(images / "disks.tif", (700, 500))
    pixels = np.full((150, 200, 3), 230, np.uint8)
    pixels[50:70, 40:90] = 40
    Image.fromarray(pixels).save(images / "flat.png")
    Image.fromarray(pixels).save(images / "flat.jpg")
    more = "[engine]\nworkers = 1\ntile_seconds = 10\n[limits]\nqueued_jobs = 10000\n"
    more += "uploads = 10000\n"
    with running(images, tmp_path_factory.mktemp("data"), more=more) as server:
        main = server.main.pid
        yield server
        assert server.main.pid == main, "the server crashed on the way"


# What the document allows


def _document() -> dict[str, Any]:
    """Return the OpenAPI document; half of the requests shall name what there is."""
    document: dict[str, Any] = dict(openapi.document())
    names = document["components"]["schemas"]["SegmentRequest"]["properties"]
    names["image"] = {"anyOf": [{"enum": [SLIDE, PICTURE]}, names["image"]]}
    save = document["components"]["schemas"]["SaveRequest"]["properties"]
    save["image"] = {"pattern": "^(dicomweb:|slides/)[a-z0-9./]*$", "type": "string"}
    names["model"] = {"anyOf": [{"enum": ["threshold", "nuclei"]}, names["model"]]}
    return document


SCHEMA = schemathesis.openapi.from_dict(_document())
OPERATIONS = [each.ok() for each in SCHEMA.get_all_operations() if isinstance(each, Ok)]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.label)
def test_requests_of_the_document(server: Server, operation: Any, mode: GenerationMode) -> None:
    @settings(
        max_examples=max(1, CASES // len(OPERATIONS) // 2),
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        answer = case.call(base_url=server.url, timeout=ANSWER_SECONDS)
        case.validate_response(answer, checks=CHECKS)

    try:
        ask()
    except (Unsatisfiable, SkipTest):
        pytest.skip("nothing can be wrong with it")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=20,
)


@settings(max_examples=CASES, deadline=None)
@given(st.dictionaries(st.sampled_from(wire.REQUEST_KEYS), JSON) | JSON | st.binary(max_size=200))
def test_wire_refuses_with_a_reason(value: object) -> None:
    import orjson

    try:
        body = value if isinstance(value, bytes) else orjson.dumps(value)
    except TypeError:
        return  # a number that JSON cannot say
    for read in (wire.parse_request, wire.parse_upload, wire.parse_focus, wire.parse_save):
        try:
            read(body)
        except IsolineError:
            continue  # it said why; anything else it may not raise


# Damaged files


def damaged(original: bytes, seed: int) -> bytes:
    """Return `original` cut off, or with bits flipped: mostly in its head, where the tags are."""
    choose = random.Random(seed)
    if seed % 3 == 0:
        return original[: choose.randrange(len(original))]
    changed = bytearray(original)
    for _ in range(choose.choice([1, 4, 32])):
        reach = len(changed) if choose.random() < 0.5 else min(len(changed), 512)
        changed[choose.randrange(reach)] ^= 1 << choose.randrange(8)
    return bytes(changed)


def dicom_tile() -> bytes:
    """Return one level of a DICOM whole slide image, PS3.3 A.32.8, as far as readers look."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    said = FileDataset("slide.dcm", {}, file_meta=meta, preamble=bytes(128))
    said.SOPClassUID = meta.MediaStorageSOPClassUID
    said.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    said.SeriesInstanceUID, said.StudyInstanceUID = generate_uid(), generate_uid()
    said.Modality, said.ImageType = "SM", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    said.Rows = said.Columns = 64
    said.TotalPixelMatrixRows = said.TotalPixelMatrixColumns = 128
    said.NumberOfFrames, said.SamplesPerPixel, said.PlanarConfiguration = 4, 3, 0
    said.PhotometricInterpretation = "RGB"
    said.BitsAllocated = said.BitsStored = 8
    said.HighBit, said.PixelRepresentation = 7, 0
    said.DimensionOrganizationType = "TILED_FULL"
    said.PixelData = bytes(range(256)) * (4 * 64 * 64 * 3 // 256)
    buffer = io.BytesIO()
    said.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["tif", "svs", "png", "jpg", "dcm"])
def test_damaged_files(server: Server, kind: str) -> None:
    if kind == "dcm":
        pytest.importorskip("pydicom")
        original = dicom_tile()
    else:
        names = {"tif": "disks.tif", "svs": "disks.tif", "png": "flat.png", "jpg": "flat.jpg"}
        original = (server.images / names[kind]).read_bytes()
    for seed in range(max(6, CASES // 50)):
        path = server.images / f"damaged-{seed}.{kind}"
        path.write_bytes(damaged(original, seed))
        name = f"slides/{path.name}"
        for where in (f"/v1/images/{name}", f"/v1/images/{name}/region?box=0,0,300,300&size=64"):
            answer = requests.get(server.url + where, timeout=ANSWER_SECONDS)
            assert answer.status_code in (200, 413, 422), f"{where}: {answer.text}"
        options: api.Options = {"region": [0, 0, 300, 300]}
        try:
            job = server.client.submit(name, "threshold", **options)
        except api.ClientError as error:
            assert error.status in (409, 413, 422), error  # noqa: PT017
        else:
            assert isinstance(list(job.events())[-1], api.Done | api.Failed)
        path.unlink()


# Sizes that are claimed


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def tiff_that_claims(width: int, height: int) -> bytes:
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 8),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return (
        b"II*\0"
        + struct.pack("<I", 16)
        + bytes(8)
        + struct.pack("<H", len(tags))
        + directory
        + bytes(4)
    )


@pytest.mark.parametrize("side", [30_000, 1_000_000, 2**31 - 1])
@pytest.mark.parametrize(("suffix", "claim"), [("png", png_that_claims), ("tif", tiff_that_claims)])
def test_a_size_is_not_believed(server: Server, suffix: str, claim: Any, side: int) -> None:
    path = server.images / f"claims.{suffix}"
    path.write_bytes(claim(side, side))
    before = server.main.memory_info().rss
    for where in ("", "/region?box=0,0,100,100", f"/region?box=0,0,{min(side, 99999999)},100"):
        answer = requests.get(f"{server.url}/v1/images/slides/{path.name}{where}", timeout=20)
        assert answer.status_code in (200, 413, 422), answer.text
    assert server.main.memory_info().rss - before < 300 << 20
    path.unlink()


def test_an_upload_whose_png_is_a_bomb(server: Server) -> None:
    body = {"size": [100, 100], "spacing_um": 0.25, "request": {"model": "threshold"}}
    created = requests.post(f"{server.url}/v1/uploads", json=body, timeout=20).json()
    where = f"{server.url}/v1/uploads/{created['upload']}/tiles/0/0/0"
    for bomb in (png_that_claims(50_000, 50_000), b"", b"\x89PNG\r\n\x1a\n", bytes(100)):
        assert requests.put(where, data=bomb, timeout=20).status_code in (400, 413, 422)


def test_a_body_that_is_a_gzip_bomb_is_not_unpacked(server: Server) -> None:
    import gzip

    bomb = gzip.compress(bytes(100 << 20))
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = requests.post(f"{server.url}/v1/jobs", data=bomb, headers=headers, timeout=20)
    assert answer.status_code == 400


def test_declared_sizes_are_capped() -> None:
    assert wire.MAX_BODY_BYTES <= 16 << 20
    assert Limits().region_pixels <= 1 << 26
    assert "plain" in registry.source_names()
