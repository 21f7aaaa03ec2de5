"""Results of volumes as files, each read again by a reader of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from isoline.domain.events import Label, Scope, Started
from isoline.domain.segments import Segment
from isoline.errors import Malformed, NotSupported
from isoline.exports import dicomseg, labelmap, rtstruct
from isoline.exports.labelmap import Segmented
from isoline.geometry.grid import XY, Grid
from isoline.geometry.volume_grid import VolumeGrid
from isoline.sources.dicom_series import DicomFolder
from tests import volumes

GRIDS = {
    "oblique": volumes.grid(axes=volumes.turned(0.4, -0.3, 1.2)),
    "square": volumes.grid(spacing=(1, 1, 1)),
    "tilted": volumes.grid(lean=(0.0, 0.5)),
}
LABELS = (
    Label("Brain", (255, 170, 60), ("12738006", "Brain")),
    Label("Other", (0, 0, 255)),
)


def truth(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A box with a hole that is not symmetric in any axis, one voxel alone, two labels."""
    labels = np.zeros(shape, np.uint8)
    labels[2:6, 3:15, 5:12] = 1
    labels[3:5, 6:9, 7:10] = 0
    labels[7, 1, 20] = 1
    labels[4:8, 16:19, 2:9] = 2
    return labels


def segmented(
    folder: Path, where: VolumeGrid, kind: str, order: list[int] | None = None
) -> Segmented:
    """The truth on a series of `where`, turned as the assembled volume lies."""
    voxels = volumes.ramp(where.shape)
    if kind == "classic":
        volumes.write_classic(folder, where, voxels, order)
    else:
        volumes.write_enhanced(folder / "all.dcm", where, voxels, order)
    source = DicomFolder(folder)
    started = Started(
        job="j",
        image="s",
        scope=Scope(source.info.fingerprint, "brain", "1+abc", (("border", 1.0),)),
        labels=LABELS,
        grid=Grid(source.info.size, XY(1, 1)),
        tiles=100,
        spacing_um=None,
        kind="mask",
        volume=source.volume,
    )
    return Segmented.found(truth(where.shape), started, tuple(source.series.headers))


def written(result: Segmented, format_: str, path: Path) -> Path:
    labelmap.writer(format_)(result, path)
    return path


@pytest.mark.parametrize("name", GRIDS)
def test_nifti(tmp_path: Path, name: str) -> None:
    result = segmented(tmp_path / "s", GRIDS[name], "classic")
    image: Any = nibabel.load(written(result, "nifti", tmp_path / "m.nii.gz"))
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, result.labels)
    index = np.array([[5, 3, 2], [20, 1, 7]])
    lps = result.volume.grid.to_lps(index)
    ras = apply_affine(image.affine, index)
    np.testing.assert_allclose(ras * [-1, -1, 1], lps, atol=1e-3)
    with pytest.raises(Malformed):
        written(result, "nifti", tmp_path / "m.dcm")


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("format_", ["dicomseg", "dicomseg-labelmap"])
@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_dicomseg(tmp_path: Path, name: str, format_: str, kind: str) -> None:
    order = [3, 1, 4, 0, 5, 8, 2, 6, 7]
    result = segmented(tmp_path / "s", GRIDS[name], kind, order)
    seg = highdicom.seg.segread(written(result, format_, tmp_path / "m.dcm"))
    header = result.headers[0]
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert seg[keyword].value == header[keyword].value
    assert seg.SegmentationType == ("BINARY" if format_ == "dicomseg" else "LABELMAP")
    first = seg.get_segment_description(1)
    assert first.segment_label == "Brain"
    assert first.segmented_property_type.value == "12738006"
    assert first.algorithm_type.value == "AUTOMATIC"
    (algorithm,) = first.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("brain", "1+abc")
    slices = result.volume.slices
    if kind == "classic":
        pixels = seg.get_pixels_by_source_instance(
            [each.instance for each in slices], combine_segments=True, ignore_spatial_locations=True
        )
    else:
        pixels = seg.get_pixels_by_source_frame(
            slices[0].instance,
            [each.frame for each in slices],
            combine_segments=True,
            ignore_spatial_locations=True,
        )
    np.testing.assert_array_equal(pixels, result.labels)


