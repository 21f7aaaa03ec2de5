"""Merging pieces across the seams between tiles, as linked corners.

Every corner has a successor on its ring; a ring is a cycle of successors. Where two pieces of one
region lie on opposite sides of a seam, their edges run in opposite directions and cancel:

        -> tail ------ up edge -----> head ->          -> tail    head ->
                                               becomes      |      |
        <- head <---- down edge ----- tail <-          <- head    tail <-

Swapping the successors of the two tails does exactly that, even if the edges overlap only partly:
what remains are edges back and forth along the seam, some of them of length zero. So a seam costs
one swap per overlap, whatever the pieces look like, and once all seams of a region are done, the
links between its corners form its rings.

`nodes` are the pieces and `runs` their pixels along one side of their tile; both are records as
declared in `frontier`. `parent` links the pieces of a region into a tree (union-find with path
halving), `member` links them into a cycle, and the root's `waits` counts the runs along which the
region still waits for the tile on the other side.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def _root(parent, node):  # type: ignore[no-untyped-def]
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@numba.njit(cache=True, nogil=True)
def join(
    up: NDArray[np.void],
    down: NDArray[np.void],
    nodes: NDArray[np.void],
    successor: NDArray[np.int64],
) -> None:
    """Merge the nodes with equal labels that overlap along one seam.

    `up` and `down` are the runs on its two sides, each sorted and disjoint: edges of the former run
    towards larger coordinates, edges of the latter towards smaller ones.
    """
    parent, member, waits, label = nodes["parent"], nodes["member"], nodes["waits"], nodes["label"]
    i = j = 0
    carried = -1  # the tail of the remaining part of the edge of run i
    while i < len(up) and j < len(down):
        above, below = up[i], down[j]
        if carried < 0:
            carried = above["tail"]
        a, b = above["node"], below["node"]
        is_overlap = max(above["start"], below["start"]) < min(above["stop"], below["stop"])
        if is_overlap and label[a] == label[b]:
            tail = below["tail"]
            successor[carried], successor[tail] = successor[tail], successor[carried]
            carried = tail
            a, b = _root(parent, a), _root(parent, b)
            if a != b:
                parent[b] = a
                waits[a] += waits[b]
                member[a], member[b] = member[b], member[a]
        if above["stop"] <= below["stop"]:
            i += 1
            carried = -1
        else:
            j += 1


@numba.njit(cache=True, nogil=True)
def settle(
    runs: NDArray[np.void], nodes: NDArray[np.void]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stop waiting along `runs`; return the nodes of the regions that then wait for nothing.

    Returns the nodes and where those of each region start; a parent of -1 marks them as taken.
    """
    parent, member, waits = nodes["parent"], nodes["member"], nodes["waits"]
    for k in range(len(runs)):
        waits[_root(parent, runs[k]["node"])] -= 1
    taken = np.empty(len(nodes), np.int64)
    begin = np.zeros(len(runs) + 1, np.int64)
    n_taken = n_regions = 0
    for k in range(len(runs)):
        node = runs[k]["node"]
        if parent[node] < 0 or waits[_root(parent, node)] > 0:
            continue
        while parent[node] >= 0:
            parent[node] = -1
            taken[n_taken] = node
            n_taken += 1
            node = member[node]
        n_regions += 1
        begin[n_regions] = n_taken
    return taken[:n_taken].copy(), begin[: n_regions + 1].copy()


@numba.njit(cache=True, nogil=True)
def right_turns(
    corners: NDArray[np.int32], successor: NDArray[np.int64], chosen: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return (c,) whether the ring turns right, into its region, after each corner in `chosen`.

    A corner that a seam has linked to another one at the same place does not count as a turn.
    """
    is_right = np.zeros(len(chosen), np.bool_)
    for k in range(len(chosen)):
        turn = successor[chosen[k]]
        x0, y0 = corners[chosen[k]]
        x1, y1 = corners[turn]
        x2, y2 = corners[successor[turn]]
        is_right[k] = np.int64(x1 - x0) * (y2 - y1) > np.int64(y1 - y0) * (x2 - x1)
    return is_right


@numba.njit(cache=True, nogil=True)
def chain(
    corners: NDArray[np.int32],
    successor: NDArray[np.int64],
    chosen: NDArray[np.int64],
    owner: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Return the rings formed by the links between the corners `chosen` (c,) of regions `owner`
    (c,).

    Returns corners (m, 2), ring starts (r + 1,) and the owner of each ring (r,). A ring starts at
    its first corner in raster order and contains only the corners where it turns; rings of length
    zero are left out. The successors of `chosen` are consumed: they are -1 afterwards.
    """
    ring_corners = np.empty((len(chosen), 2), np.int32)
    ring_start = np.zeros(len(chosen) // 4 + 1, np.int64)
    ring_owner = np.empty(len(chosen) // 4, np.int64)
    cycle = np.empty(len(chosen) + 1, np.int64)
    n = n_rings = 0
    for k in range(len(chosen)):
        length = first = 0
        corner = chosen[k]
        while successor[corner] >= 0:
            cycle[length] = corner
            x, y = corners[corner]
            first_x, first_y = corners[cycle[first]]
            if y < first_y or (y == first_y and x < first_x):
                first = length
            length += 1
            following = successor[corner]
            successor[corner] = -1
            corner = following
        heading = -1
        for step in range(length):
            here = first + step if first + step < length else first + step - length
            after = here + 1 if here + 1 < length else 0
            x, y = corners[cycle[here]]
            next_x, next_y = corners[cycle[after]]
            if x == next_x and y == next_y:
                continue
            towards = 2 * (x == next_x) + (next_x > x or next_y > y)
            if towards != heading:
                ring_corners[n, 0], ring_corners[n, 1] = x, y
                n += 1
                heading = towards
        if n > ring_start[n_rings]:
            ring_owner[n_rings] = owner[k]
            n_rings += 1
            ring_start[n_rings] = n
    return ring_corners[:n].copy(), ring_start[: n_rings + 1].copy(), ring_owner[:n_rings].copy()
