"""Labels as an RT Structure Set (PS3.3 A.19): closed planar contours along voxel edges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

from isoline import __version__
from isoline.exports.dicomseg import SERIES_NUMBER
from isoline.exports.headers import UTF_8, checked_name, mended
from isoline.exports.labelmap import Segmented
from isoline.geometry import polygons as contours

_FROM_SOURCE = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"),
    *("StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber"),
    "ReferringPhysicianName",
)
_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
_DIGITS = 4
"""Decimal places of a millimetre."""


def write(result: Segmented, path: Path) -> None:
    """Write `result` to `path`. Raises NotSupported without a DICOM source."""
    dataset(result).save_as(path, enforce_file_format=True)


def dataset(result: Segmented) -> FileDataset:
    """Return the structure set: one ROI per label, with its contours slice by slice."""
    headers = mended(result.need_headers("rtstruct"), result.volume)
    result.need_voxels("rtstruct")
    by_instance = {str(header.SOPInstanceUID): header for header in headers}
    images = [_reference(by_instance[name.instance], name.frame) for name in result.volume.slices]
    structures = _header(result, headers[0])
    structures.ReferencedFrameOfReferenceSequence = Items([_frame_of_reference(headers[0], images)])
    rois, observations, drawn = [], [], []
    for number, segment in enumerate(result.segments, 1):
        label = segment.label
        roi = Dataset()
        roi.ROINumber, roi.ROIName = number, checked_name(label.name)
        roi.ReferencedFrameOfReferenceUID = headers[0].FrameOfReferenceUID
        roi.ROIGenerationAlgorithm = segment.algorithm_type
        observation = Dataset()
        observation.ObservationNumber = observation.ReferencedROINumber = number
        observation.RTROIInterpretedType, observation.ROIInterpreter = "", ""
        outlines = Dataset()
        outlines.ROIDisplayColor, outlines.ReferencedROINumber = list(label.color), number
        outlines.ContourSequence = Items(_contours(result, number, images))
        rois.append(roi)
        observations.append(observation)
        drawn.append(outlines)
    structures.StructureSetROISequence = Items(rois)
    structures.ROIContourSequence = Items(drawn)
    structures.RTROIObservationsSequence = Items(observations)
    return structures


def _header(result: Segmented, source: Dataset) -> FileDataset:
    now = datetime.now()
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    made.SOPClassUID, made.SOPInstanceUID = RTStructureSetStorage, result.uid("rtstruct")
    meta.MediaStorageSOPClassUID = made.SOPClassUID
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.SpecificCharacterSet = UTF_8
    for keyword in _FROM_SOURCE:
        setattr(made, keyword, source.get(keyword, ""))
    made.Modality, made.Manufacturer, made.SoftwareVersions = "RTSTRUCT", "isoline", __version__
    made.SeriesInstanceUID, made.SeriesNumber = result.uid("rtstruct series"), SERIES_NUMBER
    made.OperatorsName, made.InstanceNumber, made.ApprovalStatus = "", 1, "UNAPPROVED"
    made.SeriesDescription = result.description[:64]
    made.StructureSetLabel = result.description[:16]
    made.StructureSetDate, made.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.FrameOfReferenceUID = source.FrameOfReferenceUID
    return made


def _reference(header: Dataset, frame: int) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID = header.SOPClassUID
    image.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if "NumberOfFrames" in header:
        image.ReferencedFrameNumber = frame
    return image


def _frame_of_reference(source: Dataset, images: Sequence[Dataset]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    series.ContourImageSequence = Items(images)
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY_COMPONENT
    study.ReferencedSOPInstanceUID = source.StudyInstanceUID
    study.RTReferencedSeriesSequence = Items([series])
    frame = Dataset()
    frame.FrameOfReferenceUID = source.FrameOfReferenceUID
    frame.RTReferencedStudySequence = Items([study])
    return frame


def _contours(result: Segmented, label: int, images: Sequence[Dataset]) -> Iterator[Dataset]:
    for k, plane in enumerate(result.labels):
        it = plane == label
        if not it.any():
            continue
        for ring in rings(it.astype(np.uint8)):
            # contours have pixel corners at integers, half a voxel before the centres
            index = np.column_stack([ring - 0.5, np.full(len(ring), float(k))])
            points = np.round(result.volume.grid.to_lps(index), _DIGITS) + 0.0
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.{_DIGITS}f}" for value in points.ravel()]
            contour.ContourImageSequence = Items([images[k]])
            yield contour


def rings(mask: NDArray[np.uint8]) -> Iterator[NDArray[np.float64]]:
    """Yield the outline of every part of (y, x) `mask` as (n, 2) x, y of pixel corners.

    A hole is connected by a line that is traversed both ways, a keyhole: the only way to draw a
    hole that PS3.3 C.8.8.6.3 has and every reader supports.
    """
    polygons = contours.trace(mask).polygons
    each = [
        polygons.corners[a:b].astype(np.float64) for a, b in pairwise(polygons.ring_start.tolist())
    ]
    for a, b in pairwise(polygons.part_start.tolist()):
        outline = each[a]
        for hole in each[a + 1 : b]:
            outline = _with_keyhole(outline, hole)
        yield outline


def _with_keyhole(outline: NDArray[np.float64], hole: NDArray[np.float64]) -> NDArray[np.float64]:
    distance = ((outline[:, None] - hole) ** 2).sum(axis=-1)
    at, on = np.unravel_index(np.argmin(distance), distance.shape)
    around = np.roll(hole, -int(on), axis=0)
    return np.concatenate([outline[: at + 1], around, around[:1], outline[at:]])
