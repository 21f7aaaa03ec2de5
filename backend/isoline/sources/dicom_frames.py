"""The frames of DICOM instances as planes in the patient, and what their values mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from isoline.errors import BadSeries
from isoline.geometry.slice_stack import Plane, called
from isoline.geometry.volume_grid import LPS, SliceName
from isoline.sources.volume import EXACT

_INTERCEPT = "RescaleIntercept"
_AT_SOURCE = "have the series corrected where it was made"


@dataclass(frozen=True)
class Slice:
    """One frame of one instance, and how to convert its stored values to those of the modality."""

    plane: Plane
    header: Dataset
    """The header of the instance."""
    slope: float
    intercept: float
    contrast: tuple[tuple[str, str], ...] = ()
    """What distinguishes volumes of one series, as far as its header says: echo, time, b-value."""

    @property
    def frame(self) -> int:
        """The index within the instance, from 0."""
        return self.plane.name.frame - 1

    @property
    def fits_int16(self) -> bool:
        """Whether the header guarantees that every value fits int16."""
        header = self.header
        if self.slope != 1 or self.intercept != int(self.intercept):
            return False
        bits = int(header.get("BitsStored", 16))
        is_signed = int(header.get("PixelRepresentation", 0))
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
        return low + self.intercept >= -32768 and high + self.intercept <= 32767

    def rescale(
        self, stored: NDArray[np.generic], dtype: np.dtype[np.generic]
    ) -> NDArray[np.generic]:
        """Return `stored` (rows, columns) in the units of the modality, as int16 or float32.

        Raises BadSeries for whole numbers that float32 cannot represent.
        """
        rescaled: NDArray[np.generic]
        if dtype == np.int16:
            # the first conversion may wrap, but the sum fits
            rescaled = stored.astype(np.int16) + np.int16(self.intercept)
        elif self.slope == 1 and self.intercept.is_integer() and stored.dtype.itemsize <= 2:
            rescaled = stored.astype(np.float32) + np.float32(self.intercept)
        else:
            exact = stored.astype(np.float64) * self.slope + self.intercept
            rescaled = exact.astype(np.float32)
            is_whole = self.slope.is_integer() and self.intercept.is_integer()
            if is_whole and (np.abs(exact) > EXACT).any() and (rescaled != exact).any():
                raise BadSeries(
                    f"{self.plane} has values beyond {EXACT:,}, which cannot be kept exactly",
                    "choose a series with values of 24 bits or less",
                )
        return rescaled


def file_name(header: Dataset) -> str:
    """Return the name of the file that `header` was read from; empty if it is from an archive."""
    file = getattr(header, "filename", None)
    return Path(file).name if isinstance(file, str | Path) else ""


def frames_of(header: Dataset) -> Iterator[Slice]:
    """Yield the frames of one instance. Raises BadSeries if they are not slices of a volume."""
    _check_values(header)
    instance = str(header.get("SOPInstanceUID", "") or "")
    count = int(header.get("NumberOfFrames", 1) or 1)
    if "PerFrameFunctionalGroupsSequence" not in header:
        if count > 1:
            raise _frames_without_positions(header, count)
        yield _slice(header, header, SliceName(instance))
        return
    own = header.PerFrameFunctionalGroupsSequence
    if len(own) != count:
        raise BadSeries(
            f"{_called(header)} has {count} frames and describes {len(own)}",
            "have the series exported or sent again",
        )
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    for number, each in enumerate(own, 1):
        yield _slice(header, _gathered(shared, each), SliceName(instance, number))


def _frames_without_positions(header: Dataset, count: int) -> BadSeries:
    if "SliceVector" in header:
        return BadSeries(
            f"{_called(header)} has {count} frames whose positions are in a SliceVector, which"
            " isoline does not read",
            "convert it to NIfTI, or to one file per slice",
        )
    return BadSeries(
        f"{_called(header)} has {count} frames without positions: {_kind(header)}, a cine or views"
        " from several sides, is not a volume",
        "choose a series of CT or MR slices",
    )


def _kind(header: Dataset) -> str:
    """Return what an instance is, with its article: "a CR image (Computed ... Storage)"."""
    modality = header.get("Modality") or "DICOM"
    return f"an image of {modality} ({UID(str(header.get('SOPClassUID', '?'))).name})"


def _check_values(header: Dataset) -> None:
    """Raise BadSeries if the stored values are not intensities."""
    colours = str(header.get("PhotometricInterpretation", ""))
    if int(header.get("SamplesPerPixel", 1) or 1) != 1:
        raise BadSeries(
            f"{_called(header)} is in colour: {_kind(header)}", "choose a greyscale series"
        )
    if colours == "PALETTE COLOR":
        raise BadSeries(
            f"{_called(header)} is a colour map (PALETTE COLOR): its values are places in a table",
            "choose the series that the map was computed from, or one of its values",
        )
    if header.get("ModalityLUTSequence"):
        raise BadSeries(
            f"{_called(header)} has a table of values (Modality LUT), which isoline does not apply",
            "choose a series with RescaleSlope and RescaleIntercept",
        )


_CONTRAST = {
    "EchoTime": ("EchoTime", "EffectiveEchoTime"),
    "DiffusionBValue": ("DiffusionBValue",),
    "TemporalPosition": ("TemporalPositionIdentifier", "TemporalPositionIndex"),
    "TriggerTime": ("TriggerTime", "NominalCardiacTriggerDelayTime"),
    "AcquisitionNumber": ("AcquisitionNumber", "FrameAcquisitionNumber"),
}
"""Attributes of classic and of enhanced files."""
_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "MREchoSequence",
    "MRDiffusionSequence",
    "CardiacSynchronizationSequence",
)


def _gathered(shared: Dataset, own: Dataset) -> Dataset:
    """Return the attributes of one frame's functional groups in one flat dataset."""
    flat = Dataset()
    for groups in (shared, own):
        for keyword in _GROUPS:
            for group in groups.get(keyword) or ():
                flat.update(group)
    return flat


