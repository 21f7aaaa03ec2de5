"""The command line on volumes, as a user runs it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pytest
import requests

from isoline.cli import segment_volume
from isoline.errors import NotSupported
from isoline.exports import labelmap, nifti
from isoline.exports.labelmap import Segmented
from isoline.geometry.volume_grid import VolumeInfo
from tests import volumes
from tests.orthanc import PASSWORD, USER, orthanc, store

pytestmark = pytest.mark.slow

WHERE = volumes.grid(axes=volumes.turned(0.4, -0.3, 1.2))
ABOVE = 1500.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    order = np.random.default_rng(2).permutation(9).tolist()
    volumes.write_classic(folder / "ct", WHERE, volumes.ramp(WHERE.shape), order)
    ras = np.diag([-1, -1, 1, 1.0]) @ WHERE.affine
    nibabel.save(nibabel.Nifti1Image(volumes.ramp(WHERE.shape).T, ras), folder / "ct.nii.gz")
    return folder


def isoline(
    image: Path | str, out: Path, format_: str, *more: object, status: int = 0
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "isoline", "segment", str(image), "--model", "threshold3d"]
    options = ["--param", f"above={ABOVE}", "--format", format_, "--out", str(out)]
    environment = {**os.environ, "ISOLINE_DATA": str(out.parent)}
    ran = subprocess.run(
        [*command, *options, *map(str, more)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == status, ran.stderr
    return ran


def truth() -> Any:
    return (volumes.ramp(WHERE.shape) >= ABOVE).astype(np.uint8)


def test_nifti_to_nifti(folder: Path, tmp_path: Path) -> None:
    isoline(folder / "ct.nii.gz", tmp_path / "m.nii.gz", "nifti", "--slice", 2)
    made: Any = nibabel.load(tmp_path / "m.nii.gz")
    given: Any = nibabel.load(folder / "ct.nii.gz")
    np.testing.assert_array_equal(np.asarray(made.dataobj).T, truth())
    np.testing.assert_allclose(made.affine, given.affine, atol=1e-4)


def test_dicom_to_dicomseg(folder: Path, tmp_path: Path) -> None:
    isoline(folder / "ct", tmp_path / "m.dcm", "dicomseg")
    check_seg(tmp_path / "m.dcm")


def test_a_volume_has_slices_and_labels_and_its_flaws_are_told(tmp_path: Path) -> None:
    where = volumes.grid(lean=(0.0, 0.9))
    volumes.write_classic(tmp_path / "ct", where, volumes.ramp(where.shape))
    said = isoline(tmp_path / "ct", tmp_path / "m.nii.gz", "nifti").stderr
    assert "1 label found in" in said
    assert "9 slices" in said
    assert "gantry tilt: programs based on ITK refuse NIfTI masks" in " ".join(said.split())
    assert "tiles" not in said
    assert "objects" not in said


def test_what_reading_shows_is_told(tmp_path: Path) -> None:
    values = volumes.ramp(WHERE.shape).astype(np.float32)
    values[0, 0, 0] = np.nan
    ras = np.diag([-1, -1, 1, 1.0]) @ WHERE.affine
    nibabel.save(nibabel.Nifti1Image(values.T, ras), tmp_path / "v.nii.gz")
    said = isoline(tmp_path / "v.nii.gz", tmp_path / "m.nii.gz", "nifti").stderr
    assert "warning: 1 voxel is no finite number" in said
    made: Any = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(np.asarray(made.dataobj).T, truth())


def check_seg(path: Path) -> None:
    seg = highdicom.seg.segread(path)
    names = [f"{volumes.SERIES}.{k + 1}" for k in range(9)]
    found = seg.get_pixels_by_source_instance(
        names,
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(found, truth())
    assert seg.PatientID == "P-1"


def test_an_archive_to_dicomseg(folder: Path, tmp_path: Path) -> None:
    with orthanc(tmp_path) as url:
        store(url, sorted((folder / "ct").iterdir()))
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        config = tmp_path / "isoline.toml"
        config.write_text(
            f'data = "{tmp_path.as_posix()}"\n[dicomweb.here]\nurl = "{url}"\n'
            f'headers = {{ Authorization = "Basic {login}" }}\n'
        )
        name = f"dicomweb:here/{volumes.STUDY}/{volumes.SERIES}"
        said = isoline(name, tmp_path / "m.dcm", "dicomseg", "--store", "--config", config).stderr
        assert "stored as series" in said
        isoline(name, tmp_path / "r.dcm", "rtstruct", "--config", config)
        found = requests.get(
            f"{url}/studies/{volumes.STUDY}/series", auth=(USER, PASSWORD), timeout=20
        ).json()
        assert sorted(each["00080060"]["Value"][0] for each in found) == ["CT", "SEG"]
    check_seg(tmp_path / "m.dcm")


def test_the_event_stream(folder: Path, tmp_path: Path) -> None:
    isoline(folder / "ct", tmp_path / "m.ndjson", "ndjson")
    lines = [json.loads(line) for line in (tmp_path / "m.ndjson").read_text().splitlines()]
    assert [lines[0]["event"], lines[-1]["event"]] == ["started", "done"]
    slices = [each["k"] for line in lines if line["event"] == "mask" for each in line["slices"]]
    assert sorted(slices) == list(range(9))


def test_mistakes_are_told_in_two_lines(folder: Path, tmp_path: Path) -> None:
    said = isoline(folder / "ct", tmp_path / "m.x", "geojson", status=2).stderr
    assert "results on volumes cannot be written as 'geojson'" in said
    said = isoline(folder / "ct.nii.gz", tmp_path / "m.dcm", "rtstruct", status=2).stderr
    assert "needs a DICOM series" in said
    said = isoline(folder / "ct", tmp_path / "m.dcm", "dicomseg", "--store", status=2).stderr
    assert "cannot be stored" in said


def test_a_result_that_has_no_place_is_told_before_it_is_computed(
    folder: Path, tmp_path: Path
) -> None:
    for out, format_, what in (
        (tmp_path / "no" / "m.dcm", "dicomseg", "there is no such folder"),
        (tmp_path, "rtstruct", "it is a folder"),
        (tmp_path / "m.dcm", "nifti", "end the name in .nii or .nii.gz"),
    ):
        said = isoline(folder / "ct", tmp_path / "m", format_, "--out", out, status=2).stderr
        assert what in said
        assert "segmenting" not in said


def test_a_result_that_cannot_be_written_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.zeros(WHERE.shape, np.uint8)
    labels[2, 3, 4] = 1
    result = Segmented(labels, (), VolumeInfo(WHERE), "ct", "isoline")
    monkeypatch.setattr(labelmap, "writer", {"nifti": nifti.write, "dicomseg": fail}.__getitem__)
    with pytest.raises(NotSupported, match=r"odd; try nifti; the mask is in .*m-.*\.nii\.gz"):
        segment_volume.write(result, "dicomseg", tmp_path / "m.dcm", None)
    (kept,) = tmp_path.glob("m-*.nii.gz")
    image: Any = nibabel.load(kept)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, labels)


def fail(*_: object) -> None:
    raise NotSupported("odd", "try nifti")


def test_without_the_extra_a_message_says_how_to_install_it(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['nibabel'] = None; from isoline.cli.main import main;"
        f" main(['check', {str(folder / 'ct.nii.gz')!r}])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert "pip install 'isoline[radiology]'" in ran.stderr


def test_the_package_stays_light() -> None:
    heavy = ("torch", "nibabel", "highdicom", "dicomweb_client")
    code = (
        "import sys, isoline.server.app;"
        "from isoline.models.catalogue import MODELS; from isoline.sources.registry import SOURCES;"
        "MODELS.load_all(); SOURCES.load_all();"
        f" print([n for n in {heavy} if n in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
