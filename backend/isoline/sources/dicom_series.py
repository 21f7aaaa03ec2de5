"""A DICOM series as a volume: classic slices or enhanced multi-frame, from a folder.

Headers are interpreted in the same way for every source of DICOM (`dicom_frames`); `dicomweb` only
adds how to fetch them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from isoline.errors import BadSeries
from isoline.geometry.slice_stack import ASSUMED_MM, Stack, stack
from isoline.geometry.volume_grid import SliceName, VolumeInfo
from isoline.sources.dicom_files import find_series
from isoline.sources.dicom_frames import Slice, file_name, frames_of
from isoline.sources.dicom_mixture import check_single
from isoline.sources.dicom_pixels import check_decodable, decoded
from isoline.sources.fingerprint import content_digests
from isoline.sources.volume import VolumeSource, series_fingerprint, volume_image

_NOTED = 0.02
"""The share of a step by which slices may be off an even spacing without a note."""


@dataclass(frozen=True)
class Series:
    """The slices of one series in the order of k, and their positions."""

    slices: tuple[Slice, ...]
    stack: Stack

    left_out: tuple[str, ...] = ()
    """What else was found where the series lies, and is not part of it: a sentence each."""

    @classmethod
    def of(cls, headers: Sequence[Dataset], left_out: tuple[str, ...] = ()) -> Series:
        """Assemble the instances with these `headers`, given in any order.

        Raises BadSeries, stating which slice is wrong and why.
        """
        found = [each for header in headers for each in frames_of(header)]
        _check_names(found)
        check_single(found)
        assembled = stack([each.plane for each in found])
        return cls(tuple(found[n] for n in assembled.order), assembled, left_out)

    @property
    def headers(self) -> list[Dataset]:
        """One per instance, in the order of their first slices."""
        return list({each.plane.name.instance: each.header for each in self.slices}.values())

    @cached_property
    def dtype(self) -> np.dtype[np.generic]:
        """int16 if the headers guarantee that every value fits, else float32."""
        small = all(each.fits_int16 for each in self.slices)
        return np.dtype(np.int16 if small else np.float32)

    def fingerprint(self, content: Iterable[bytes]) -> str:
        """Return the fingerprint of the series, of which `content` is known."""
        return series_fingerprint((each.plane.name for each in self.slices), content)

    @property
    def info(self) -> VolumeInfo:
        return VolumeInfo(
            self.stack.grid,
            tuple(each.plane.name for each in self.slices),
            str(self.slices[0].header.get("Modality", "")),
        )

    @property
    def problems(self) -> tuple[str, ...]:
        found = []
        if self.stack.is_tilted:
            found.append(
                "the slices are shifted relative to each other, as by a gantry tilt: programs based"
                " on ITK refuse NIfTI masks of it, so prefer dicomseg or rtstruct"
            )
        if self.stack.worst_mm > _NOTED * self.stack.grid.spacing_mm[2]:
            found.append(
                f"the slices are up to {self.stack.worst_mm:.3f} mm off an even spacing of"
                f" {self.stack.grid.spacing_mm[2]:.3f} mm, which is used"
            )
        first = self.slices[0]
        if len(self.slices) == 1 and not (first.plane.thickness_mm or 0) > 0:
            found.append(f"the only slice has no SliceThickness; {ASSUMED_MM:g} mm is assumed")
        if (units := str(first.header.get("Units", "") or "")) not in ("", "HU", "GML"):
            found.append(f"values are in {units}, not in standardised uptake (SUV)")
        return (*found, *self.left_out)

    def rescale(self, k: int, stored: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return slice `k`, given as stored (rows, columns), in the units of the modality."""
        return self.slices[k].rescale(stored, self.dtype)


def _check_names(slices: Sequence[Slice]) -> None:
    """Raise BadSeries unless every slice has a name of its own, by which results refer to it."""
    seen: dict[SliceName, Slice] = {}
    for each in slices:
        name = each.plane.name
        if not name.instance:
            raise BadSeries(
                f"{each.plane} has no SOPInstanceUID, by which results refer to it",
                "have the series exported again, or convert it to NIfTI",
            )
        if name in seen:
            raise BadSeries(
                f"{seen[name].plane} and {each.plane} have the same SOPInstanceUID and are not"
                " copies of each other",
                "have the series exported again, or convert it to NIfTI",
            )
        seen[name] = each


class DicomSource(VolumeSource):
    """A volume of DICOM instances that keeps their headers."""

    name = "dicom"

    def __init__(self, series: Series, content: Iterable[bytes]) -> None:
        """Represent `series`; `content` distinguishes it from others with the same UIDs."""
        self.series = series
        fingerprint = series.fingerprint(content)
        super().__init__(
            volume_image(self.name, fingerprint, series.info, series.dtype, series.problems)
        )


class DicomFolder(DicomSource):
    """The only image series in a folder, or the series that a file belongs to."""

    def __init__(self, path: Path) -> None:
        """Read the headers. Raises Unreadable, ChoiceNeeded or BadSeries."""
        headers, left_out = find_series(path)
        for header in headers:
            check_decodable(header, file_name(header))
        files = [Path(str(header.filename)) for header in headers]
        super().__init__(Series.of(headers, left_out), content_digests(files))

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
