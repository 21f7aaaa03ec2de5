"""Volumes from NIfTI files and DICOM folders: every voxel where the file says."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from isoline.errors import BadSeries, BadSpacing, ChoiceNeeded, IsolineError, Unreadable
from isoline.geometry.grid import Box
from isoline.geometry.volume_grid import SliceName, VolumeGrid
from isoline.images.catalog import Images
from isoline.sources.dicom_series import DicomFolder
from isoline.sources.nifti import NiftiSource
from isoline.sources.registry import open_image
from isoline.sources.volume import VolumeSource
from isoline.sources.volume_cache import VolumeCache
from isoline.testing.contracts import VolumeSourceContract
from tests import volumes

OBLIQUE = volumes.turned(0.4, -0.3, 1.2)
LYING = volumes.turned(np.pi / 2, 0, 0)


def opened(path: Path) -> VolumeSource:
    source = open_image(path)
    assert isinstance(source, VolumeSource)
    return source


def check(source: VolumeSource, where: VolumeGrid) -> None:
    """Every voxel of the ramp lies where it was written, up to the decimals of DICOM."""
    voxels, expected = source.voxels(), volumes.ramp(where.shape)
    k, j, i = np.indices(voxels.shape).reshape(3, -1)
    lps = source.volume.grid.to_lps(np.stack([i, j, k], axis=-1))
    index = np.rint(where.to_index(lps)).astype(int)
    np.testing.assert_array_equal(voxels.ravel(), expected[index[:, 2], index[:, 1], index[:, 0]])
    placed = where.to_lps(index)
    np.testing.assert_allclose(lps, placed, atol=1e-4)
    assert sorted(voxels.ravel().tolist()) == sorted(expected.ravel().tolist())


GRIDS = {
    "oblique": volumes.grid(axes=OBLIQUE),
    "coronal": volumes.grid(axes=LYING),
    "single": volumes.grid(size=(7, 5, 1)),
    "square": volumes.grid(spacing=(1, 1, 1)),
    "anisotropic": volumes.grid(spacing=(0.3, 0.9, 6)),
    "tilted": volumes.grid(lean=(0.0, 0.5)),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("order", ["ascending", "reversed", "shuffled"])
@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_dicom(tmp_path: Path, name: str, order: str, kind: str) -> None:
    where = GRIDS[name]
    voxels = volumes.ramp(where.shape)
    files = np.arange(len(voxels))
    if order == "reversed":
        files = files[::-1]
    elif order == "shuffled":
        files = np.random.default_rng(1).permutation(files)
    if kind == "classic":
        volumes.write_classic(tmp_path / "series", where, voxels, files.tolist())
    else:
        volumes.write_enhanced(tmp_path / "series" / "all.dcm", where, voxels, files.tolist())
    source = opened(tmp_path / "series")
    check(source, where)
    assert source.volume.grid.frame_of_reference == volumes.FRAME
    assert bool(source.info.problems) == (name == "tilted")
    if kind == "classic":
        names = [SliceName(f"{volumes.SERIES}.{k + 1}") for k in range(len(voxels))]
    else:
        names = [SliceName(f"{volumes.SERIES}.900", int(n)) for n in np.argsort(files) + 1]
    assert source.volume.slices == tuple(names)


@pytest.mark.parametrize("name", GRIDS)
def test_nifti(tmp_path: Path, name: str) -> None:
    where = GRIDS[name]
    ras = np.diag([-1, -1, 1, 1.0]) @ where.affine
    image = nibabel.Nifti1Image(volumes.ramp(where.shape).T, ras)
    nibabel.save(image, tmp_path / "v.nii.gz")
    source = opened(tmp_path / "v.nii.gz")
    assert source.volume.slices == ()
    assert source.info.dtype == np.int16
    check(source, where)


def test_nifti_in_metres_and_with_a_slope(tmp_path: Path) -> None:
    where = GRIDS["oblique"]
    ras = np.diag([-1e-3, -1e-3, 1e-3, 1]) @ where.affine
    image = nibabel.Nifti1Image(volumes.ramp(where.shape).T.astype(np.float32) / 2, ras)
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "v.nii")
    source = opened(tmp_path / "v.nii")
    assert source.volume.grid.spacing_mm == pytest.approx((0.8, 1.1, 2.5), rel=1e-5)
    np.testing.assert_array_equal(source.voxels(), volumes.ramp(where.shape) / 2)


def test_nifti_that_is_no_volume(tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6, 3), np.int16), np.eye(4)), path)
    with pytest.raises(BadSeries, match="4 x 5 x 6 x 3"):
        NiftiSource.open(path)
    nowhere = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    nibabel.save(nowhere, path)
    with pytest.raises(BadSpacing, match="does not define its position"):
        NiftiSource.open(path)
    path.write_bytes(b"no nifti at all")
    with pytest.raises(Unreadable):
        NiftiSource.open(path)


def test_a_damaged_nifti_is_unreadable(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 999, (30, 30, 30)).astype(np.int16)
    path = tmp_path / "v.nii.gz"
    nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(Unreadable, match=r"v\.nii\.gz is damaged"):
        NiftiSource.open(path).voxels()


def test_wrong_series_are_refused_by_name(tmp_path: Path) -> None:
    where = GRIDS["oblique"]
    voxels = volumes.ramp(where.shape)
    paths = volumes.write_classic(tmp_path / "s", where, voxels)

    def refused(**changes: object) -> str:
        header = pydicom.dcmread(paths[4])
        for keyword, value in changes.items():
            setattr(header, keyword, value)
        header.save_as(paths[4])
        with pytest.raises(BadSeries) as refusal:
            opened(tmp_path / "s")
        volumes.write_classic(tmp_path / "s", where, voxels)
        return str(refusal.value)

    assert "slice 5" in refused(SamplesPerPixel=3)
    assert "colour" in refused(SamplesPerPixel=3)
    assert "slice 5" in refused(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    assert "no ImagePositionPatient" in refused(ImagePositionPatient=None)
    paths[4].unlink()
    with pytest.raises(BadSeries, match=r"missing between slice 4 \(004\.dcm.* and slice 6 \("):
        opened(tmp_path / "s")


def test_two_series_need_a_choice(tmp_path: Path) -> None:
    where = GRIDS["square"]
    volumes.write_classic(tmp_path / "s", where, volumes.ramp(where.shape))
    (tmp_path / "s" / "notes.txt").write_text("beside the images")
    other = volumes.write_classic(
        tmp_path / "s" / "b", where, volumes.ramp(where.shape), SeriesInstanceUID="1.2.3"
    )
    with pytest.raises(ChoiceNeeded, match=r"2 series: 9 x ramp \(CT, such as 001\.dcm\); 9 x"):
        opened(tmp_path / "s")
    check(opened(other[0]), where)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Unreadable, match="no DICOM image"):
        opened(tmp_path / "empty")


def test_a_volume_is_an_image_of_planes(tmp_path: Path) -> None:
    where = GRIDS["oblique"]
    volumes.write_classic(tmp_path / "s", where, volumes.ramp(where.shape))
    info = Images.of_file(tmp_path / "s").find("s").info
    assert (info.kind, info.size, info.z_planes) == ("volume", (24, 20), 9)
    assert info.volume is not None
    assert info.volume.modality == "CT"
    source = opened(tmp_path / "s")
    np.testing.assert_array_equal(
        source.read_level(0, Box(3, 2, 5, 6), 4)[0], volumes.ramp(where.shape)[4, 2:6, 3:5]
    )
    with pytest.raises(ValueError, match="read-only"):
        source.voxels()[0, 0, 0] = 0
    source.close()
    with pytest.raises(ValueError, match="closed"):
        source.voxels()


def test_rescaled_values_are_those_of_the_modality(tmp_path: Path) -> None:
    where = GRIDS["square"]
    voxels = volumes.ramp(where.shape)
    volumes.write_classic(tmp_path / "s", where, voxels, RescaleSlope=0.5, RescaleIntercept=3)
    source = opened(tmp_path / "s")
    assert source.info.dtype == np.float32
    np.testing.assert_array_equal(source.voxels(), (voxels.astype(np.float32) + 1024) / 2 + 3)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for kind in (NiftiSource, DicomFolder):
        with pytest.raises(IsolineError):
            kind.open(tmp_path / "nothing.nii")


def test_the_cache_keeps_what_was_used_last(tmp_path: Path) -> None:
    cache = VolumeCache(tmp_path / "c", most_bytes=2 * 24)
    filled: list[int] = []

    def get(number: int) -> int:
        def fill(voxels: NDArray[np.generic]) -> None:
            filled.append(number)
            voxels[:] = number

        return int(cache.get(f"v{number}", (2, 3, 2), np.dtype(np.int16), fill)[1, 2, 1])

    assert [get(1), get(1), get(2), get(3)] == [1, 1, 2, 3]
    assert filled == [1, 2, 3]
    assert len(list((tmp_path / "c").iterdir())) == 2
    assert get(1) == 1
    assert filled[-1] == 1

    def fails(voxels: object) -> None:
        raise Unreadable("the archive went away")

    with pytest.raises(Unreadable):
        cache.get("v9", (2, 3, 2), np.dtype(np.int16), fails)
    assert not [path for path in (tmp_path / "c").iterdir() if path.name.startswith(".")]


def test_what_is_being_fetched_is_not_thrown_out(tmp_path: Path) -> None:
    cache = VolumeCache(tmp_path / "c", most_bytes=24)
    shape, kind = (2, 3, 2), np.dtype(np.int16)

    def fill(voxels: NDArray[np.generic]) -> None:
        cache.get("other", shape, kind, lambda other: other.fill(2))
        voxels[:] = 1

    assert int(cache.get("v", shape, kind, fill)[0, 0, 0]) == 1
    left = cache.directory / ".volume-left"
    left.write_bytes(bytes(24))
    os.utime(left, (1, 1))  # by a process that has died
    cache.get("third", shape, kind, lambda third: third.fill(3))
    assert not left.exists()


class TestNifti(VolumeSourceContract):
    source = NiftiSource

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        voxels = volumes.ramp((9, 20, 24))
        nibabel.save(nibabel.Nifti1Image(voxels.T, np.eye(4)), tmp_path / "v.nii")
        return tmp_path / "v.nii"


class TestDicom(VolumeSourceContract):
    source = DicomFolder

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        volumes.write_classic(tmp_path / "s", GRIDS["oblique"], volumes.ramp((9, 20, 24)))
        return tmp_path / "s"
