"""The first attributes of a DICOM file: which series it belongs to, and whether that is a slide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""VL Whole Slide Microscopy, PS3.4 B.5."""
_PREAMBLE = 128


@dataclass(frozen=True)
class DicomHead:
    """What a file says of itself."""

    series: str | None
    """SeriesInstanceUID."""
    is_slide: bool
    """Whether it is a whole slide; assumed if the file does not say."""


def read_head(path: Path) -> DicomHead | None:
    """Return the head of a DICOM file, None if it cannot be read as one."""
    import pydicom  # here, since importing it takes longer than opening most files

    tags = ["SOPClassUID", "SeriesInstanceUID"]
    try:
        head = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        series = head.get("SeriesInstanceUID")
        # a DICOMDIR has its kind only there
        declared = head.file_meta.get("MediaStorageSOPClassUID", _SLIDE)
        kind = head.get("SOPClassUID", declared)
    except Exception:  # not DICOM, or damaged: pydicom raises errors of many kinds
        return None
    return DicomHead(None if series is None else str(series), bool(kind == _SLIDE))


def is_dicom(path: Path) -> bool:
    """Return whether the file begins like a DICOM file (PS3.10 7.1)."""
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE + 4).endswith(b"DICM")
    except OSError:
        return False
