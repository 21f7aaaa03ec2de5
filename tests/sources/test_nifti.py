"""NIfTI files as programs write them: two positions, damaged, empty, complex, scaled."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from isoline.domain.events import Label
from isoline.domain.segments import Segment
from isoline.errors import BadSeries, BadSpacing, IsolineError, Unreadable
from isoline.exports import nifti
from isoline.exports.labelmap import Segmented
from isoline.geometry.volume_grid import swap_ras
from isoline.sources.nifti import NiftiSource
from tests import volumes

WHERE = volumes.grid(axes=volumes.turned(0.4, -0.3, 1.2))
VOXELS = volumes.ramp(WHERE.shape)
RAS = swap_ras(WHERE.affine)
SHIFT = np.array([[0, 0, 0, 10], [0, 0, 0, 20], [0, 0, 0, 30], [0, 0, 0, 0.0]])


def saved(path: Path, values: NDArray[Any] = VOXELS.T, affine: NDArray[Any] = RAS) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def patched(path: Path, at: int, form: str, *values: float) -> Path:
    """Write `values` into the header, where nibabel would mend them."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, at, *values)
    path.write_bytes(content)
    return path


def itk(path: Path) -> NDArray[np.float64]:
    """Return where ITK places the voxels (n, 3) that are not 0, in LPS millimetres."""
    image: Any = SimpleITK.ReadImage(str(path))
    k, j, i = np.nonzero(SimpleITK.GetArrayFromImage(image))
    places = zip(i.tolist(), j.tolist(), k.tolist(), strict=True)
    return np.array([image.TransformIndexToPhysicalPoint(place) for place in places])


def ras(path: Path) -> NDArray[np.float64]:
    """Return the same as nibabel places them, in RAS millimetres."""
    image: Any = nibabel.load(path)
    found: NDArray[np.float64] = nibabel.affines.apply_affine(
        image.affine, np.argwhere(np.asarray(image.dataobj))
    )
    return found


CODES = [(1, 2), (2, 1), (1, 1), (4, 3), (1, 0), (0, 2)]


@pytest.mark.parametrize(("qform", "sform"), CODES)
@pytest.mark.parametrize("units", ["mm", "unknown", "meter"])
def test_mask_and_image_lie_alike_for_every_reader(
    tmp_path: Path, qform: int, sform: int, units: str
) -> None:
    values = np.zeros(WHERE.shape, np.int16)
    values[2:4, 5:9, 7:12] = 700
    scale = np.diag([1e-3] * 3 + [1]) if units == "meter" else np.eye(4)
    image = nibabel.Nifti1Image(values.T, scale @ RAS)
    image.set_sform(scale @ RAS, sform)
    image.set_qform(scale @ (RAS + SHIFT), qform)
    image.header.set_xyzt_units(units)
    nibabel.save(image, tmp_path / "v.nii.gz")
    source = NiftiSource.open(tmp_path / "v.nii.gz")
    labels = np.greater(source.voxels(), 400).astype(np.uint8)
    segments = (Segment(Label("Bright", (255, 0, 0))),)
    nifti.write(Segmented(labels, segments, source.volume, "v", "isoline"), tmp_path / "m.nii.gz")
    for read in (itk, ras):
        mask, given = read(tmp_path / "m.nii.gz"), read(tmp_path / "v.nii.gz")
        assert len(mask) == 40
        np.testing.assert_allclose(mask, given, rtol=1e-5, atol=1e-4)
    mask_header: Any = nibabel.load(tmp_path / "m.nii.gz").header
    assert (int(mask_header["qform_code"]), int(mask_header["sform_code"])) == (qform, sform)
    told = "up to 37.42 mm apart" in "".join(source.info.problems)
    assert told == (qform > 0 and sform > 0)


def test_a_sheared_volume_is_told(tmp_path: Path) -> None:
    where = volumes.grid(lean=(0.0, 0.9))
    image = nibabel.Nifti1Image(VOXELS.T, swap_ras(where.affine))
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "v.nii")
    (problem,) = NiftiSource.open(tmp_path / "v.nii").info.problems
    assert "not at right angles" in problem
    assert not NiftiSource.open(saved(tmp_path / "w.nii")).info.problems


