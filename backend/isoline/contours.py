"""Label images to polygons that run along pixel edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Polygons:
    """n objects, each one polygon or several, as four flat arrays in grid-pixel corners.

        object k  = parts   object_start[k] .. object_start[k + 1]
        part p    = rings   part_start[p]   .. part_start[p + 1]     the shell, then its holes
        ring r    = corners ring_start[r]   .. ring_start[r + 1]     the first is not repeated

    A ring holds only the corners where it turns. Shells run clockwise as seen on screen (x right,
    y down), holes the other way. Canonical: a ring starts at its first corner in raster order
    (smallest y, then smallest x); the holes of a part and the parts of an object are sorted by
    that corner.
    """

    corners: NDArray[np.int32]
    """(c, 2) x, y."""
    ring_start: NDArray[np.int64]
    part_start: NDArray[np.int64]
    object_start: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.object_start) - 1
