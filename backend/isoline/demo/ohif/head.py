"""A real head for the demonstration: the MR from mricron, as a series that a scanner would send.

ch2 is the mean of 27 scans of one man (Holmes et al., J Comput Assist Tomogr 1998), T1, 1 mm.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from isoline.errors import Broken
from isoline.geometry.volume_grid import VolumeGrid
from isoline.sources.nifti import NiftiSource

TEMPLATE = Path("/usr/share/mricron/templates/ch2.nii.gz")


def find() -> Path:
    """Return the path of the head. Raises Broken if it is not installed."""
    if not TEMPLATE.exists():
        raise Broken(
            "the sample head scan is not installed",
            "on Debian and Ubuntu: apt-get install mricron-data",
        )
    return TEMPLATE


def series(path: Path) -> Iterator[FileDataset]:
    """Yield the volume in the NIfTI file `path` as axial MR slices, from the feet upwards.

    Equal files give equal UIDs.
    """
    source = NiftiSource.open(path)
    voxels, grid = _axial(source.voxels(), source.volume.grid)
    brightest = int(np.percentile(voxels.astype(np.float32), 99.5))
    about = [source.info.fingerprint, *map(str, voxels.shape)]
    study, one, frame = (generate_uid(entropy_srcs=[*about, of]) for of in ("study", "series", "F"))
    for k, plane in enumerate(voxels):
        header = _header(study, one, generate_uid(entropy_srcs=[*about, str(k)]))
        header.FrameOfReferenceUID, header.PositionReferenceIndicator = frame, ""
        header.SeriesDescription = path.name.partition(".")[0]
        header.InstanceNumber = k + 1
        header.ImagePositionPatient = _decimals(grid.to_lps(np.array([0, 0, k])))
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        di, dj, dk = grid.spacing_mm
        header.PixelSpacing, header.SliceThickness = _decimals([dj, di]), _decimals([dk])[0]
        header.SpacingBetweenSlices = header.SliceThickness
        header.Rows, header.Columns = plane.shape
        header.WindowCenter, header.WindowWidth = brightest // 2, brightest
        header.PixelData = plane.astype("<i2").tobytes()
        yield header


def _axial(voxels: NDArray[np.generic], grid: VolumeGrid) -> tuple[NDArray[np.generic], VolumeGrid]:
    """Flip axes so that i runs to the left, j to the back and k to the head."""
    affine = grid.affine
    steps = np.diag(affine[:3, :3])
    if not np.allclose(affine[:3, :3], np.diag(steps)):
        raise Broken(
            "the sample head scan is oblique", "reinstall mricron-data from the distribution"
        )
    backwards = steps < 0
    last = np.where(backwards, np.array(grid.size) - 1, 0)
    affine[:3, 3] = grid.to_lps(last)
    affine[:3, :3] = np.diag(np.abs(steps))
    voxels = np.flip(voxels, tuple(2 - axis for axis in np.flatnonzero(backwards).tolist()))
    return voxels, VolumeGrid.from_affine(affine, grid.size)


def _header(study: str, one: str, instance: UID) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, instance
    header = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    header.SOPClassUID, header.SOPInstanceUID = MRImageStorage, instance
    header.StudyInstanceUID, header.SeriesInstanceUID = study, one
    header.PatientName, header.PatientID = "Head^Public", "CH2"
    header.PatientBirthDate, header.PatientSex = "", "M"
    header.StudyDate, header.StudyTime = "19980301", "120000"
    header.StudyID, header.AccessionNumber, header.ReferringPhysicianName = "1", "", ""
    header.StudyDescription, header.SeriesNumber = "Head", 1
    header.Modality, header.Manufacturer = "MR", "isoline"
    header.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    header.ScanningSequence, header.SequenceVariant = "RM", "NONE"
    header.ScanOptions, header.MRAcquisitionType = "", "3D"
    header.EchoTime = header.RepetitionTime = header.EchoTrainLength = None
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = 1
    header.RescaleIntercept, header.RescaleSlope = 0, 1
    return header


def _decimals(values: object) -> list[str]:
    return [f"{value:.6f}"[:16] for value in np.asarray(values, np.float64)]