@pytest.mark.parametrize("at", [0.3, 0.5, 0.9])
def test_a_damaged_gzip_file_is_refused(tmp_path: Path, at: float) -> None:
    noise = np.random.default_rng(1).integers(-30, 30, VOXELS.shape).astype(np.int16)
    path = saved(tmp_path / "v.nii.gz", (VOXELS + noise).T)
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=r"v\.nii\.gz is damaged|is not a NIfTI file") as refusal:
        NiftiSource.open(path).voxels()
    assert str(tmp_path) not in str(refusal.value)


@pytest.mark.parametrize("lost", [1, 4, 8, 1000])
def test_a_gzip_file_that_ends_early_is_refused(tmp_path: Path, lost: int) -> None:
    path = saved(tmp_path / "v.nii.gz")
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(Unreadable, match="damaged"):
        NiftiSource.open(path).voxels()


def test_a_plain_file_that_ends_early_is_refused_without_its_path(tmp_path: Path) -> None:
    path = saved(tmp_path / "v.nii")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(Unreadable, match=r"v\.nii is damaged") as refusal:
        NiftiSource.open(path).voxels()
    assert str(tmp_path) not in str(refusal.value)


COMPLEX = np.full((5, 6, 7), 3 + 400j, np.complex64)
DIM, PIXDIM, OFFSET, SLOPE = 40, 76, 108, 112


@pytest.mark.parametrize(
    ("change", "kind", "told"),
    [
        (lambda p: saved(p, COMPLEX), BadSeries, "complex values"),
        (lambda p: saved(p, np.ones((5, 6, 7, 2), np.int16)), BadSeries, "several volumes"),
        (lambda p: patched(saved(p), DIM + 4, "<h", 0), BadSeries, "it is empty"),
        (lambda p: patched(saved(p), DIM + 4, "<h", -4), BadSeries, "it is empty"),
        (lambda p: patched(saved(p), SLOPE, "<ff", np.inf, 0), BadSeries, "by inf"),
        (lambda p: patched(saved(p), SLOPE, "<ff", 2, np.nan), IsolineError, "nan"),
        (lambda p: patched(saved(p), OFFSET, "<f", 0), Unreadable, "within the header"),
        (lambda p: saved(p, np.full((3, 4, 5), (1 << 24) + 1, np.int32)), BadSeries, "16,777,216"),
        (lambda p: saved(p, np.full((3, 4, 5), 1e300)), BadSeries, "beyond 3.4e38"),
    ],
)
def test_values_that_would_be_others_are_refused(
    tmp_path: Path, change: Callable[[Path], Path], kind: type[IsolineError], told: str
) -> None:
    with pytest.raises(kind, match=told):
        NiftiSource.open(change(tmp_path / "v.nii")).voxels()


@pytest.mark.parametrize("side", [0.0, -1.5, np.nan])
def test_voxels_without_a_size_are_refused_unless_the_sform_has_it(
    tmp_path: Path, side: float
) -> None:
    path = patched(saved(tmp_path / "v.nii"), PIXDIM + 8, "<f", side)
    assert NiftiSource.open(path).volume.grid.spacing_mm == pytest.approx((0.8, 1.1, 2.5))
    image = nibabel.Nifti1Image(VOXELS.T, RAS)
    image.set_qform(RAS, 1)
    image.set_sform(None, 0)
    nibabel.save(image, path)
    assert NiftiSource.open(path).volume.grid.spacing_mm == pytest.approx((0.8, 1.1, 2.5))
    with pytest.raises(BadSpacing, match="pixdim"):
        NiftiSource.open(patched(path, PIXDIM + 8, "<f", side))


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_a_slope_that_says_nothing_changes_nothing(tmp_path: Path, slope: float) -> None:
    path = patched(saved(tmp_path / "v.nii"), SLOPE, "<ff", slope, 7)
    np.testing.assert_array_equal(NiftiSource.open(path).voxels(), VOXELS)


def test_one_slice_is_a_volume(tmp_path: Path) -> None:
    plane = VOXELS[3].T
    for number, values in enumerate((plane, plane[..., np.newaxis])):
        source = NiftiSource.open(saved(tmp_path / f"{number}.nii.gz", values))
        assert source.volume.grid.size == (24, 20, 1)
        np.testing.assert_array_equal(source.voxels()[0], VOXELS[3])


def test_whole_numbers_of_32_bits_are_kept_if_they_fit(tmp_path: Path) -> None:
    large = VOXELS.astype(np.int32) * 1000
    source = NiftiSource.open(saved(tmp_path / "v.nii.gz", large.T))
    np.testing.assert_array_equal(source.voxels(), large)
