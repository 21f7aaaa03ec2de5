"""Where the voxels of a DICOM SEG lie, as the file alone says: frame by frame, in millimetres."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoline.geometry.volume_grid import VolumeGrid


def positions(seg: Any, number: int) -> NDArray[np.float64]:
    """Return where the voxels of the segment `number` lie: (n, 3) LPS millimetres, in `order`."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    axes = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    down, across = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    found = []
    for pixels, frame in zip(
        seg.pixel_array.reshape(-1, seg.Rows, seg.Columns),
        seg.PerFrameFunctionalGroupsSequence,
        strict=True,
    ):
        if seg.SegmentationType == "LABELMAP":
            it = pixels == number
        elif _of(frame if "SegmentIdentificationSequence" in frame else shared) == number:
            it = pixels > 0
        else:
            continue
        origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        j, i = np.nonzero(it)
        found.append(origin + np.outer(i * across, axes[:3]) + np.outer(j * down, axes[3:]))
    return order(np.concatenate(found))


def _of(groups: Any) -> int:
    return int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def expected(where: VolumeGrid, it: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return where the voxels of the (k, j, i) mask `it` lie, in `order`."""
    return order(where.to_lps(np.argwhere(it)[:, ::-1]))


def order(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points[np.lexsort(np.round(points, 2).T)]
