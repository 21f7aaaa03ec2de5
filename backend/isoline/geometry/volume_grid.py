"""The positions of voxels in a patient: LPS millimetres at the interfaces, voxel indices inside.

    lps     millimetres, +x to the patient's left, +y posterior, +z superior: DICOM's frame of
            reference (PS3.3 C.7.6.2.1.1); used by viewers and files
    index   (i, j, k): column, row, slice, with the *centre* of a voxel at integers

    lps = origin_mm + i * step_i_mm + j * step_j_mm + k * step_k_mm

Arrays are (k, j, i). Slices ascend along the normal, the cross product of the directions of i and
j, regardless of the order of files or InstanceNumber; a slice is identified by its instance and
frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoline.errors import BadRegion, BadSeries

TOLERANCE = 0.05
"""How far a slice may be from its expected position, as a share of a step or of a pixel."""
_ANGLE = 1e-3
"""How far unit vectors may deviate from being equal, or from right angles."""


class LPS(NamedTuple):
    """A point or a step in millimetres: to the left, posterior, superior."""

    x: float
    y: float
    z: float


class SliceName(NamedTuple):
    """A slice's identity in a viewer."""

    instance: str
    """SOPInstanceUID."""
    frame: int = 1
    """Frame number from 1; 1 in a single-frame instance."""


