"""A DICOM series as a volume: classic slices or enhanced multi-frame, from a folder.

This module interprets headers for every source of DICOM; `dicomweb` only adds how to fetch them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from isoline.errors import BadSeries, ChoiceNeeded, Unreadable
from isoline.geometry.volume_grid import LPS, Plane, SliceName, Stack, VolumeInfo, stack
from isoline.sources.volume import VolumeSource, series_fingerprint, volume_image

_PLAIN_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
_NOT_NEEDED = 1 << 16
"""Values longer than this, the pixels, stay on disk until they are needed."""


@dataclass(frozen=True)
class Slice:
    """One frame of one instance, and how to convert its stored values to those of the modality."""

    plane: Plane
    header: Dataset
    """The header of the instance."""
    slope: float
    intercept: float

    @property
    def frame(self) -> int:
        """The index within the instance, from 0."""
        return self.plane.name.frame - 1


@dataclass(frozen=True)
class Series:
    """The slices of one series in the order of k, and their positions."""

    slices: tuple[Slice, ...]
    stack: Stack

    @classmethod
    def of(cls, headers: Sequence[Dataset]) -> Series:
        """Assemble the instances with these `headers`, given in any order.

        Raises BadSeries, stating which slice is wrong and why.
        """
        found = [each for header in headers for each in _slices(header)]
        assembled = stack([each.plane for each in found])
        return cls(tuple(found[n] for n in assembled.order), assembled)

    @property
    def headers(self) -> list[Dataset]:
        """One per instance, in the order of their first slices."""
        return list({each.plane.name.instance: each.header for each in self.slices}.values())

    @cached_property
    def dtype(self) -> np.dtype[np.generic]:
        """int16 if the headers guarantee that every value fits, else float32."""
        small = all(map(_fits_int16, self.slices))
        return np.dtype(np.int16 if small else np.float32)

    @property
    def fingerprint(self) -> str:
        return series_fingerprint(each.plane.name for each in self.slices)

    @property
    def info(self) -> VolumeInfo:
        return VolumeInfo(
            self.stack.grid,
            tuple(each.plane.name for each in self.slices),
            str(self.slices[0].header.get("Modality", "")),
        )

    @property
    def problems(self) -> tuple[str, ...]:
        if not self.stack.is_tilted:
            return ()
        return ("the slices are shifted relative to each other, as by a gantry tilt",)

    def rescale(self, k: int, stored: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return slice `k`, given as stored (rows, columns), in the units of the modality."""
        each = self.slices[k]
        rescaled: NDArray[np.generic]
        if self.dtype == np.int16:
            # the first conversion may wrap, but the sum fits
            rescaled = stored.astype(np.int16) + np.int16(each.intercept)
        elif each.slope == 1 and each.intercept.is_integer() and stored.dtype.itemsize <= 2:
            rescaled = stored.astype(np.float32) + np.float32(each.intercept)
        else:
            rescaled = (stored.astype(np.float64) * each.slope + each.intercept).astype(np.float32)
        return rescaled


class DicomSource(VolumeSource):
    """A volume of DICOM instances that keeps their headers."""

    name = "dicom"

    def __init__(self, series: Series) -> None:
        self.series = series
        super().__init__(
            volume_image(self.name, series.fingerprint, series.info, series.dtype, series.problems)
        )


class DicomFolder(DicomSource):
    """The only image series in a folder, or the series that a file belongs to."""

    def __init__(self, path: Path) -> None:
        """Read the headers. Raises Unreadable, ChoiceNeeded or BadSeries."""
        super().__init__(Series.of(_read_headers(path)))

    @classmethod
    def open(cls, path: Path) -> DicomFolder:
        return cls(path)

    def _read(self) -> NDArray[np.generic]:
        voxels = np.empty(self.volume.grid.shape, self.info.dtype)
        last: tuple[str, NDArray[np.generic]] | None = None
        for k, each in enumerate(self.series.slices):
            instance = each.plane.name.instance
            if last is None or last[0] != instance:
                last = instance, decoded(each)
            voxels[k] = self.series.rescale(k, last[1][each.frame])
        return voxels


def decoded(each: Slice) -> NDArray[np.generic]:
    """Return the stored values (frames, rows, columns) of the instance that `each` belongs to."""
    try:
        pixels: NDArray[np.generic] = each.header.pixel_array
    except Exception as error:  # every codec raises its own errors
        raise Unreadable(
            f"{each.plane} cannot be decoded: {error}", "export or send the series again"
        ) from error
    return pixels.reshape(-1, *pixels.shape[-2:])


