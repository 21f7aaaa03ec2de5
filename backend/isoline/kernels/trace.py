"""Tracing the rings of all components along pixel edges, in one pass over the image."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def trace_rings(
    component: NDArray[np.uint32], count: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the corners (c, 2) x, y and the starts (r + 1,) of the rings in `component` (y, x).

    Each of the numbers 1 .. `count` is one 4-connected component; 0 is background.
    A ring has its component on the right, contains only the corners where it turns, and starts at
    its first corner in raster order. Shells are in raster order, and so are the holes of each
    shell, all of which come after it.

    Where two pixels of a component touch only at a corner, rings turn left, towards the other
    pixel. Since that pixel is also connected in another way, no ring ever touches itself, and each
    hole is a 4-connected component of the background.
    """
    height, width = component.shape
    corners = np.empty((max(64, 16 * count), 2), np.int32)
    ring_start = np.empty(2 * count + 2, np.int64)
    has_shell = np.zeros(count + 1, np.bool_)
    edge_done = np.zeros((height, width), np.bool_)  # the lower edge of each pixel
    n_corners = n_rings = 0
    for y in range(height):
        for x in range(width):
            here = component[y, x]
            if here == 0:
                continue
            for is_hole in range(2):
                if is_hole:
                    # the shell has been traced, so a remaining lower edge belongs to a hole
                    if _is(here, component, x, y + 1) or edge_done[y, x]:
                        continue
                elif has_shell[here]:
                    continue
                has_shell[here] = True
                if n_rings + 2 > len(ring_start):
                    ring_start = _doubled(ring_start)
                ring_start[n_rings] = n_corners
                n_rings += 1
                end = _walk(component, x, y, is_hole, corners, n_corners, edge_done)
                while end < 0:
                    corners = _doubled(corners)
                    end = _walk(component, x, y, is_hole, corners, n_corners, edge_done)
                n_corners = end
    ring_start[n_rings] = n_corners
    return corners[:n_corners].copy(), ring_start[: n_rings + 1].copy()


@numba.njit(cache=True, nogil=True)
def _walk(component, first_x, first_y, is_hole, corners, n, edge_done):  # type: ignore[no-untyped-def]
    """Write the ring of a pixel starting at corner `n`, and mark its lower edges.

    It starts eastwards above the pixel if that is the first one of its component, and southwards
    below it if a hole starts there. Returns the end of the ring, or -1 if there is not enough
    space.
    """
    here = component[first_y, first_x]
    x0, y0 = first_x, first_y + is_hole
    dx0, dy0 = 1 - is_hole, is_hole
    x, y, dx, dy = x0, y0, dx0, dy0
    turns = True
    while True:
        if turns:
            if n == len(corners):
                return -1
            corners[n, 0], corners[n, 1] = x, y
            n += 1
        x += dx
        y += dy
        if dx < 0:
            edge_done[y - 1, x] = True
        # the pixels ahead, to the left and to the right
        turns = True
        if _is(here, component, x + ((dx + dy - 1) >> 1), y + ((dy - dx - 1) >> 1)):
            dx, dy = dy, -dx
        elif not _is(here, component, x + ((dx - dy - 1) >> 1), y + ((dx + dy - 1) >> 1)):
            dx, dy = -dy, dx
        else:
            turns = False
        if x == x0 and y == y0 and dx == dx0 and dy == dy0:
            return n


@numba.njit(cache=True, nogil=True)
def _is(here, component, x, y):  # type: ignore[no-untyped-def]
    """Return whether the pixel at (x, y) belongs to `here`; False outside the image."""
    height, width = component.shape
    return 0 <= y < height and 0 <= x < width and component[y, x] == here


@numba.njit(cache=True, nogil=True)
def _doubled(array):  # type: ignore[no-untyped-def]
    """Return a copy of `array` with twice the capacity along its first axis."""
    longer = np.empty((2 * len(array), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer
