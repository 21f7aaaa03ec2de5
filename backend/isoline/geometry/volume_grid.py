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

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoline.errors import BadRegion
from isoline.geometry.nifti_forms import NiftiForms

_RIGHT_ANGLE = 1e-4
"""Cosine up to which axes count as perpendicular; ITK's readers refuse more."""


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
    def is_sheared(self) -> bool:
        """Whether the axes are not at right angles, as with a gantry tilt."""
        axes = self.affine[:3, :3] / np.array(self.spacing_mm)
        return bool(np.abs(axes.T @ axes - np.eye(3)).max() > _RIGHT_ANGLE)

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
    forms: NiftiForms | None = None
    """Where a NIfTI file places it; the grid is one of these."""

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
