"""Volumes and clicks through MONAI Label's API: its own Python client, and what other clients send.

Volumes are NIfTI files of the datastore, and series of a real archive as the OHIF panel names them.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import requests
from numpy.typing import NDArray
from PIL import Image

from isoline.geometry.volume_grid import VolumeGrid, swap_ras
from tests import volumes
from tests.orthanc import PASSWORD, USER, orthanc, store
from tests.serving import serving

pytestmark = pytest.mark.slow

WHERE = volumes.grid(size=(40, 30, 24), axes=volumes.turned(0.4, -0.3, 1.2))
VOXELS = volumes.ramp(WHERE.shape)
BRIGHT = {"above": 2000}
TRUTH = (BRIGHT["above"] <= VOXELS).astype(np.uint8)
CUBES = ((3, 5, 5), (3, 20, 30), (18, 15, 20))
"""k, j, i of the middles of dark cubes, five voxels wide."""


def nifti(path: Path, voxels: NDArray[np.generic], where: VolumeGrid = WHERE) -> Path:
    image = nibabel.Nifti1Image(voxels.T, swap_ras(where.affine))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def cube(*middle: int) -> NDArray[np.bool_]:
    """Return (k, j, i) where the cube around `middle` is."""
    inside = np.zeros(WHERE.shape, np.bool_)
    inside[tuple(slice(at - 2, at + 3) for at in middle)] = True
    return inside


def dark_cubes() -> NDArray[np.int16]:
    voxels = np.full(WHERE.shape, 500, np.int16)
    for middle in CUBES:
        voxels[cube(*middle)] = 10
    return voxels


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    images, data, studies = (tmp_path_factory.mktemp(name) for name in ("images", "data", "mine"))
    nifti(studies / "ramp.nii.gz", VOXELS)
    nifti(studies / "cubes.nii.gz", dark_cubes())
    plane = np.full((200, 300, 3), 240, np.uint8)
    plane[40:50, 60:80], plane[100:130, 200:210] = 20, 20
    Image.fromarray(plane).save(studies / "plane.png")
    more = f'[engine]\nworkers = 1\n[monailabel]\ndatastore = "{studies.as_posix()}"\n'
    with serving(images, data, more=more) as address:
        yield address


@pytest.fixture
def client(monailabel: Any, url: str, tmp_path: Path) -> Any:
    return monailabel.MONAILabelClient(url, tmpdir=str(tmp_path))


def read(path: str | Path) -> NDArray[np.uint8]:
    """Return (k, j, i) of a NIfTI file that lies as the image does."""
    image: Any = nibabel.load(path)
    assert np.allclose(image.affine, swap_ras(WHERE.affine), atol=1e-4)
    labels: NDArray[np.uint8] = np.asarray(image.dataobj, np.uint8).T
    return labels


def asked(url: str, model: str, image: str, output: str, **params: Any) -> requests.Response:
    where = f"{url}/infer/{model}?image={image}&output={output}"
    return requests.post(where, data={"params": json.dumps(params)}, timeout=60)


# MONAI Label's own client


def test_the_client_gets_a_mask_of_a_volume(client: Any) -> None:
    file, params = client.infer("threshold3d", "ramp", BRIGHT)
    assert np.array_equal(read(file), TRUTH)
    assert params["label_names"] == {"Foreground": 1}


def test_a_volume_that_the_client_sends(client: Any, tmp_path: Path) -> None:
    path = nifti(tmp_path / "sent.nii", VOXELS)
    file, _ = client.infer("threshold3d", "", BRIGHT, file=str(path))
    assert np.array_equal(read(file), TRUTH)
    session = client.create_session(str(path))["session_id"]
    file, _ = client.infer("threshold3d", "", BRIGHT, session_id=session)
    assert np.array_equal(read(file), TRUTH)


def test_the_client_is_told_what_models_are(client: Any) -> None:
    models = client.info()["models"]
    said = {name: (model["type"], model["dimension"]) for name, model in models.items()}
    assert said["threshold3d"] == ("segmentation", 3)
    assert said["threshold"] == ("segmentation", 2)
    assert said["flood"] == ("deepgrow", 3)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_batch_over_volumes(client: Any, url: str, suffix: str) -> None:
    body = {**BRIGHT, "label_tag": "auto", "result_extension": suffix, "images": ["ramp", "cubes"]}
    answer = requests.post(f"{url}/batch/infer/threshold3d?run_sync=true", json=body, timeout=60)
    assert answer.json().keys() == {"ramp", "cubes"}
    assert answer.json()["ramp"]["params"]["label_names"] == {"Foreground": 1}
    path = client.download_label("ramp", "auto")
    assert path.endswith(suffix)
    if suffix == ".nrrd":
        _, _, voxels = Path(path).read_bytes().partition(b"\n\n")
        assert np.array_equal(np.frombuffer(voxels, np.uint8).reshape(WHERE.shape), TRUTH)
    else:
        assert np.array_equal(read(path), TRUTH)
    assert client.info()["datastore"]["label_tags"]["auto"] == 2


def test_a_batch_goes_on_after_what_is_no_volume(client: Any, url: str) -> None:
    body = {**BRIGHT, "label_tag": "mixed", "images": ["plane", "ramp"]}
    requests.post(f"{url}/batch/infer/threshold3d?run_sync=true", json=body, timeout=60)
    (task,) = (each for each in _batches(url) if each["request"].get("label_tag") == "mixed")
    assert task["status"] == "ERROR"
    assert task["details"][0].startswith("plane: ")
    assert np.array_equal(read(client.download_label("ramp", "mixed")), TRUTH)


def _batches(url: str) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = requests.get(f"{url}/batch/infer?all=true", timeout=60).json()
    return tasks


# As 3D Slicer, OHIF and QuPath ask


def test_nrrd_as_the_ohif_panel_asks(url: str) -> None:
    options = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False}
    answer = asked(url, "threshold3d", "ramp", "image", **BRIGHT, **options)
    head, _, body = answer.content.partition(b"\n\n")
    said = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:])
    assert (said["type"], said["encoding"], said["sizes"]) == ("uint8", "raw", "40 30 24")
    assert said["space"] == "left-posterior-superior"
    assert np.array_equal(np.frombuffer(body, np.uint8).reshape(WHERE.shape), TRUTH)

    def numbers(text: str) -> list[float]:
        return [float(each) for each in text.replace(")", "").replace("(", "").split(",")]

    origin, steps = said["space origin"], said["space directions"].split(" ")
    assert np.allclose(numbers(origin), WHERE.origin_mm, atol=1e-4)
    assert np.allclose([numbers(step) for step in steps], WHERE.affine[:3, :3].T, atol=1e-4)


@pytest.mark.parametrize(
    "points",
    [
        {"foreground": [[5, 5, 3], [20, 15, 18]], "background": [[30, 20, 3]]},
        {"thing": [[5, 5, 3], [20, 15, 18]], "background": [[30, 20, 3]]},
        {"label_info": [{"name": "spleen"}], "spleen": [[5, 5, 3], [20, 15, 18]]},
        {"points": [[5, 5, 3], [30, 20, 3], [20, 15, 18]], "point_labels": [1, 0, 1]},
    ],
)
def test_clicks_in_a_volume(url: str, points: dict[str, Any], tmp_path: Path) -> None:
    answer = asked(url, "flood", "cubes", "image", below=100, **points)
    assert answer.status_code == 200, answer.text
    (tmp_path / "mask.nii.gz").write_bytes(answer.content)
    expected = cube(3, 5, 5) | cube(18, 15, 20)
    assert np.array_equal(read(tmp_path / "mask.nii.gz") > 0, expected)


def test_scribbles_as_slicer_sends_them(url: str, tmp_path: Path) -> None:
    drawn = np.zeros(WHERE.shape, np.uint8)
    drawn[3, 5, 4:7] = drawn[3, 19:21, 30] = 3
    drawn[3, 20, 30] = 2
    label = nifti(tmp_path / "label.nii.gz", drawn)
    where = f"{url}/infer/flood?image=cubes&output=image"
    fields = {"params": json.dumps({"below": 100})}
    answer = requests.post(where, data=fields, files={"label": label.open("rb")}, timeout=60)
    assert answer.status_code == 200, answer.text
    (tmp_path / "mask.nii.gz").write_bytes(answer.content)
    assert np.array_equal(read(tmp_path / "mask.nii.gz") > 0, cube(3, 5, 5))


def test_clicks_on_a_slide_are_objects_of_their_own(url: str) -> None:
    params = {"below": 100, "foreground": [[65, 45], [205, 110]]}
    body = {"location": [0, 0], "size": [300, 200], "min_poly_area": 0, "params": params}
    where = f"{url}/infer/wsi_v2/flood?image=plane&output=json"
    answer = requests.post(where, data={"wsi": json.dumps(body)}, timeout=60)
    assert answer.status_code == 200, answer.text
    (element,) = answer.json()["annotations"][0]["annotation"]["elements"]
    boxes = [np.ptp(contour, axis=0).tolist() for contour in element["contours"]]
    assert boxes == [[20, 10], [10, 30]]


def test_clicks_on_a_plane_as_a_mask(url: str) -> None:
    answer = asked(url, "flood", "plane", "image", below=100, foreground=[[65, 45], [205, 110]])
    mask = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert int((mask > 0).sum()) == 20 * 10 + 10 * 30


@pytest.mark.parametrize(
    ("model", "image", "output", "params", "says"),
    [
        ("threshold", "ramp", "image", {}, "volume"),
        ("threshold3d", "plane", "image", {}, "volume"),
        ("threshold3d", "ramp", "dicom_seg", {}, "is not one"),
        ("threshold3d", "ramp", "image", {"result_extension": ".png"}, "cannot be written as"),
        ("flood", "cubes", "image", {}, "prompt"),
        ("flood", "cubes", "image", {"foreground": [[1, 2]]}, "foreground"),
        ("flood", "cubes", "image", {"points": [[1, 2, 3]], "point_labels": []}, "point_labels"),
        ("threshold3d", "1.2.3.4", "image", {}, "not found"),
    ],
)
def test_what_cannot_be_is_refused(
    url: str, model: str, image: str, output: str, params: dict[str, Any], says: str
) -> None:
    answer = asked(url, model, image, output, **params)
    assert answer.status_code in (400, 404, 422), answer.text
    assert says in answer.json()["detail"]


def session_of(url: str, files: list[Path]) -> requests.Response:
    parts = [("files", (path.name, path.read_bytes())) for path in files]
    return requests.put(f"{url}/session/", files=parts, timeout=60)


@pytest.mark.parametrize("slices", [14, 80])
def test_a_session_keeps_every_file_of_a_series(url: str, tmp_path: Path, slices: int) -> None:
    where = volumes.grid(size=(12, 10, slices), axes=volumes.turned(0.4, -0.3, 1.2))
    voxels = volumes.ramp(where.shape)
    sent = session_of(url, volumes.write_classic(tmp_path / "ct", where, voxels))
    assert sent.status_code == 200, sent.text
    session = sent.json()["session_id"]
    answer = requests.post(
        f"{url}/infer/threshold3d?session_id={session}&output=image",
        data={"params": json.dumps(BRIGHT)},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    (tmp_path / "mask.nii.gz").write_bytes(answer.content)
    image: Any = nibabel.load(tmp_path / "mask.nii.gz")
    assert image.shape == (12, 10, slices)
    assert np.count_nonzero(image.dataobj) == (voxels >= BRIGHT["above"]).sum()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32"])
def test_a_nifti_mask_has_the_type_that_was_asked_for(url: str, tmp_path: Path, dtype: str) -> None:
    answer = asked(url, "threshold3d", "ramp", "image", **BRIGHT, result_dtype=dtype)
    (tmp_path / "mask.nii.gz").write_bytes(answer.content)
    image: Any = nibabel.load(tmp_path / "mask.nii.gz")
    assert image.get_data_dtype() == np.dtype(dtype)
    assert np.array_equal(read(tmp_path / "mask.nii.gz"), TRUTH)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scribbles_count_where_they_lie(url: str, tmp_path: Path, axis: int) -> None:
    """As programs write them that store an axis the other way round."""
    drawn = np.zeros(WHERE.shape, np.uint8)
    drawn[3, 5, 4:7] = 3
    flip = np.eye(4)
    flip[axis, axis], flip[axis, 3] = -1, WHERE.size[axis] - 1
    turned = np.flip(drawn, 2 - axis)
    image = nibabel.Nifti1Image(turned.T, swap_ras(WHERE.affine @ flip))
    nibabel.save(image, tmp_path / "label.nii.gz")
    answer = scribbled(url, tmp_path / "label.nii.gz")
    assert answer.status_code == 200, answer.text
    (tmp_path / "mask.nii.gz").write_bytes(answer.content)
    assert np.array_equal(read(tmp_path / "mask.nii.gz") > 0, cube(3, 5, 5))


def scribbled(url: str, label: Path) -> requests.Response:
    return requests.post(
        f"{url}/infer/flood?image=cubes&output=image",
        data={"params": json.dumps({"below": 100})},
        files={"label": (label.name, label.read_bytes())},
        timeout=60,
    )


def test_scribbles_beside_the_image_are_refused(url: str, tmp_path: Path) -> None:
    drawn = np.zeros(WHERE.shape, np.uint8)
    drawn[3, 5, 4:7] = 3
    image = nibabel.Nifti1Image(drawn.T, swap_ras(WHERE.affine) + _far())
    nibabel.save(image, tmp_path / "label.nii.gz")
    answer = scribbled(url, tmp_path / "label.nii.gz")
    assert answer.status_code == 400
    assert "outside the image" in answer.json()["detail"]


def _far() -> NDArray[np.float64]:
    away = np.zeros((4, 4))
    away[:3, 3] = 500
    return away


def test_a_damaged_volume_is_the_callers_and_not_the_servers(url: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(-30, 30, WHERE.shape).astype(np.int16)
    path = nifti(tmp_path / "v.nii.gz", VOXELS + noise)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)
    session = session_of(url, [path]).json()["session_id"]
    where = f"{url}/infer/threshold3d?session_id={session}&output=image"
    answer = requests.post(where, data={"params": json.dumps(BRIGHT)}, timeout=60)
    assert answer.status_code == 422, answer.text
    assert "is damaged" in answer.json()["detail"]


# Series of an archive


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("archive")
    with orthanc(folder) as address:
        store(address, volumes.write_classic(folder / "classic", WHERE, VOXELS))
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        more = (
            f'[engine]\nworkers = 1\n[dicomweb.here]\nurl = "{address}"\n'
            f'[dicomweb.here.headers]\nAuthorization = "Basic {login}"\n'
        )
        images, data = (tmp_path_factory.mktemp(name) for name in ("images", "data"))
        with serving(images, data, more=more) as server:
            yield server


def test_a_series_by_its_uid(archived: str, tmp_path: Path) -> None:
    answer = asked(archived, "threshold3d", volumes.SERIES, "image", **BRIGHT)
    assert answer.status_code == 200, answer.text
    (tmp_path / "mask.nii.gz").write_bytes(answer.content)
    assert np.array_equal(read(tmp_path / "mask.nii.gz"), TRUTH)


def test_a_series_as_dicom_seg(archived: str) -> None:
    answer = asked(archived, "threshold3d", volumes.SERIES, "dicom_seg", **BRIGHT)
    assert answer.headers["Content-Type"] == "application/dicom"
    said = pydicom.dcmread(io.BytesIO(answer.content))
    assert said.SOPClassUID.name == "Segmentation Storage"
    assert said.StudyInstanceUID == volumes.STUDY
    assert said.pixel_array.sum() == TRUTH.sum()
    nothing = asked(archived, "threshold3d", volumes.SERIES, "dicom_seg", above=99999)
    assert nothing.status_code == 422
    assert "nothing was found" in nothing.json()["detail"]