@dataclass(frozen=True)
class VolumeGrid:
    """The voxel lattice of one volume. Only a gantry tilt makes `step_k_mm` oblique to the
    slices."""

    size: tuple[int, int, int]
    """Voxels along (i, j, k)."""
    origin_mm: LPS
    """Centre of voxel (0, 0, 0)."""
    step_i_mm: LPS
    step_j_mm: LPS
    step_k_mm: LPS
    frame_of_reference: str = ""
    """FrameOfReferenceUID; empty if there is none (NIfTI)."""

    @classmethod
    def from_affine(
        cls, affine: NDArray[np.floating], size: tuple[int, int, int], frame_of_reference: str = ""
    ) -> VolumeGrid:
        """Return the grid of a (4, 4) matrix from (i, j, k, 1) to LPS millimetres."""
        i, j, k, origin = (LPS(*map(float, affine[:3, n])) for n in range(4))
        return cls(size, origin, i, j, k, frame_of_reference)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an array, (k, j, i)."""
        i, j, k = self.size
        return k, j, i

    @property
    def affine(self) -> NDArray[np.float64]:
        """The (4, 4) matrix from (i, j, k, 1) to (x, y, z, 1) in LPS millimetres."""
        matrix = np.eye(4)
        steps = (self.step_i_mm, self.step_j_mm, self.step_k_mm, self.origin_mm)
        matrix[:3] = np.array(steps).T
        return matrix

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The distance between neighbours along (i, j, k)."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return i, j, k

    @property
    def normal(self) -> LPS:
        """The unit vector along which slices are stacked."""
        cross = np.cross(self.step_i_mm, self.step_j_mm)
        return LPS(*(cross / np.linalg.norm(cross)).tolist())

    def to_lps(self, index: NDArray[np.generic]) -> NDArray[np.float64]:
        """Convert (..., 3) voxel indices (i, j, k) to LPS millimetres."""
        affine = self.affine
        lps: NDArray[np.float64] = np.asarray(index) @ affine[:3, :3].T + affine[:3, 3]
        return lps

    def to_index(self, lps: NDArray[np.generic]) -> NDArray[np.float64]:
        """Convert (..., 3) LPS millimetres to fractional voxel indices (i, j, k)."""
        affine = self.affine
        offset = np.asarray(lps) - affine[:3, 3]
        index: NDArray[np.float64] = offset @ np.linalg.inv(affine[:3, :3]).T
        return index


@dataclass(frozen=True)
class VolumeInfo:
    """The position of a stack of slices in the patient."""

    grid: VolumeGrid
    slices: tuple[SliceName, ...] = ()
    """For k = 0, 1, ...; empty if slices have no names (NIfTI)."""
    modality: str = ""
    """CT, MR, ...; empty if unknown."""

    def k_of(self, asked: SliceName | int, name: str) -> int:
        """Return the k of a slice of the volume `name`. Raises BadRegion if it does not exist."""
        count = self.grid.size[2]
        if isinstance(asked, int):
            if not 0 <= asked < count:
                raise BadRegion(f"{name} has no slice {asked}", f"it has slices 0 to {count - 1}")
            return asked
        if asked not in self.slices:
            raise BadRegion(
                f"{name} has no instance {asked.instance} with a frame {asked.frame}",
                "identify a slice of this series by its SOPInstanceUID and frame number",
            )
        return self.slices.index(asked)


def swap_ras(affine: NDArray[np.floating]) -> NDArray[np.float64]:
    """Convert a (4, 4) affine to RAS millimetres into one to LPS, or vice versa."""
    swapped: NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return swapped


@dataclass(frozen=True)
class Plane:
    """One slice as its file describes it."""

    name: SliceName
    number: int | None
    """InstanceNumber, used only in messages."""
    origin_mm: LPS
    """ImagePositionPatient: the centre of the first pixel."""
    along_i: LPS
    """Unit vector in which the column index increases: the first of ImageOrientationPatient."""
    along_j: LPS
    spacing_mm: tuple[float, float]
    """(between columns, between rows): PixelSpacing in reverse order."""
    size: tuple[int, int]
    """(columns, rows)."""
    frame_of_reference: str
    thickness_mm: float | None = None

    def __str__(self) -> str:
        number = f"slice {self.number}" if self.number is not None else "a slice"
        return f"{number} ({self.name.instance}, frame {self.name.frame})"


@dataclass(frozen=True)
class Stack:
    """Planes that form one volume."""

    grid: VolumeGrid
    order: tuple[int, ...]
    """For k = 0, 1, ...: the index of the plane at that position."""
    is_tilted: bool
    """Whether slices are shifted relative to each other, as by a gantry tilt."""


def stack(planes: Sequence[Plane]) -> Stack:
    """Assemble `planes`, given in any order, into one volume.

    Raises BadSeries, naming the slice, if they do not form one regular volume.
    """
    if not planes:
        raise BadSeries("the series has no image slice", "choose a series of images")
    _check_alike(planes)
    first = planes[0]
    normal = np.cross(first.along_i, first.along_j)
    height = np.array([plane.origin_mm for plane in planes]) @ normal
    order = np.argsort(height, kind="stable")
    ordered = [planes[n] for n in order]
    gaps = np.diff(height[order])
    _check_gaps(ordered, gaps)
    step = _step(ordered, normal)
    grid = VolumeGrid(
        (*first.size, len(planes)),
        ordered[0].origin_mm,
        _times(first.along_i, first.spacing_mm[0]),
        _times(first.along_j, first.spacing_mm[1]),
        step,
        first.frame_of_reference,
    )
    sideways = np.linalg.norm(np.array(step) - np.dot(step, normal) * normal)
    is_tilted = bool(sideways * (len(planes) - 1) > TOLERANCE * min(first.spacing_mm))
    return Stack(grid, tuple(order.tolist()), is_tilted)


def _check_alike(planes: Sequence[Plane]) -> None:
    first = planes[0]
    _check_axes(first)
    for plane in planes[1:]:
        if plane.size != first.size:
            raise BadSeries(
                "{} has {} x {} pixels and {} has {} x {}".format(
                    plane, *plane.size, first, *first.size
                ),
                "choose a series whose slices have the same size",
            )
        turned = np.abs(np.subtract(plane.along_i, first.along_i)).max()
        turned = max(turned, np.abs(np.subtract(plane.along_j, first.along_j)).max())
        if turned > _ANGLE:
            raise BadSeries(
                f"{plane} has another orientation than {first}",
                "localizers and radial series are not volumes: choose another series",
            )
        if not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=1e-3):
            raise BadSeries(
                f"{plane} has pixels of {plane.spacing_mm} mm and {first} of {first.spacing_mm}",
                "choose a series with a single pixel size",
            )
        if plane.frame_of_reference != first.frame_of_reference:
            raise BadSeries(
                f"{plane} and {first} have different frames of reference",
                "the patient was repositioned in between: choose a series from one position",
            )


def _check_axes(plane: Plane) -> None:
    i, j = np.array(plane.along_i), np.array(plane.along_j)
    wrong = max(abs(i @ i - 1), abs(j @ j - 1), abs(i @ j))
    if not wrong <= 10 * _ANGLE:  # also catches NaN
        raise BadSeries(
            f"{plane}: its ImageOrientationPatient is not two unit vectors at right angles",
            "have the series corrected where it was made",
        )
    if not min(plane.spacing_mm) > 0:
        raise BadSeries(
            f"{plane} has no PixelSpacing above 0", "have the series corrected where it was made"
        )


def _check_gaps(ordered: Sequence[Plane], gaps: NDArray[np.float64]) -> None:
    """Reject duplicate, missing or unevenly spaced slices; `gaps` in mm, ascending."""
    if not len(gaps):
        return
    doubled = gaps < max(1e-3, TOLERANCE * float(gaps.max()))
    if doubled.any():
        at = int(np.argmax(doubled))
        places = int((~doubled).sum()) + 1
        phases = len(ordered) / places
        if phases > 1 and phases == int(phases) and places > 1:
            raise BadSeries(
                f"{ordered[at]} and {ordered[at + 1]} are at the same position, as others are: the"
                f" series has {int(phases)} volumes of {places} slices (times, echoes or phases)",
                "split it into one series per volume",
            )
        raise BadSeries(
            f"{ordered[at]} and {ordered[at + 1]} are at the same position",
            "remove the duplicate",
        )
    step = float(np.median(gaps))
    missing = gaps > 1.5 * step
    if missing.any():
        at = int(np.argmax(missing))
        count = max(1, round(float(gaps[at]) / step) - 1)
        raise BadSeries(
            f"{count} of the slices between {ordered[at]} and {ordered[at + 1]} missing: they are"
            f" {gaps[at]:.2f} mm apart, the others {step:.2f} mm",
            "send the whole series to the archive again",
        )
    uneven = np.abs(gaps - step) > TOLERANCE * step
    if uneven.any():
        at = int(np.argmax(uneven))
        raise BadSeries(
            f"the spacing varies: {ordered[at]} and {ordered[at + 1]} are {gaps[at]:.3f} mm apart,"
            f" others {step:.3f} mm",
            "reconstruct the series with even spacing",
        )


def _step(ordered: Sequence[Plane], normal: NDArray[np.float64]) -> LPS:
    """Return the step between slices. Raises BadSeries for a slice that is off the line."""
    if len(ordered) == 1:
        thickness = ordered[0].thickness_mm
        if not thickness or thickness <= 0:
            raise BadSeries(
                f"{ordered[0]} is the only slice and has no SliceThickness",
                "choose a series with several slices",
            )
        return LPS(*(thickness * normal).tolist())
    origins = np.array([plane.origin_mm for plane in ordered])
    step = (origins[-1] - origins[0]) / (len(ordered) - 1)
    expected = origins[0] + np.arange(len(ordered))[:, None] * step
    off = np.linalg.norm(origins - expected, axis=1)
    finest = min(*ordered[0].spacing_mm, float(np.linalg.norm(step)))
    if (worst := float(off.max())) > 2 * TOLERANCE * finest:
        raise BadSeries(
            f"{ordered[int(off.argmax())]} is {worst:.2f} mm off the line of the others",
            "have the series corrected where it was made",
        )
    return LPS(*step.tolist())


def _times(vector: LPS, length: float) -> LPS:
    return LPS(*(length * each for each in vector))
