"""Folders of DICOM files as people have them: copies, damaged files, what is no image."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEGLossless,
    JPEGLosslessSV1,
)

from isoline.errors import BadSeries, IsolineError, Unreadable
from isoline.images.catalog import Images
from isoline.inference.resources import Resources
from isoline.models.catalogue import ModelCatalogue
from isoline.sources import dicom_pixels
from isoline.sources.dicom_series import DicomFolder
from isoline.sources.registry import open_image
from tests import volumes

WHERE = volumes.grid(axes=volumes.turned(0.4, -0.3, 1.2))
VOXELS = volumes.ramp(WHERE.shape)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return volumes.write_classic(tmp_path / "ct", WHERE, VOXELS)


def changed(path: Path, change: Callable[[Any], object]) -> None:
    header = pydicom.dcmread(path)
    change(header)
    pydicom.dcmwrite(path, header)


def refused(path: Path) -> str:
    with pytest.raises(IsolineError) as refusal:
        DicomFolder(path)
    return str(refusal.value)


def voxels_of(path: Path) -> Any:
    return DicomFolder(path).voxels()


def upright(path: Path) -> Any:
    """Return (k, j, i) voxels in the order in which they were written."""
    source = DicomFolder(path)
    order = [each.instance for each in source.volume.slices]
    written = [f"{volumes.SERIES}.{k + 1}" for k in range(len(order))]
    return source.voxels()[[order.index(name) for name in written]]


# Names


def test_different_slices_of_one_name_are_refused(files: list[Path]) -> None:
    def rename(header: Any) -> None:
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"

    changed(files[3], rename)
    changed(files[4], rename)
    said = refused(files[0].parent)
    assert "slice 4 (004.dcm, 1.2.3, frame 1) and slice 5 (005.dcm, 1.2.3, frame 1)" in said
    assert "the same SOPInstanceUID" in said


@pytest.mark.parametrize("value", [None, ""])
def test_a_slice_without_a_name_is_refused(files: list[Path], value: str | None) -> None:
    def forget(header: Any) -> None:
        del header.SOPInstanceUID
        if value is not None:
            header.SOPInstanceUID = value

    changed(files[3], forget)
    said = refused(files[0].parent)
    assert "slice 4 (004.dcm, no UID, frame 1) has no SOPInstanceUID" in said


def test_copies_are_left_out_and_told(files: list[Path]) -> None:
    folder = files[0].parent
    shutil.copytree(folder, folder / "backup")
    source = DicomFolder(folder)
    np.testing.assert_array_equal(upright(folder), VOXELS)
    (problem,) = source.info.problems
    assert problem.startswith("9 files are copies of others and were left out: 001.dcm")


def test_other_pixels_under_the_same_names_are_another_image(
    files: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(files[0].parent, tmp_path / "copy")
    first = DicomFolder(files[0].parent).info.fingerprint
    assert DicomFolder(tmp_path / "copy").info.fingerprint == first
    volumes.write_classic(tmp_path / "copy", WHERE, VOXELS + 1)
    assert DicomFolder(tmp_path / "copy").info.fingerprint != first


@pytest.mark.parametrize("name", ["ct", "ct/001.dcm"])
def test_a_slice_that_is_overwritten_in_its_place_is_noticed(
    files: list[Path], tmp_path: Path, name: str
) -> None:
    """By one catalogue and one worker, as on a running server."""
    images, bench = Images({"": tmp_path}), Resources(ModelCatalogue(tmp_path), "cpu")

    def voxels() -> Any:
        found = images.find(name)
        source = bench.source(found.path, found.info.reader, found.info.fingerprint)
        assert isinstance(source, DicomFolder)
        return source.voxels()

    before = int(voxels().sum(dtype=np.int64))
    changed(files[4], lambda header: setattr(header, "RescaleIntercept", -1023))
    assert int(voxels().sum(dtype=np.int64)) == before + 24 * 20
    bench.close()


# Files


@pytest.mark.parametrize("at", [0, 4, 8])
def test_a_file_without_the_preamble_is_read(files: list[Path], at: int) -> None:
    files[at].write_bytes(files[at].read_bytes()[132:])
    np.testing.assert_array_equal(upright(files[0].parent), VOXELS)


def test_a_file_without_any_header_of_its_own_is_read(files: list[Path]) -> None:
    whole = files[8].read_bytes()
    start = whole.index(b"\x08\x00\x05\x00") if b"\x08\x00\x05\x00" in whole else 0
    start = start or whole.index(b"\x08\x00\x08\x00")
    files[8].write_bytes(whole[start:])
    np.testing.assert_array_equal(upright(files[0].parent), VOXELS)


@pytest.mark.parametrize("content", [b"", b"damaged", bytes(2000)])
@pytest.mark.parametrize("at", [0, 8])
def test_a_file_that_may_be_a_slice_is_never_skipped(
    files: list[Path], content: bytes, at: int
) -> None:
    files[at].write_bytes(content)
    said = refused(files[0].parent)
    assert f"{files[at].name} may belong to the series and cannot be read" in said


def test_a_slice_without_a_suffix_is_not_skipped_either(files: list[Path]) -> None:
    for number, path in enumerate(files):
        path.rename(path.with_name(f"IM{number:04}"))
    (files[0].parent / "README").write_text("beside the images")
    (files[0].parent / "notes.txt").write_text("beside the images")
    assert len(voxels_of(files[0].parent)) == 9
    (files[0].parent / "IM0008").write_bytes(b"damaged")
    assert "IM0008 may belong to the series" in refused(files[0].parent)


def test_a_file_that_ends_early_is_named(files: list[Path]) -> None:
    whole = files[8].read_bytes()
    files[8].write_bytes(whole[:-300])
    with pytest.raises(Unreadable, match=r"slice 9 \(009\.dcm.* cannot be decoded"):
        voxels_of(files[0].parent)


# What is no image


def segmentation(files: list[Path]) -> Any:
    source = DicomFolder(files[0].parent)
    labels = np.zeros(WHERE.shape, np.uint8)
    labels[2, 3, 4] = 1
    from pydicom.sr.codedict import codes

    described = highdicom.seg.SegmentDescription(
        1, "liver", codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL"
    )
    return highdicom.seg.Segmentation(
        *(source.series.headers, labels, "BINARY", [described], "1.2.3", 9, "1.2.4", 1, "x", "x"),
        *("1", "0"),
    )


def test_a_segmentation_beside_a_series_is_left_out_and_alone_is_refused(
    files: list[Path], tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    segmentation(files).save_as(alone / "seg.dcm")
    for path in (alone, alone / "seg.dcm"):
        said = refused(path)
        assert "is a segmentation" in said
        assert f"choose the series that it was made from: {volumes.SERIES}" in said
    shutil.copy(alone / "seg.dcm", files[0].parent)
    source = DicomFolder(files[0].parent)
    assert source.volume.grid.size[2] == 9
    assert source.info.problems == ("seg.dcm was left out: it is a segmentation",)


def test_a_document_is_called_what_it_is(files: list[Path], tmp_path: Path) -> None:
    def become_pdf(header: Any) -> None:
        header.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.104.1")
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
        del header.Rows, header.Columns, header.PixelData

    changed(files[0], become_pdf)
    assert "is a document (Encapsulated PDF Storage), not an image" in refused(files[0])
    shutil.copytree(files[0].parent, tmp_path / "pdf")
    for path in sorted((tmp_path / "pdf").iterdir())[1:]:
        path.unlink()
    assert "contains no DICOM image: 001.dcm is a document" in refused(tmp_path / "pdf")


# Values


def colour_map(header: Any) -> None:
    header.PhotometricInterpretation = "PALETTE COLOR"


def table(header: Any) -> None:
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [2, 0, 16], "HU"
    item.LUTData = b"\0\0\1\0"
    header.ModalityLUTSequence = Items([item])


def no_slope(header: Any) -> None:
    header.RescaleSlope = 0


@pytest.mark.parametrize(
    ("change", "told"),
    [(colour_map, "colour map"), (table, "Modality LUT"), (no_slope, "RescaleSlope 0")],
)
def test_values_that_are_no_intensities_are_refused(
    files: list[Path], change: Callable[[Any], object], told: str
) -> None:
    changed(files[3], change)
    said = refused(files[0].parent)
    assert told in said
    assert "slice 4 (004.dcm" in said


def test_bits_that_do_not_begin_at_the_lowest(tmp_path: Path) -> None:
    small = VOXELS // 8
    paths = volumes.write_classic(tmp_path / "ct", WHERE, small)
    for path in paths:

        def shift(header: Any) -> None:
            values = np.frombuffer(header.PixelData, "<u2")
            header.PixelData = (values << 4).astype("<u2").tobytes()
            header.BitsStored, header.HighBit = 12, 15

        changed(path, shift)
    np.testing.assert_array_equal(upright(tmp_path / "ct"), small)


def test_values_that_float32_cannot_represent_are_refused(tmp_path: Path) -> None:
    paths = volumes.write_classic(tmp_path / "ct", WHERE, VOXELS)

    def deepen(header: Any) -> None:
        values = np.frombuffer(header.PixelData, "<u2").astype("<u4")
        header.PixelData = (values + (1 << 24)).astype("<u4").tobytes()
        header.BitsAllocated, header.BitsStored, header.HighBit = 32, 32, 31
        header.RescaleIntercept = 0

    for path in paths:
        changed(path, deepen)
    with pytest.raises(BadSeries, match="values beyond 16,777,216"):
        voxels_of(tmp_path / "ct")


def test_the_slope_at_the_top_of_an_enhanced_file_counts(tmp_path: Path) -> None:
    path = volumes.write_enhanced(tmp_path / "mr" / "all.dcm", WHERE, VOXELS)

    def scale(header: Any) -> None:
        header.RescaleSlope, header.RescaleIntercept = 2, 5

    changed(path, scale)
    np.testing.assert_array_equal(
        np.sort(voxels_of(path.parent), axis=None), np.sort(VOXELS * 2.0 + 5, axis=None)
    )


def test_frames_that_are_not_described_are_refused(tmp_path: Path) -> None:
    path = volumes.write_enhanced(tmp_path / "mr" / "all.dcm", WHERE, VOXELS)
    changed(path, lambda header: header.PerFrameFunctionalGroupsSequence.pop())
    assert "has 9 frames and describes 8" in refused(path.parent)


# Compression


def lossless_jpeg(values: Any) -> bytes:
    return bytes(imagecodecs.ljpeg_encode(values, bitspersample=16))


def htj2k(values: Any) -> bytes:
    return bytes(imagecodecs.htj2k_encode(values, reversible=True))


SYNTAXES = {
    "JPEG Lossless": (JPEGLosslessSV1, lossless_jpeg),
    "JPEG Lossless, any predictor": (JPEGLossless, lossless_jpeg),
}
if hasattr(imagecodecs, "htj2k_encode") and imagecodecs.HTJ2K.available:
    SYNTAXES["HTJ2K"] = (HTJ2KLossless, htj2k)


def compress(paths: list[Path], syntax: UID, encode: Callable[[Any], bytes]) -> None:
    for path in paths:
        header = pydicom.dcmread(path)
        assert header.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        header.PixelData = encapsulate([encode(header.pixel_array)])
        header["PixelData"].VR, header["PixelData"].is_undefined_length = "OB", True
        header.file_meta.TransferSyntaxUID = syntax
        header.save_as(path)


@pytest.mark.parametrize(("syntax", "encode"), SYNTAXES.values(), ids=list(SYNTAXES))
def test_lossless_compression_is_decoded(
    files: list[Path], syntax: UID, encode: Callable[[Any], bytes]
) -> None:
    pytest.importorskip("gdcm")
    pytest.importorskip("openjpeg")
    compress(files, syntax, encode)
    np.testing.assert_array_equal(upright(files[0].parent), VOXELS)


def test_a_missing_decoder_is_told_when_the_series_is_opened(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    compress(files, JPEGLosslessSV1, lossless_jpeg)

    class Decoder:
        is_available = False

    monkeypatch.setattr(dicom_pixels, "get_decoder", lambda _: Decoder)
    said = refused(files[0].parent)
    assert "001.dcm is in JPEG Lossless" in said
    assert "pip install 'isoline[radiology]'" in said


# Several volumes, and what is no volume


def stacked(folder: Path, count: int, slices: int, **varies: list[Any]) -> list[Path]:
    """Write `count` volumes at one place as one series; `varies` holds a value for each."""
    where = volumes.grid(size=(12, 10, slices))
    paths = []
    for number in range(count):
        given = {keyword: values[number] for keyword, values in varies.items()}
        part = folder / f"{number}"
        for k, path in enumerate(
            volumes.write_classic(part, where, volumes.ramp(where.shape), **given)
        ):

            def rename(header: Any, number: int = number, k: int = k) -> None:
                header.SOPInstanceUID = f"{volumes.SERIES}.{number + 1}.{k + 1}"
                header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID

            changed(path, rename)
            paths.append(path)
    return paths


@pytest.mark.parametrize(
    ("varies", "told"),
    [
        ({"TriggerTime": [0, 160, 320]}, "TriggerTime: 0"),
        ({"DiffusionBValue": [0.0, 500.0, 1000.0]}, "DiffusionBValue: 0.0"),
        ({"EchoTime": [20, 40, 80]}, "EchoTime: 20"),
        ({"TemporalPositionIdentifier": [1, 2, 3]}, "TemporalPosition: 1"),
    ],
)
def test_volumes_at_one_place_are_told_apart(
    tmp_path: Path, varies: dict[str, list[Any]], told: str
) -> None:
    paths = stacked(tmp_path / "mr", 3, 6, **varies)
    said = refused(tmp_path / "mr")
    assert f"3 volumes that differ in {told}" in said
    assert said.count("6 slices") == 3
    assert "lacks" not in said
    paths[6 + 4].unlink()
    said = refused(tmp_path / "mr")
    assert "(5 slices)" in said
    assert "; volume 2 (" in said
    assert "lacks the slice at (-31, 12.5, 150) mm" in said


def test_echoes_in_turn_are_two_volumes(tmp_path: Path) -> None:
    paths = volumes.write_classic(tmp_path / "mr", WHERE, VOXELS)
    for number, path in enumerate(paths):

        def echo(header: Any, number: int = number) -> None:
            header.EchoTime = (20, 80)[number % 2]

        changed(path, echo)
    assert "2 volumes that differ in EchoTime: 20.0 (5 slices), 80.0 (4" in refused(tmp_path / "mr")


def test_moments_that_a_volume_took_are_no_volumes(files: list[Path]) -> None:
    """In a gated series, every slice has its own time."""
    for number, path in enumerate(files):

        def time(header: Any, number: int = number) -> None:
            header.TriggerTime, header.AcquisitionNumber = 100 * number, number // 3

        changed(path, time)
    np.testing.assert_array_equal(upright(files[0].parent), VOXELS)


def test_one_slice_without_thickness_is_a_volume_and_says_so(tmp_path: Path) -> None:
    where = volumes.grid(size=(12, 10, 1))
    volumes.write_classic(tmp_path / "ct", where, volumes.ramp(where.shape), SliceThickness=None)
    info = DicomFolder(tmp_path / "ct").info
    assert info.problems == ("the only slice has no SliceThickness; 1 mm is assumed",)


def test_pet_says_what_its_values_are(tmp_path: Path) -> None:
    volumes.write_classic(tmp_path / "pt", WHERE, VOXELS, Units="BQML", Modality="PT")
    (problem,) = DicomFolder(tmp_path / "pt").info.problems
    assert problem.startswith("values are in BQML")


def localizer(header: Any) -> None:
    header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    header.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    header.Rows, header.Columns = 2, 3
    header.PixelData = bytes(12)


def report(header: Any) -> None:
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    header.SamplesPerPixel, header.PhotometricInterpretation = 3, "RGB"
    del header.ImagePositionPatient


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (localizer, "beside.dcm was left out: it is a localizer"),
        (report, "beside.dcm was left out: it is a screenshot or a report (Secondary Capture"),
    ],
)
def test_what_accompanies_the_slices_is_left_out_and_told(
    files: list[Path], change: Callable[[Any], object], told: str
) -> None:
    beside = files[0].with_name("beside.dcm")
    shutil.copy(files[0], beside)

    def become(header: Any) -> None:
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.99")
        change(header)

    changed(beside, become)
    np.testing.assert_array_equal(upright(files[0].parent), VOXELS)
    (problem,) = DicomFolder(files[0].parent).info.problems
    assert problem.startswith(told)


def test_a_series_of_localizers_is_what_was_chosen(tmp_path: Path) -> None:
    volumes.write_classic(
        tmp_path / "s", WHERE, VOXELS, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    assert DicomFolder(tmp_path / "s").info.problems == ()


def projection(header: Any) -> None:
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    header.Modality = "CR"
    del header.ImagePositionPatient


def cine(header: Any) -> None:
    header.NumberOfFrames, header.Modality = 2, "US"


def tomography(header: Any) -> None:
    header.NumberOfFrames, header.SliceVector = 2, [1, 2]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (projection, "an image of CR (Computed Radiography Image Storage) that lies nowhere"),
        (cine, "2 frames without positions: an image of US"),
        (tomography, "whose positions are in a SliceVector"),
    ],
)
def test_what_is_no_slice_is_called_what_it_is(
    files: list[Path], change: Callable[[Any], object], told: str
) -> None:
    changed(files[0], change)
    assert told in refused(files[0].parent)


def test_a_dicomdir_leads_to_its_folder(files: list[Path], tmp_path: Path) -> None:
    from pydicom.fileset import FileSet

    index = FileSet()
    for path in files:
        index.add(path)
    index.write(tmp_path / "disc")
    np.testing.assert_array_equal(voxels_of(tmp_path / "disc"), voxels_of(files[0].parent))
    assert DicomFolder(tmp_path / "disc").info.problems == ()
    with pytest.raises(BadSeries, match=r"index of a folder \(DICOMDIR\).*give its folder"):
        open_image(tmp_path / "disc" / "DICOMDIR")
