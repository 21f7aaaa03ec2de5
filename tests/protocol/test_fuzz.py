"""Requests that the OpenAPI document allows, and some that it does not; files that are damaged.

`python -m tests.benchmarks.fuzz` is the long form.

Whatever comes: no 5xx, no hang, and the server is the same process afterwards.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file

from isoline import client as api
from isoline.config.settings import Limits
from isoline.errors import IsolineError
from isoline.protocol import openapi
from isoline.protocol.requests import (
    MAX_BODY_BYTES,
    REQUEST_KEYS,
    parse_focus,
    parse_request,
    parse_save,
)
from isoline.protocol.upload_requests import parse_upload
from isoline.sources.registry import SOURCES
from tests.killable import Server, running
from tests.slides import disks

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the server as on Linux"),
    pytest.mark.slow,
]

CASES = int(os.environ.get("FUZZ_CASES", "500"))
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


# What the document allows, and what it does not


def document() -> dict[str, Any]:
    """Return the OpenAPI document; its requests shall name what there is."""
    said: dict[str, Any] = json.loads(json.dumps(openapi.document()))
    asked = said["components"]["schemas"]["SegmentRequest"]
    asked["properties"]["image"] = {"enum": [SLIDE, PICTURE]}
    asked["properties"]["model"] = {"enum": ["threshold", "nuclei"]}
    asked["examples"] = [{"image": SLIDE, "model": "threshold", "region": [10, 20, 300, 400]}]
    for path in ("/v1/images/{name}", "/v1/images/{name}/region"):
        said["paths"][path]["get"]["parameters"][0]["schema"] = {"enum": [SLIDE, PICTURE]}
    return said


LEFT_OUT = "positive_data_acceptance,use_after_free"
"""Of all checks. What a schema allows need not be possible: no schema can say that a region has to
lie on the image. And DELETE stops a job, whose results stay.
"""
CHECKS = """
hooks = "hooks.py"
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 429]
"""
"""What is too long is refused as 413."""
HOOKS = """
from urllib.parse import urlencode
import schemathesis

@schemathesis.hook
def filter_case(context, case):
    # beyond some 4,000 characters gunicorn answers itself, and not with a problem
    return len(urlencode(case.query or {}, doseq=True)) + 9 * len(str(case.path_parameters)) < 3500
"""


def test_requests_of_the_document(server: Server, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(document()))
    (tmp_path / "checks.toml").write_text(CHECKS)
    (tmp_path / "hooks.py").write_text(HOOKS)
    each = max(1, CASES // 20)  # for each operation, and in sequences of calls
    attack = subprocess.run(
        [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("--config-file", "checks.toml", "run", "openapi.json", "--url", server.url),
            *(
                "--checks",
                "all",
                "--exclude-checks",
                LEFT_OUT,
                "--max-examples",
                str(each),
                "--request-timeout",
                "20",
            ),
            *("--no-color", "--continue-on-failure", "--suppress-health-check", "all"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60 + CASES,
    )
    assert attack.returncode == 0, attack.stdout + attack.stderr
    ran = re.search(r"(\d+) generated", attack.stdout)
    assert ran is not None
    assert int(ran[1]) >= CASES, attack.stdout
    print(attack.stdout)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=20,
)


@settings(max_examples=CASES, deadline=None)
@given(st.dictionaries(st.sampled_from(REQUEST_KEYS), JSON) | JSON | st.binary(max_size=200))
def test_bodies_are_refused_with_a_reason(value: object) -> None:
    import orjson

    try:
        body = value if isinstance(value, bytes) else orjson.dumps(value)
    except TypeError:
        return  # a number that JSON cannot say
    for read in (parse_request, parse_upload, parse_focus, parse_save):
        try:
            read(body)
        except IsolineError:
            continue  # it said why; anything else it may not raise


# Damaged files


def tags_of(tiff: bytes) -> list[range]:
    """Return where the directories of a TIFF are, and its head."""
    with tifffile.TiffFile(io.BytesIO(tiff)) as file:
        return [range(8), *(range(page.offset, page.offset + 240) for page in file.pages)]


def damaged(original: bytes, heads: list[range], seed: int) -> bytes:
    """Return `original` cut off, or with bits flipped: half of them in `heads`."""
    choose = random.Random(seed)
    if seed % 3 == 0:
        return original[: choose.randrange(len(original))]
    changed = bytearray(original)
    for _ in range(choose.choice([1, 4, 32])):
        where = range(len(changed)) if choose.random() < 0.5 else choose.choice(heads)
        changed[choose.choice(where)] ^= 1 << choose.randrange(8)
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


HEAD = Path("/usr/share/mricron/templates/ch2.nii.gz")
RAISED = (34, 53, 77, 181)
"""With these, pydicom raised what nobody expects of it."""
FLAT: api.Options = {"region": [0, 0, 300, 300]}
DEEP: api.Options = {"format": "ohif"}


@pytest.fixture(params=["disks.tif", "flat.png", "flat.jpg", "slide.svs", "slide.dcm", "ct.dcm",
                        "head.nii.gz", "head.nii"])  # fmt: skip
def sound(request: pytest.FixtureRequest, server: Server) -> tuple[str, bytes]:
    """The name and the content of a file with which nothing is wrong."""
    name: str = request.param
    match name:
        case "slide.svs":
            return name, request.getfixturevalue("real_slide").read_bytes()
        case "slide.dcm":
            return name, dicom_tile()
        case "ct.dcm":
            return name, Path(str(get_testdata_file("CT_small.dcm", download=False))).read_bytes()
        case "head.nii.gz" | "head.nii":
            if not HEAD.exists():
                pytest.skip("needs apt-get install mricron-data")
            content = HEAD.read_bytes()
            return name, content if name.endswith(".gz") else gzip.decompress(content)
        case _:
            return name, (server.images / name).read_bytes()


def test_damaged_files(server: Server, sound: tuple[str, bytes]) -> None:
    whole, content = sound
    is_deep = whole.startswith(("ct", "head"))
    heads = (
        tags_of(content) if whole.endswith((".tif", ".svs")) else [range(min(512, len(content)))]
    )
    for seed in (*range(max(6, CASES // 50)), *RAISED):
        folder = server.images / f"damaged-{seed}"  # DICOM looks at what lies beside it
        folder.mkdir(exist_ok=True)
        (folder / whole).write_bytes(damaged(content, heads, seed))
        name = f"slides/{folder.name}/{whole}"
        for where in (f"/v1/images/{name}", f"/v1/images/{name}/region?box=0,0,300,300&size=64"):
            answer = requests.get(server.url + where, timeout=ANSWER_SECONDS)
            assert answer.status_code in (200, 413, 422), f"{where}: {answer.text}"
        try:
            model, options = ("threshold3d", DEEP) if is_deep else ("threshold", FLAT)
            job = server.client.submit(name, model, **options)
        except api.ClientError as error:
            assert error.status in (409, 413, 422), error  # noqa: PT017
        else:
            assert isinstance(list(job.events())[-1], api.Done | api.Failed)
        shutil.rmtree(folder)


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
    bomb = gzip.compress(bytes(100 << 20))
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = requests.post(f"{server.url}/v1/jobs", data=bomb, headers=headers, timeout=20)
    assert answer.status_code == 400


def test_declared_sizes_are_capped() -> None:
    assert MAX_BODY_BYTES <= 16 << 20
    assert Limits().region_pixels <= 1 << 26
    assert "plain" in SOURCES.names()