def test_an_edited_result_says_so(tmp_path: Path) -> None:
    result = segmented(tmp_path / "s", GRIDS["square"], "classic")
    untouched, other = result.segments
    by_hand = Segment(other.label)
    edited = replace(result, segments=(replace(untouched, is_edited=True), by_hand))
    described = dicomseg.binary(edited).SegmentSequence
    assert [each.SegmentAlgorithmType for each in described] == ["SEMIAUTOMATIC", "MANUAL"]
    rois = rtstruct.dataset(edited).StructureSetROISequence
    assert [roi.ROIGenerationAlgorithm for roi in rois] == ["SEMIAUTOMATIC", "MANUAL"]


def test_the_same_content_is_the_same_instance(tmp_path: Path) -> None:
    result = segmented(tmp_path / "s", GRIDS["square"], "classic")
    again = segmented(tmp_path / "t", GRIDS["square"], "classic")
    moved = np.roll(result.labels, 1, axis=2)
    renamed = replace(result.segments[0], label=replace(LABELS[0], name="Head"))
    others = (
        replace(result, labels=moved),
        replace(result, segments=(renamed, result.segments[1])),
        replace(result, description="another"),
    )
    uids = {dicomseg.binary(each).SOPInstanceUID for each in (result, again)}
    assert len(uids) == 1
    uids |= {each.SOPInstanceUID for each in (dicomseg.labelmap(result), rtstruct.dataset(result))}
    uids |= {dicomseg.binary(each).SOPInstanceUID for each in others}
    assert len(uids) == 3 + len(others)


def test_what_dicom_cannot_say(tmp_path: Path) -> None:
    result = segmented(tmp_path / "s", GRIDS["square"], "classic")
    empty = replace(result, labels=np.zeros_like(result.labels))
    for format_ in ("dicomseg", "rtstruct"):
        with pytest.raises(NotSupported, match="needs a DICOM series"):
            written(replace(result, headers=()), format_, tmp_path / "m.dcm")
        with pytest.raises(NotSupported, match="nothing was found"):
            written(empty, format_, tmp_path / "m.dcm")


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_rtstruct(tmp_path: Path, name: str, kind: str) -> None:
    result = segmented(tmp_path / "s", GRIDS[name], kind)
    read = pydicom.dcmread(written(result, "rtstruct", tmp_path / "m.dcm"))
    assert read.PatientID == result.headers[0].PatientID
    assert [roi.ROIName for roi in read.StructureSetROISequence] == ["Brain", "Other"]
    grid, slices = result.volume.grid, result.volume.slices
    drawn = np.zeros(grid.shape, np.uint8)
    for number, roi in enumerate(read.ROIContourSequence, 1):
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, np.float64).reshape(-1, 3)
            index = grid.to_index(points)
            k = round(index[0, 2])
            np.testing.assert_allclose(index[:, 2], k, atol=1e-3)
            (image,) = contour.ContourImageSequence
            assert image.ReferencedSOPInstanceUID == slices[k].instance
            assert image.get("ReferencedFrameNumber", 1) == slices[k].frame
            drawn[k][filled(index[:, :2] + 0.5, drawn[k].shape)] = number
    np.testing.assert_array_equal(drawn, result.labels)


def filled(ring: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which centres of pixels lie in `ring` (x, y in corners), even-odd, in plain loops."""
    inside = np.zeros(shape, np.bool_)
    following = np.roll(ring, -1, axis=0)
    x, y = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    for (x0, y0), (x1, y1) in zip(ring.tolist(), following.tolist(), strict=True):
        if y0 != y1:
            crossed = ((y0 <= y) != (y1 <= y)) & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
            inside ^= crossed
    return inside


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 1))
)
def test_rings_fill_what_they_outline(mask: NDArray[np.uint8]) -> None:
    together = np.zeros(mask.shape, np.bool_)
    for ring in rtstruct.rings(mask):
        together ^= filled(ring, mask.shape)
    np.testing.assert_array_equal(together, mask > 0)
