"""Computing the anchor of an object from its rings, in integers."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def anchor_pixels(
    corners: NDArray[np.int32],
    ring_start: NDArray[np.int64],
    object_ring: NDArray[np.int64],
    boxes: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Return (n, 2) x, y of each object's own pixel nearest to the centre of its box.

    Rings run along pixel edges with the object on the right; `object_ring` (n + 1,) gives the
    start of each object's rings, `boxes` is (n, 4) x0, y0, x1, y1. Ties go to the first pixel in
    raster order.

    Up to four pixels are central. If none of them belongs to the object, a step from its nearest
    pixel towards the centre leaves the object, so there is an edge; and along that edge, no pixel
    of the object is nearer than the one that `_clamp` picks. Visiting each edge once is enough.
    """
    anchors = np.empty((len(boxes), 2), np.int32)
    for k in range(len(boxes)):
        # centres are doubled, so that those between two pixels are integers
        centre_x = np.int64(boxes[k, 0]) + boxes[k, 2] - 1
        centre_y = np.int64(boxes[k, 1]) + boxes[k, 3] - 1
        left, top = centre_x >> 1, centre_y >> 1
        across, down = centre_x & 1, centre_y & 1
        is_inside = np.zeros((2, 2), np.bool_)
        best, best_x, best_y = np.int64(2**62), np.int64(0), np.int64(0)
        for ring in range(object_ring[k], object_ring[k + 1]):
            end = ring_start[ring + 1]
            xa, ya = np.int64(corners[end - 1, 0]), np.int64(corners[end - 1, 1])
            for i in range(ring_start[ring], end):
                xb, yb = np.int64(corners[i, 0]), np.int64(corners[i, 1])
                if xa == xb:
                    low, high = min(ya, yb), max(ya, yb)
                    x, y = xa - (yb > ya), _clamp(top, low, high)
                    for v in range(1 + down):
                        for u in range(1 + across):
                            if xa <= left + u and low <= top + v < high:
                                is_inside[v, u] = not is_inside[v, u]
                else:
                    x, y = _clamp(left, min(xa, xb), max(xa, xb)), ya - (xb < xa)
                distance = (2 * x - centre_x) ** 2 + (2 * y - centre_y) ** 2
                if (distance, y, x) < (best, best_y, best_x):
                    best, best_x, best_y = distance, x, y
                xa, ya = xb, yb
        for v in range(1 + down):
            for u in range(1 + across):
                # all central pixels are at the same distance, nearer than any other
                if is_inside[v, u] and (down + across, top + v, left + u) <= (best, best_y, best_x):
                    best, best_x, best_y = down + across, left + u, top + v
        anchors[k, 0], anchors[k, 1] = best_x, best_y
    return anchors


@numba.njit(cache=True, nogil=True)
def _clamp(value: int, low: int, high: int) -> int:
    """Return the integer in [low, high) nearest to `value`."""
    return max(low, min(value, high - 1))
