"""Headers of a source as derived objects need them: mended where the standard says how.

Files in the field lack attributes that DICOM requires, or have values that it does not allow. What
may be empty (type 2) is empty rather than missing, what is not a date or a time is empty, and text
is in UTF-8, which has every name.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import DA, TM

from isoline.errors import NotSupported
from isoline.geometry.volume_grid import VolumeInfo

UTF_8 = "ISO_IR 192"
NAME_LENGTH = 64
"""Characters in a name of a segment or a region (value representation LO)."""

_TEXTS = (
    *("PatientName", "PatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName"),
    "PositionReferenceIndicator",
)
_DATES, _TIMES = ("PatientBirthDate", "StudyDate"), ("StudyTime",)
_SEXES = ("M", "F", "O")
_PIXELS = 0x7FE0
_MEASURES, _ORIENTATION = "PixelMeasuresSequence", "PlaneOrientationSequence"
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID")
_OLD_DATE = re.compile(r"(\d{4})\.(\d{2})\.(\d{2})")
"""The form of dates before DICOM (ACR-NEMA), which PS3.5 6.2 still mentions."""


def mended(headers: Sequence[Dataset], volume: VolumeInfo) -> list[Dataset]:
    """Return copies of `headers`, without pixels, that a derived object can be made from.

    Raises NotSupported, naming the attribute, if one is missing that nothing can replace.
    """
    return [_mended(header, volume) for header in headers]


def frame_of_reference(volume: VolumeInfo, series: str) -> str:
    """Return the frame of reference of `volume`, or one derived from its `series` if it has
    none."""
    return volume.grid.frame_of_reference or str(generate_uid(entropy_srcs=[series, "frame"]))


def checked_name(name: str) -> str:
    """Return the name of a segment as DICOM can store it.

    Raises NotSupported for a character that it does not allow.
    """
    if "\\" in name or not name.isprintable():
        raise NotSupported(
            f"DICOM does not allow the name {name!r}: it has a backslash or a control character",
            "give the segment another name",
        )
    return name[:NAME_LENGTH]


def _mended(header: Dataset, volume: VolumeInfo) -> Dataset:
    made = _without_pixels(header)
    for keyword in _NEEDED:
        if not made.get(keyword):
            raise NotSupported(
                f"the series has no {keyword}, which DICOM objects made from it must refer to",
                "use format nifti, or have the series corrected where it was made",
            )
    for keyword in _TEXTS:
        if made.get(keyword) is None:
            setattr(made, keyword, "")
    for keyword in _DATES:
        setattr(made, keyword, _parsed(DA, _OLD_DATE.sub(r"\1\2\3", str(made.get(keyword) or ""))))
    for keyword in _TIMES:
        setattr(made, keyword, _parsed(TM, str(made.get(keyword) or "")))
    sex = str(made.get("PatientSex") or "").strip().upper()
    made.PatientSex = sex if sex in _SEXES else ""
    made.Modality = made.get("Modality") or "OT"
    made.FrameOfReferenceUID = frame_of_reference(volume, str(made.SeriesInstanceUID))
    if "PerFrameFunctionalGroupsSequence" in made:
        _share_geometry(made)
        for measures in made.SharedFunctionalGroupsSequence[0][_MEASURES].value:
            _complete_measures(measures, volume)
    else:
        _complete_measures(made, volume)
    return made


def _without_pixels(header: Dataset) -> Dataset:
    """Return a copy in UTF-8; pixels, which may still be on the disk, are left out."""
    made = _copied(header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bytes that are not in the declared character set
        made.decode()
    made.SpecificCharacterSet = UTF_8
    return made


def _copied(header: Dataset) -> Dataset:
    """Return a copy whose attributes can be set; values, such as items of sequences, are shared."""
    made = Dataset()
    for tag in header.keys():  # noqa: SIM118  a dataset iterates over elements
        if tag.group < _PIXELS and not tag.is_private:
            made[tag] = copy(header.get_item(tag))
    return made


def _parsed(kind: type[DA] | type[TM], text: str) -> Any:
    """Return `text` as a date or a time; empty if it is neither."""
    try:
        return kind(text.strip())
    except ValueError:
        return ""


def _complete_measures(measures: Dataset, volume: VolumeInfo) -> None:
    """Add the thickness of slices that are stacked without gaps, if there is none."""
    if not measures.get("SliceThickness"):
        grid = volume.grid
        measures.SliceThickness = f"{abs(np.dot(grid.step_k_mm, grid.normal)):.6f}"[:16]


def _share_geometry(header: Dataset) -> None:
    """Move what all frames of one volume have in common to the groups that they share."""
    shared = _copied((header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0])
    frames = header.PerFrameFunctionalGroupsSequence
    for keyword in (_MEASURES, _ORIENTATION):
        own = frames[0].get(keyword)
        if own is None:
            own = shared.get(keyword)
        if own is None:
            raise NotSupported(
                f"the frames of the series have no {keyword}", "use format rtstruct or nifti"
            )
        setattr(shared, keyword, [_copied(own[0])])
    header.SharedFunctionalGroupsSequence = [shared]
    header.PerFrameFunctionalGroupsSequence = [_without_geometry(frame) for frame in frames]


def _without_geometry(frame: Dataset) -> Dataset:
    made = _copied(frame)
    for keyword in (_MEASURES, _ORIENTATION):
        if keyword in made:
            delattr(made, keyword)
    return made
