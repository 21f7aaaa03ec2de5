"""The pieces of regions that are still open, and the links between them.

Everything is in a few growing arrays, so that the compiled loops of `kernels.unite` can work
without holding the interpreter lock, and so that memory is proportional to what is open.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from isoline.geometry.polygons import Polygons, one_part_each, ranges, successors

RUN = np.dtype([(name, np.int64) for name in ("start", "stop", "tail", "node")])
"""Pixels [start, stop) of a piece along one side of its tile, the corner where its edge along that
side starts, and the piece."""

NODE = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("parent", "member", "waits"),
            *("corner_start", "corner_stop"),
            *("column", "row", "number"),
            *("label", "area_px", "incomplete"),
        )
    ]
)
"""A piece: its links (see `kernels.unite`), corners, origin and properties."""

Scalar = TypeVar("Scalar", bound=np.generic)


class _Column(Generic[Scalar]):
    """An array that grows at its end in amortised constant time."""

    def __init__(self, empty: NDArray[Scalar]) -> None:
        self._room = empty
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def values(self) -> NDArray[Scalar]:
        return self._room[: self._size]

    def extend(self, more: NDArray[Scalar]) -> None:
        size = self._size + len(more)
        if size > len(self._room):
            room = np.empty((2 * size, *self._room.shape[1:]), self._room.dtype)
            room[: self._size] = self.values
            self._room = room
        self._room[self._size : size] = more
        self._size = size

    def keep(self, which: NDArray[np.int64]) -> None:
        self._room = self._room[which]
        self._size = len(which)


class Frontier:
    """Nodes (pieces), all of their corners, and each corner's successor on its ring."""

    def __init__(self) -> None:
        self._corners = _Column(np.empty((0, 2), np.int32))
        self._successor = _Column(np.empty(0, np.int64))
        self._nodes: _Column[np.void] = _Column(np.empty(0, NODE))
        self._dead_corners = 0

    @property
    def corners(self) -> int:
        """The number of corners in memory."""
        return len(self._corners)

    def push(self, polygons: Polygons, pieces: NDArray[np.void]) -> tuple[int, int]:
        """Add one node per object of `polygons`; return the indices of the first node and corner.

        `pieces` (n,) of `NODE` gives their origin and properties.
        """
        first_node, first_corner = len(self._nodes), len(self._corners)
        nodes = pieces.copy()
        nodes["parent"] = nodes["member"] = first_node + np.arange(len(pieces))
        nodes["corner_start"] = first_corner + polygons.object_corner[:-1]
        nodes["corner_stop"] = first_corner + polygons.object_corner[1:]
        self._nodes.extend(nodes)
        self._corners.extend(polygons.corners)
        self._successor.extend(first_corner + successors(polygons.ring_start))
        return first_node, first_corner

    def join(self, up: NDArray[np.void], down: NDArray[np.void]) -> None:
        """Merge the pieces along one seam; see `kernels.unite.join`."""
        from isoline.kernels.unite import join

        join(up, down, self._nodes.values, self._successor.values)

    def mark_incomplete(self, nodes: NDArray[np.int64]) -> None:
        self._nodes.values["incomplete"][nodes] = True

    def settle(
        self, runs: NDArray[np.void]
    ) -> tuple[Polygons, NDArray[np.void], NDArray[np.int64]]:
        """Stop waiting along `runs`; remove the regions that then wait for nothing.

        Returns these regions, one part each, their pieces, and where the pieces of each start.
        """
        from isoline.kernels.unite import chain, settle

        nodes = self._nodes.values
        taken, begin = settle(runs, nodes)
        pieces = nodes[taken]
        chosen, corner_begin = ranges(pieces["corner_start"], pieces["corner_stop"])
        owner = np.repeat(np.arange(len(begin) - 1), np.diff(corner_begin[begin]))
        self._dead_corners += len(chosen)

        is_united = np.diff(begin)[owner] > 1
        self._mend_touching(chosen[is_united], owner[is_united])
        rings = chain(self._corners.values, self._successor.values, chosen, owner)
        return one_part_each(*rings, len(begin) - 1), pieces, begin

    def _mend_touching(self, chosen: NDArray[np.int64], owner: NDArray[np.int64]) -> None:
        """Make rings turn left where two pixels of one region touch only at a corner.

        While the pixels belonged to different pieces, each piece turned right there.
        """
        from isoline.kernels.unite import right_turns

        successor = self._successor.values
        is_right = right_turns(self._corners.values, successor, chosen)
        turn, owner = successor[chosen[is_right]], owner[is_right]
        x, y = self._corners.values[turn].astype(np.int64).T
        place = y << 32 | x
        # stable: the corners of a region are consecutive, so those at one place stay neighbours
        order = np.argsort(place, kind="stable")
        turn, owner, place = turn[order], owner[order], place[order]
        twice = np.flatnonzero((place[1:] == place[:-1]) & (owner[1:] == owner[:-1]))
        one, other = turn[twice], turn[twice + 1]
        successor[one], successor[other] = successor[other], successor[one]

    def compact(self, waiting: Iterable[NDArray[np.void]]) -> None:
        """Release closed nodes once they are the majority; update the `waiting` runs
        accordingly."""
        if 2 * self._dead_corners <= len(self._corners):
            return
        nodes = self._nodes.values
        live = np.flatnonzero(nodes["parent"] >= 0)
        node_at = np.empty(len(nodes), np.int64)
        node_at[live] = np.arange(len(live))
        chosen, begin = ranges(nodes["corner_start"][live], nodes["corner_stop"][live])
        corner_at = np.empty(len(self._corners), np.int64)
        corner_at[chosen] = np.arange(len(chosen))

        self._nodes.keep(live)
        self._corners.keep(chosen)
        self._successor.keep(chosen)
        nodes, successor = self._nodes.values, self._successor.values
        nodes["parent"] = node_at[nodes["parent"]]
        nodes["member"] = node_at[nodes["member"]]
        nodes["corner_start"], nodes["corner_stop"] = begin[:-1], begin[1:]
        successor[:] = corner_at[successor]
        for runs in waiting:
            runs["tail"] = corner_at[runs["tail"]]
            runs["node"] = node_at[runs["node"]]
        self._dead_corners = 0
