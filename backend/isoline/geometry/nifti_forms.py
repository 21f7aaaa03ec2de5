"""The two positions of a volume in a NIfTI file, of which readers use one or the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = tuple[tuple[float, ...], ...]
"""The four rows of an affine, to RAS in the units of the file."""


@dataclass(frozen=True)
class NiftiForms:
    """qform and sform with their codes; a mask of the same file carries both unchanged."""

    qform: Rows
    qform_code: int
    sform: Rows
    sform_code: int
    units: str = "mm"
    """The unit of both, in NIfTI's terms: mm, meter, micron or unknown."""

    @property
    def used(self) -> Rows:
        """The sform if it is set, as nibabel decides."""
        return self.sform if self.sform_code else self.qform

    def apart(self, size: tuple[int, int, int]) -> float:
        """Return how far, in their units, the two place a corner of a volume of `size` apart.

        0 if only one of them is set.
        """
        if not (self.qform_code and self.sform_code):
            return 0.0
        corners = np.array(np.meshgrid(*[[0, n - 1] for n in size])).reshape(3, -1)
        places = np.vstack([corners, np.ones(corners.shape[1])])
        difference = matrix(self.qform) - matrix(self.sform)
        return float(np.linalg.norm((difference @ places)[:3], axis=0).max())


def rows(affine: NDArray[np.floating]) -> Rows:
    """Return a (4, 4) `affine` as rows."""
    return tuple(tuple(map(float, row)) for row in affine)


def matrix(form: Rows) -> NDArray[np.float64]:
    """Return the (4, 4) affine of `form`."""
    return np.array(form, np.float64)
