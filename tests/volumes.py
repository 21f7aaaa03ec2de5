"""Volumes for tests: a picture of known place, written as the files that scanners write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian

from isoline.geometry.volume_grid import VolumeGrid

ROOT = "1.2.826.0.1.3680043.8.498."
STUDY, SERIES, FRAME = f"{ROOT}1", f"{ROOT}1.1", f"{ROOT}1.9"


def turned(x: float, y: float, z: float) -> NDArray[np.float64]:
    """Return (3, 3): turned by these angles about the three axes, one after the other."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([x, y, z]), np.sin([x, y, z])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    matrix: NDArray[np.float64] = about_z @ about_y @ about_x
    return matrix


def grid(
    size: tuple[int, int, int] = (24, 20, 9),
    spacing: tuple[float, float, float] = (0.8, 1.1, 2.5),
    axes: NDArray[np.float64] | None = None,
    lean: tuple[float, float] = (0.0, 0.0),
) -> VolumeGrid:
    """Return a grid off the origin; `lean`: mm along i and j from a slice to the next."""
    steps = (np.eye(3) if axes is None else axes) * spacing
    unit = steps / spacing
    steps[:, 2] += unit[:, 0] * lean[0] + unit[:, 1] * lean[1]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, (-31.0, 12.5, 140.0)
    return VolumeGrid.from_affine(affine, size, FRAME)


def ramp(shape: tuple[int, int, int]) -> NDArray[np.int16]:
    """Return (k, j, i) values that say where they are: 400 k + 20 j + i - 1000."""
    k, j, i = np.indices(shape)
    values: NDArray[np.int16] = (400 * k + 20 * j + i - 1000).astype(np.int16)
    return values


def write_classic(
    folder: Path,
    where: VolumeGrid,
    voxels: NDArray[np.int16],
    files: Sequence[int] | None = None,
    **changes: Any,
) -> list[Path]:
    """Write a CT slice a file, in the order `files` of k; `changes` are attributes of all.

    A change to None takes the attribute away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    order = range(len(voxels)) if files is None else files
    for number, k in enumerate(order, 1):
        header = _header(CTImageStorage, f"{SERIES}.{k + 1}", where)
        header.InstanceNumber = number
        header.update(_position(where, k))
        header.update(_orientation(where))
        header.update(_measures(where))
        header.RescaleIntercept, header.RescaleSlope, header.RescaleType = -1024, 1, "HU"
        header.PixelData = (voxels[k].astype(np.int32) + 1024).astype("<u2").tobytes()
        header.PixelRepresentation = 0
        for keyword, value in changes.items():
            if value is None:
                delattr(header, keyword)
            else:
                setattr(header, keyword, value)
        paths.append(folder / f"{number:03}.dcm")
        header.save_as(paths[-1], enforce_file_format=True)
    return paths


def as_series(paths: Sequence[Path], series: str) -> list[Path]:
    """Turn the instances in `paths` into those of a series of their own, and return them."""
    for number, path in enumerate(paths, 1):
        header = pydicom.dcmread(path)
        header.SeriesInstanceUID, header.SOPInstanceUID = series, f"{series}.{number}"
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.save_as(path)
    return list(paths)


def write_enhanced(
    path: Path,
    where: VolumeGrid,
    voxels: NDArray[np.int16],
    files: Sequence[int] | None = None,
    *,
    is_shared: bool = True,
) -> Path:
    """Write one multi-frame MR whose frames are the slices `files`, in that order.

    Unless `is_shared`, every frame repeats the orientation and the spacing, as scanners do.
    """
    order = list(range(len(voxels)) if files is None else files)
    header = _header(EnhancedMRImageStorage, f"{SERIES}.900", where)
    header.Modality, header.NumberOfFrames, header.InstanceNumber = "MR", len(order), 1
    header.PixelRepresentation = 1
    shared = Dataset()
    if is_shared:
        _add_geometry(shared, where)
    header.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for k in order:
        frame = Dataset()
        frame.PlanePositionSequence = Items([_position(where, k)])
        if not is_shared:
            _add_geometry(frame, where)
        frames.append(frame)
    header.PerFrameFunctionalGroupsSequence = Items(frames)
    header.PixelData = voxels[order].astype("<i2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def _header(kind: UID, instance: str, where: VolumeGrid) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, UID(instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    header.SOPClassUID, header.SOPInstanceUID = kind, instance
    header.StudyInstanceUID, header.SeriesInstanceUID = STUDY, SERIES
    header.FrameOfReferenceUID, header.PositionReferenceIndicator = where.frame_of_reference, ""
    header.PatientName, header.PatientID = "Phantom^Oblique", "P-1"
    header.PatientBirthDate, header.PatientSex = "19700101", "O"
    header.StudyDate = header.SeriesDate = header.ContentDate = "20250101"
    header.StudyTime = header.SeriesTime = header.ContentTime = "120000"
    header.StudyID, header.AccessionNumber, header.ReferringPhysicianName = "1", "A1", ""
    header.StudyDescription, header.SeriesDescription = "phantom", "ramp"
    header.Modality, header.Manufacturer, header.SeriesNumber = "CT", "isoline", 1
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.Columns, header.Rows, _ = where.size
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    return header


def _position(where: VolumeGrid, k: int) -> Dataset:
    position = Dataset()
    position.ImagePositionPatient = _decimals(where.to_lps(np.array([0, 0, k])))
    return position


def _orientation(where: VolumeGrid) -> Dataset:
    orientation = Dataset()
    i, j = where.affine[:3, 0], where.affine[:3, 1]
    axes = np.concatenate([i / np.linalg.norm(i), j / np.linalg.norm(j)])
    orientation.ImageOrientationPatient = _decimals(axes)
    return orientation


def _measures(where: VolumeGrid) -> Dataset:
    measures = Dataset()
    di, dj, dk = where.spacing_mm
    measures.PixelSpacing, measures.SliceThickness = _decimals([dj, di]), _decimals([dk])[0]
    return measures


def _add_geometry(groups: Dataset, where: VolumeGrid) -> None:
    groups.PlaneOrientationSequence = Items([_orientation(where)])
    groups.PixelMeasuresSequence = Items([_measures(where)])


def _decimals(values: Any) -> list[str]:
    return [f"{value:.10f}"[:16] for value in values]