def _slice(header: Dataset, attributes: Dataset, name: SliceName) -> Slice:
    position = _numbers(attributes, header, name, "ImagePositionPatient", 3)
    axes = _numbers(attributes, header, name, "ImageOrientationPatient", 6)
    down, across = _numbers(attributes, header, name, "PixelSpacing", 2)
    thickness = attributes.get("SliceThickness")
    plane = Plane(
        name=name,
        number=_whole(header.get("InstanceNumber")),
        origin_mm=LPS(*position),
        along_i=LPS(*axes[:3]),
        along_j=LPS(*axes[3:]),
        spacing_mm=(across, down),
        size=(int(header.Columns), int(header.Rows)),
        frame_of_reference=str(header.get("FrameOfReferenceUID", "") or ""),
        thickness_mm=float(thickness) if thickness else None,
        file=file_name(header),
    )
    # some scanners write these at the top of enhanced files, outside the functional groups
    slope, intercept = (
        attributes.get(keyword, header.get(keyword)) for keyword in ("RescaleSlope", _INTERCEPT)
    )
    scale = 1.0 if slope in (None, "") else float(slope)
    offset = 0.0 if intercept in (None, "") else float(intercept)
    if not scale or not isfinite(scale) or not isfinite(offset):
        raise BadSeries(f"{plane} has the RescaleSlope {scale:g}", _AT_SOURCE)
    return Slice(plane, header, scale, offset, tuple(_contrast(attributes, header)))


def _contrast(attributes: Dataset, header: Dataset) -> Iterator[tuple[str, str]]:
    for name, keywords in _CONTRAST.items():
        given = (attributes.get(keyword, header.get(keyword)) for keyword in keywords)
        value = next((each for each in given if each not in (None, "")), None)
        if value is not None:
            yield name, str(value)


def _numbers(
    attributes: Dataset, header: Dataset, name: SliceName, keyword: str, count: int
) -> list[float]:
    value = attributes.get(keyword)
    if value is None or isinstance(value, str) or not hasattr(value, "__len__"):
        raise BadSeries(
            f"{_called(header, name.frame)} has no {keyword}: {_kind(header)} that lies nowhere in"
            " the patient is not a slice",
            "choose a series of CT or MR slices",
        )
    if len(value) != count:
        raise BadSeries(
            f"{_called(header, name.frame)}: {keyword} has {len(value)} values, not {count}",
            _AT_SOURCE,
        )
    return [float(each) for each in value]


def _called(header: Dataset, frame: int = 1) -> str:
    """Return the name of a frame in messages, as that of a plane."""
    name = SliceName(str(header.get("SOPInstanceUID", "") or ""), frame)
    return called(_whole(header.get("InstanceNumber")), file_name(header), name)


def _whole(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None
