"""Volumes that a viewer uploads: what is refused, and that the voxels arrive where they belong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from numpy.typing import NDArray

from isoline import client
from isoline.config.settings import Limits
from isoline.domain.request import SegmentRequest
from isoline.errors import (
    BadPrompt,
    BadSeries,
    BadSpacing,
    IsolineError,
    Malformed,
    NotSupported,
    TooLarge,
    UnknownModel,
    Unreadable,
    UploadState,
    WeightsMissing,
)
from isoline.geometry.volume_grid import LPS, SliceName, VolumeGrid, VolumeInfo
from isoline.images.catalog import ANYONE, Images
from isoline.images.uploads import Uploads
from isoline.models.catalogue import ModelCatalogue
from isoline.sources.registry import open_image
from isoline.sources.uploaded_volume import UploadedVolume, VolumeUploadRequest, VoxelType
from isoline.sources.volume import VolumeSource
from isoline.testing.contracts import VolumeSourceContract
from tests import volumes
from tests.conftest import SharedServer
from tests.planning import planner
from tests.prompting import point

GRID = volumes.grid((24, 20, 9), axes=volumes.turned(0.4, -0.3, 1.2))
NAMES = tuple(SliceName("1.2.3", frame) for frame in range(1, 10))
RAMP = volumes.ramp(GRID.shape)


def announced(
    grid: VolumeGrid = GRID, dtype: VoxelType = "int16", model: str = "threshold3d", **asked: Any
) -> VolumeUploadRequest:
    names = NAMES if grid.size[2] == len(NAMES) else ()
    request = SegmentRequest("upload:", model, **asked)
    return VolumeUploadRequest(VolumeInfo(grid, names, "CT"), dtype, request)


def little(plane: NDArray[np.generic]) -> bytes:
    return plane.astype(plane.dtype.newbyteorder("<")).tobytes()


def uploaded(uploads: Uploads, voxels: NDArray[np.generic]) -> str:
    """Send (k, j, i) voxels, the last slice first, and return the image's name."""
    dtype: Any = voxels.dtype.name
    upload, _ = uploads.create_volume(announced(dtype=dtype))
    for k in reversed(range(len(voxels))):
        uploads.put(upload, (k,), little(voxels[k]))
    return f"upload:{upload}"


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads", Limits(uploads=3))


class TestUploadedVolume(VolumeSourceContract):
    source = UploadedVolume

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        uploads = Uploads(tmp_path / "uploads", Limits())
        path = uploads.find(uploaded(uploads, RAMP), ANYONE).path
        assert isinstance(path, Path)
        return path


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("uint8", "int16"),
        ("int8", "int16"),
        ("uint16", "float32"),
        ("int16", "int16"),
        ("float32", "float32"),
    ],
)
def test_voxels_arrive_in_their_places(uploads: Uploads, sent: str, read: str) -> None:
    voxels = (RAMP % 120).astype(sent)
    found = uploads.find(uploaded(uploads, voxels), ANYONE)
    source = open_image(found.path, found.info.reader)
    assert isinstance(source, VolumeSource)
    assert source.voxels().dtype == found.info.dtype == np.dtype(read)
    np.testing.assert_array_equal(source.voxels(), voxels)
    assert found.info.volume == VolumeInfo(GRID, NAMES, "CT")


def test_the_fingerprint_is_of_the_voxels_and_their_places(uploads: Uploads) -> None:
    first = uploads.find(uploaded(uploads, RAMP), ANYONE).info.fingerprint
    again = uploads.find(uploaded(uploads, RAMP), ANYONE).info.fingerprint
    other = uploads.find(uploaded(uploads, np.roll(RAMP, 1, axis=0)), ANYONE).info.fingerprint
    assert first == again != other


def test_a_volume_outlives_a_restart(uploads: Uploads, tmp_path: Path) -> None:
    name = uploaded(uploads, RAMP)
    before = uploads.find(name, ANYONE).info
    assert Uploads(tmp_path / "uploads", Limits()).find(name, ANYONE).info == before


def test_a_slice_that_is_missing_or_comes_too_late(uploads: Uploads) -> None:
    upload, manifest = uploads.create_volume(announced())
    for k in (*range(4), *range(5, 9)):
        uploads.put(upload, (k,), little(RAMP[k]))
    with pytest.raises(UploadState, match=r"slices of .* are missing: 1, the first of them 4"):
        uploads.find(f"upload:{upload}", ANYONE)
    uploads.put(upload, (4,), little(RAMP[4]))
    uploads.find(f"upload:{upload}", ANYONE)
    with pytest.raises(UploadState, match="in use"):
        uploads.put(upload, (4,), little(RAMP[4]))
    assert manifest.slice_bytes == 24 * 20 * 2


@pytest.mark.parametrize(
    ("part", "body", "said"),
    [
        ((9,), RAMP[0].tobytes(), "has no slice 9"),
        ((0, 0, 0), RAMP[0].tobytes(), "has no tile 0/0/0"),
        ((0,), RAMP[0].tobytes()[:-1], "got 959 bytes for slice 0; expected 960: 20 rows of 24"),
        ((0,), b"", "got 0 bytes"),
    ],
)
def test_a_slice_that_does_not_fit(
    uploads: Uploads, part: tuple[int, ...], body: bytes, said: str
) -> None:
    upload, _ = uploads.create_volume(announced())
    with pytest.raises(Malformed, match=said):
        uploads.put(upload, part, body)


