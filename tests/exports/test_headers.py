"""Series whose headers are wrong in the ways of the field become objects that others read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest

from isoline.domain.events import Label
from isoline.domain.segments import Segment
from isoline.errors import NotSupported
from isoline.exports import dicomseg, labelmap, rtstruct
from isoline.exports.labelmap import Segmented, Source
from isoline.sources.dicom_series import DicomFolder
from tests import segs, volumes

WHERE = volumes.grid(axes=volumes.turned(0.4, -0.3, 1.2))
TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Attributes that may be empty and must be there."""
MISSING = (*TYPE_2, "SliceThickness", "Modality", "FrameOfReferenceUID", "SeriesDescription")
ODD = {
    "sex": ("PatientSex", "W", ""),
    "old date": ("PatientBirthDate", "1961.02.03", "19610203"),
    "date that is none": ("StudyDate", "20241399", ""),
    "time that is none": ("StudyTime", "99", ""),
    "no study ID": ("StudyID", "", ""),
}
NAMES = {
    "UTF-8": ("ISO_IR 192", "Yamada^Taro=山田^太郎"),
    "Cyrillic": ("ISO_IR 144", "Люкceмбypг"),
    "Japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "Korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "Latin": ("ISO_IR 100", "Buc^Jérôme"),
}


def result(folder: Path, where: Any = WHERE, segments: Any = None, **changes: Any) -> Segmented:
    """A label of three voxels on a classic series with these `changes` to its headers."""
    volumes.write_classic(folder, where, volumes.ramp(where.shape), **changes)
    return on(folder, segments)


def on(folder: Path, segments: Any = None) -> Segmented:
    source = DicomFolder(folder)
    labels = np.zeros(source.volume.grid.shape, np.uint8)
    labels[2, 3, 4:7] = 1
    headers = tuple(source.series.headers)
    segments = segments or (Segment(Label("Brain", (255, 0, 0))),)
    return Segmented(labels, segments, source.volume, "ct", "isoline", headers)


def read_seg(made: Segmented, path: Path) -> Any:
    dicomseg.write(made, path)
    return highdicom.seg.segread(path)


def read_rtstruct(made: Segmented, path: Path) -> Any:
    rtstruct.write(made, path)
    return pydicom.dcmread(path)


@pytest.mark.parametrize("keyword", MISSING)
def test_what_is_missing_is_empty_or_derived(tmp_path: Path, keyword: str) -> None:
    made = result(tmp_path / "s", **{keyword: None})
    seg, structures = read_seg(made, tmp_path / "a"), read_rtstruct(made, tmp_path / "b")
    truth = segs.expected(made.volume.grid, made.labels == 1)
    np.testing.assert_allclose(segs.positions(seg, 1), truth, atol=1e-3)
    assert len(structures.ROIContourSequence[0].ContourSequence) == 1
    assert [each for each in TYPE_2 if each not in seg] == []
    if keyword in TYPE_2:
        assert (seg[keyword].value or "", structures[keyword].value or "") == ("", "")
    assert seg.FrameOfReferenceUID == structures.FrameOfReferenceUID != ""
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SliceThickness) == pytest.approx(2.5)


@pytest.mark.parametrize(("keyword", "stored", "expected"), ODD.values(), ids=list(ODD))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_no_value_is_left_empty(
    tmp_path: Path, keyword: str, stored: str, expected: str
) -> None:
    made = result(tmp_path / "s", **{keyword: stored})
    assert str(read_seg(made, tmp_path / "a").get(keyword) or "") == expected
    assert str(read_rtstruct(made, tmp_path / "b").get(keyword) or "") == expected


@pytest.mark.parametrize(("charset", "name"), NAMES.values(), ids=list(NAMES))
def test_names_stay_what_they_are(tmp_path: Path, charset: Any, name: str) -> None:
    typed = Segment(Label("Läsion 病変", (0, 0, 255)))
    made = result(tmp_path / "s", segments=(typed,), SpecificCharacterSet=charset, PatientName=name)
    seg, structures = read_seg(made, tmp_path / "a"), read_rtstruct(made, tmp_path / "b")
    assert [str(each.PatientName) for each in (seg, structures)] == [name, name]
    assert seg.SegmentSequence[0].SegmentLabel == "Läsion 病変"
    assert structures.StructureSetROISequence[0].ROIName == "Läsion 病変"


@pytest.mark.parametrize("name", ["left\\right", "two\nlines"])
def test_a_name_that_dicom_does_not_allow_is_named(tmp_path: Path, name: str) -> None:
    made = result(tmp_path / "s", segments=(Segment(Label(name, (0, 0, 255))),))
    with pytest.raises(NotSupported, match="does not allow the name"):
        dicomseg.binary(made)
    with pytest.raises(NotSupported, match="does not allow the name"):
        rtstruct.dataset(made)


def test_frames_that_repeat_their_geometry(tmp_path: Path) -> None:
    order = [3, 1, 4, 0, 5, 8, 2, 6, 7]
    voxels = volumes.ramp(WHERE.shape)
    volumes.write_enhanced(tmp_path / "s" / "all.dcm", WHERE, voxels, order, is_shared=False)
    made = on(tmp_path / "s")
    seg = read_seg(made, tmp_path / "a")
    truth = segs.expected(made.volume.grid, made.labels == 1)
    np.testing.assert_allclose(segs.positions(seg, 1), truth, atol=1e-3)
    (frame,) = seg.PerFrameFunctionalGroupsSequence
    (image,) = frame.DerivationImageSequence[0].SourceImageSequence
    assert image.ReferencedFrameNumber == order.index(2) + 1


def test_the_headers_of_the_source_stay_as_they_are(tmp_path: Path) -> None:
    made = result(tmp_path / "s", PatientSex=None, SpecificCharacterSet="ISO_IR 100")
    before = [header.to_json() for header in made.headers]
    dicomseg.binary(made)
    rtstruct.dataset(made)
    assert [header.to_json() for header in made.headers] == before


def test_trouble_is_known_before_anything_is_computed(tmp_path: Path) -> None:
    made = result(tmp_path / "s", SOPClassUID="1.2.3.4")
    source = Source("ct", made.volume, made.headers)
    labels = (Label("Brain", (255, 0, 0)),)
    with pytest.raises(NotSupported, match=r"ct cannot become a DICOM .*; use format rtstruct"):
        labelmap.rehearse("dicomseg", labels, source)
    labelmap.rehearse("rtstruct", labels, source)
    labelmap.rehearse("nifti", labels, source)
    with pytest.raises(NotSupported, match="needs a DICOM series"):
        labelmap.rehearse("rtstruct", labels, replace(source, headers=()))
