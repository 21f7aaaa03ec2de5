"""Walking along pixel edges: the rings of every component, in one pass over the image."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

EAST, SOUTH, WEST, NORTH = 0, 1, 2, 3
STEP = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
"""What one step in each direction adds to a corner's x, y; a right turn is the next direction."""
LEFT_AHEAD = np.array([(0, -1), (0, 0), (-1, 0), (-1, -1)])
"""From a corner to the pixel ahead and left of it; the one ahead and right is the next row."""


@numba.njit(cache=True, nogil=True)
def trace_rings(
    component: NDArray[np.uint32], count: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the corners (c, 2) x, y and the starts (r + 1,) of the rings in `component` (y, x).

    Each of the numbers 1 .. `count` is one 4-connected component; the outermost pixels are 0.
    A ring keeps its component on the right, holds only corners where it turns, and starts at its
    first corner in raster order. Shells come in raster order, and so do the holes of each shell,
    all of them after it.

    Where two pixels of a component touch at a corner only, rings turn left, towards the other
    pixel. Since that one is also reached another way, no ring ever meets itself, and each hole is
    a 4-connected piece of what is not the component.
    """
    height, width = component.shape
    corners = np.empty((max(64, 16 * count), 2), np.int32)
    ring_start = np.empty(2 * count + 2, np.int64)
    has_shell = np.zeros(count + 1, np.bool_)
    edge_done = np.zeros((height, width), np.bool_)  # the lower edge of each pixel
    n_corners = n_rings = 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            here = component[y, x]
            if here == 0:
                continue
            if not has_shell[here]:
                has_shell[here] = True
                ring_start = _with_room(ring_start, n_rings + 1)
                ring_start[n_rings] = n_corners
                n_rings += 1
                corners, n_corners = _walk(component, x, y, EAST, corners, n_corners, edge_done)
            # the shell has been walked, so an edge that is left belongs to a hole
            if component[y + 1, x] != here and not edge_done[y, x]:
                ring_start = _with_room(ring_start, n_rings + 1)
                ring_start[n_rings] = n_corners
                n_rings += 1
                corners, n_corners = _walk(
                    component, x, y + 1, SOUTH, corners, n_corners, edge_done
                )
    ring_start[n_rings] = n_corners
    return corners[:n_corners].copy(), ring_start[: n_rings + 1].copy()


@numba.njit(cache=True, nogil=True)
def _walk(component, x, y, direction, corners, n, edge_done):  # type: ignore[no-untyped-def]
    """Append the ring that leaves its corner (x, y) in `direction`, and mark its lower edges."""
    x0, y0, direction0 = x, y, direction
    right = (direction + 1) & 3
    here = component[y + LEFT_AHEAD[right, 1], x + LEFT_AHEAD[right, 0]]
    turns = True
    while True:
        if turns:
            corners = _with_room(corners, n)
            corners[n, 0], corners[n, 1] = x, y
            n += 1
        x += STEP[direction, 0]
        y += STEP[direction, 1]
        if direction == WEST:
            edge_done[y - 1, x] = True
        right = (direction + 1) & 3
        turns = True
        if component[y + LEFT_AHEAD[direction, 1], x + LEFT_AHEAD[direction, 0]] == here:
            direction = (direction + 3) & 3
        elif component[y + LEFT_AHEAD[right, 1], x + LEFT_AHEAD[right, 0]] != here:
            direction = right
        else:
            turns = False
        if x == x0 and y == y0 and direction == direction0:
            return corners, n


@numba.njit(cache=True, nogil=True)
def _with_room(array, index):  # type: ignore[no-untyped-def]
    """Return `array`, or a copy twice as long if it ends before `index`."""
    if index < len(array):
        return array
    longer = np.empty((2 * len(array), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer
