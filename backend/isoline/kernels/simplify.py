"""Line simplification: the algorithm of Douglas and Peucker (1973)."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def needed_corners(
    corners: NDArray[np.int32], ring_start: NDArray[np.int64], tolerance: float
) -> NDArray[np.bool_]:
    """Return (c,) which corners to keep so that the others lie within `tolerance` of the result.

    A ring keeps its first corner and the one farthest from it, and is left unchanged if fewer than
    four of its corners would remain.
    """
    is_needed = np.zeros(len(corners), np.bool_)
    spans = np.empty((len(corners) + 2, 2), np.int64)
    for ring in range(len(ring_start) - 1):
        start, stop = ring_start[ring], ring_start[ring + 1]
        farthest, _ = _farthest(corners, start, stop, start, start)
        is_needed[start] = is_needed[farthest] = True
        spans[0] = start, farthest
        spans[1] = farthest, stop
        n_spans = n_needed = 2
        while n_spans:
            n_spans -= 1
            begin, end = spans[n_spans]
            last = start if end == stop else end  # the ring closes
            middle, distance2 = _farthest(corners, begin + 1, end, begin, last)
            if distance2 > tolerance * tolerance:
                is_needed[middle] = True
                n_needed += 1
                spans[n_spans] = begin, middle
                spans[n_spans + 1] = middle, end
                n_spans += 2
        if n_needed < 4:
            is_needed[start:stop] = True
    return is_needed


@numba.njit(cache=True, nogil=True)
def _farthest(corners, begin, end, first, last):  # type: ignore[no-untyped-def]
    """Return which of the corners begin .. end - 1 is farthest from a segment between two others.

    Returns the first such corner and its squared distance, which is -1 if there is no corner.
    """
    ax, ay = float(corners[first, 0]), float(corners[first, 1])
    dx, dy = corners[last, 0] - ax, corners[last, 1] - ay
    length2 = dx * dx + dy * dy
    farthest, most = begin, -1.0
    for i in range(begin, end):
        x, y = corners[i, 0] - ax, corners[i, 1] - ay
        along = 0.0 if length2 == 0 else min(1.0, max(0.0, (x * dx + y * dy) / length2))
        distance2 = (x - along * dx) ** 2 + (y - along * dy) ** 2
        if distance2 > most:
            farthest, most = i, distance2
    return farthest, most