def test_a_damaged_slice_is_unreadable(uploads: Uploads) -> None:
    found = uploads.find(uploaded(uploads, RAMP), ANYONE)
    assert isinstance(found.path, Path)
    (found.path.parent / "3.slice").write_bytes(b"short")
    with pytest.raises(Unreadable, match=r"3\.slice"):
        UploadedVolume.open(found.path).voxels()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"volume": {"grid": {}}}'])
def test_a_manifest_that_is_not_one_is_unreadable(tmp_path: Path, text: str) -> None:
    (tmp_path / "volume.json").write_text(text)
    with pytest.raises(Unreadable):
        UploadedVolume.open(tmp_path / "volume.json")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"step_k_mm": GRID.step_i_mm}, BadSpacing),
        ({"step_j_mm": LPS(0.0, 0.0, 0.0)}, BadSpacing),
        ({"step_i_mm": LPS(1e200, 0.0, 0.0)}, BadSpacing),
        ({"size": (24, 20, 8)}, BadSeries),
    ],
)
def test_voxels_that_do_not_form_a_volume(
    change: dict[str, Any], error: type[IsolineError]
) -> None:
    volume = VolumeInfo(dataclasses.replace(GRID, **change), NAMES)
    with pytest.raises(error):
        VolumeUploadRequest(volume, "int16", SegmentRequest("upload:", "threshold3d"))


def test_two_slices_of_one_name() -> None:
    with pytest.raises(BadSeries, match="9 different names"):
        VolumeUploadRequest(
            VolumeInfo(GRID, (*NAMES[:8], NAMES[0])), "int16", SegmentRequest("", "threshold3d")
        )


@pytest.mark.parametrize(
    ("model", "asked", "error"),
    [
        ("nothing", {}, UnknownModel),
        ("nuclei", {}, NotSupported),
        ("brain", {}, WeightsMissing),
        ("click", {}, BadPrompt),
        ("click", {"prompts": (point(30, 5, 5),)}, BadPrompt),
        ("threshold3d", {"format": "geojson"}, NotSupported),
        ("threshold3d", {"z": 3}, NotSupported),
        ("threshold3d", {"prompts": (point(3, 3, 3),)}, BadPrompt),
    ],
)
def test_what_a_model_cannot_take_is_refused_before_a_slice_is_sent(
    tmp_path: Path, model: str, asked: dict[str, Any], error: type[IsolineError]
) -> None:
    with pytest.raises(error):
        planner(Images({}), ModelCatalogue(tmp_path)).check_upload(announced(model=model, **asked))


def test_what_a_model_can_take_is_not_refused(tmp_path: Path) -> None:
    plans = planner(Images({}), ModelCatalogue(tmp_path))
    plans.check_upload(announced(parameters={"above": 100}))
    plans.check_upload(announced(model="click", prompts=(point(3, 4, 5),)))


def test_too_many_voxels(tmp_path: Path, uploads: Uploads) -> None:
    large = dataclasses.replace(GRID, size=(2048, 2048, 1024))
    with pytest.raises(BadSeries, match=r"limits\.volume_mib"):
        planner(Images({}), ModelCatalogue(tmp_path)).check_upload(announced(large))
    wide = dataclasses.replace(GRID, size=(8192, 8192, 2))
    with pytest.raises(TooLarge, match="a slice has 134217728 bytes"):
        uploads.create_volume(announced(wide))


def test_over_http(shared_server: SharedServer) -> None:
    """A volume is sent, segmented by a whole-volume model and by a click, and shown."""
    url = shared_server.url
    given = {
        "size": [*GRID.size],
        "origin_mm": [*GRID.origin_mm],
        "step_i_mm": [*GRID.step_i_mm],
        "step_j_mm": [*GRID.step_j_mm],
        "step_k_mm": [*GRID.step_k_mm],
    }
    body = {"volume": given, "dtype": "int16", "request": {"model": "threshold3d"}}
    refused = requests.post(
        f"{url}/v1/uploads", json={**body, "request": {"model": "tissue"}}, timeout=20
    ).json()
    assert refused["code"] == "NotSupported"
    assert "the image is a volume" in refused["detail"]

    created = requests.post(f"{url}/v1/uploads", json=body, timeout=20)
    assert created.status_code == 201
    said = created.json()
    assert (said["slices"], said["bytes"]) == (9, 24 * 20 * 9 * 2)
    sent = [
        requests.put(
            f"{url}/v1/uploads/{said['upload']}/slices/{k}", data=little(RAMP[k]), timeout=20
        ).status_code
        for k in range(9)
    ]
    assert sent == [204] * 9

    server = client.Client(url)
    told = list(server.submit(said["image"], "threshold3d", parameters={"above": 1000}).events())
    started, found = told[0], [event for event in told if isinstance(event, client.Mask)]
    assert isinstance(started, client.Started)
    assert isinstance(told[-1], client.Done)
    drawn = {each["k"]: bool(each["layers"]) for event in found for each in event.slices}
    assert drawn == {k: bool((RAMP[k] >= 1000).any()) for k in range(9)}

    shown = requests.get(
        f"{url}/v1/images/{said['image']}/region?box=0,0,24,20&z=5&format=raw", timeout=20
    )
    assert shown.content == little(RAMP[5])