def stored_frame(each: Slice) -> NDArray[np.generic]:
    """Return the stored values (rows, columns). Raises Unreadable."""
    header = each.header
    if header.file_meta.TransferSyntaxUID in _PLAIN_SYNTAXES and "PixelData" in header:
        frames = int(header.get("NumberOfFrames", 1) or 1)
        raw = memoryview(header.PixelData)
        length = int(header.Rows) * int(header.Columns) * int(header.BitsAllocated) // 8
        if len(raw) >= frames * length:
            here = plain(raw[each.frame * length : (each.frame + 1) * length], header)
            if here is not None:
                return here
    frame: NDArray[np.generic] = decoded(each)[each.frame]
    return frame


def plain(raw: bytes | memoryview, header: Dataset) -> NDArray[np.generic] | None:
    """Return (rows, columns) of one uncompressed frame; None if `raw` is not one."""
    rows, columns = int(header.Rows), int(header.Columns)
    bits = int(header.get("BitsAllocated", 16))
    if bits not in (8, 16, 32) or len(raw) < rows * columns * bits // 8:
        return None
    is_signed = int(header.get("PixelRepresentation", 0))
    kind = np.dtype(f"<{'i' if is_signed else 'u'}{bits // 8}")
    pixels: NDArray[Any] = np.frombuffer(raw, kind, rows * columns).reshape(rows, columns)
    # bits above BitsStored are not part of the value (PS3.5, 8.1.1)
    spare = bits - int(header.get("BitsStored", bits))
    return (pixels << spare) >> spare if spare > 0 else pixels


def _read_headers(path: Path) -> list[Dataset]:
    folder = path if path.is_dir() else path.parent
    wanted = None if path.is_dir() else str(_read_header(path).get("SeriesInstanceUID", ""))
    series: dict[str, list[Dataset]] = {}
    for file in sorted(folder.rglob("*")):
        if not file.is_file():
            continue
        try:
            header = _read_header(file)
        except Unreadable:
            continue  # not an image: DICOMDIR, notes and the like
        if "Rows" in header:
            series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    if wanted is not None:
        return series.get(wanted, [])
    if not series:
        raise Unreadable(f"{path.name} contains no DICOM image", "check the folder")
    if len(series) > 1:
        listed = "; ".join(
            f"{len(headers)} x {headers[0].get('SeriesDescription', uid)}"
            for uid, headers in series.items()
        )
        raise ChoiceNeeded(
            f"{path.name} contains {len(series)} series: {listed}",
            "give the path of one of the files of the series that you want",
        )
    return next(iter(series.values()))


def _read_header(file: Path) -> Dataset:
    try:
        return pydicom.dcmread(file, defer_size=_NOT_NEEDED)
    except Exception as error:  # InvalidDicomError, and many other errors for damaged files
        raise Unreadable(f"{file.name} is not a DICOM file: {error}", "check the file") from error


def _slices(header: Dataset) -> Iterator[Slice]:
    """Yield the frames of one instance."""
    instance = str(header.get("SOPInstanceUID", ""))
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise BadSeries(f"{_called(header)} is in colour", "choose a greyscale series")
    if "PerFrameFunctionalGroupsSequence" not in header:
        if int(header.get("NumberOfFrames", 1) or 1) > 1:
            raise BadSeries(
                f"{_called(header)} has several frames without positions",
                "choose a classic or an enhanced series",
            )
        yield _slice(header, header, SliceName(instance))
        return
    (shared,) = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for number, own in enumerate(header.PerFrameFunctionalGroupsSequence, 1):
        yield _slice(header, _gathered(shared, own), SliceName(instance, number))


_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
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
        frame_of_reference=str(header.get("FrameOfReferenceUID", "")),
        thickness_mm=None if thickness is None else float(thickness),
    )
    slope, intercept = attributes.get("RescaleSlope"), attributes.get("RescaleIntercept")
    return Slice(
        plane,
        header,
        1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept),
    )


def _numbers(
    attributes: Dataset, header: Dataset, name: SliceName, keyword: str, count: int
) -> list[float]:
    value = attributes.get(keyword)
    if value is None or isinstance(value, str) or not hasattr(value, "__len__"):
        raise BadSeries(
            f"{_called(header, name.frame)} has no {keyword}", "choose a series of CT or MR slices"
        )
    if len(value) != count:
        raise BadSeries(
            f"{_called(header, name.frame)}: {keyword} has {len(value)} values, not {count}",
            "have the series corrected where it was made",
        )
    return [float(each) for each in value]


def _called(header: Dataset, frame: int = 1) -> str:
    number = _whole(header.get("InstanceNumber"))
    slice_ = "a slice" if number is None else f"slice {number}"
    return f"{slice_} ({header.get('SOPInstanceUID', 'without UID')}, frame {frame})"


def _whole(value: object) -> int | None:
    return None if value is None or value == "" else int(str(value))


def _fits_int16(each: Slice) -> bool:
    header = each.header
    if each.slope != 1 or each.intercept != int(each.intercept):
        return False
    bits, is_signed = int(header.get("BitsStored", 16)), int(header.get("PixelRepresentation", 0))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    return low + each.intercept >= -32768 and high + each.intercept <= 32767
