"""Which tile owns an object, and merging regions across seams. Everything is in grid pixels.

Bounded instances need no state: each tile reads more than it writes, and `own` keeps the instances
whose anchor is in its write box. Whatever the tiling, an object has one anchor, hence one owner.

Unbounded regions are cut at the seams by `cut`, in the workers, and merged by one `Union`. A region
is final once no side of its pieces borders on a tile that may still arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoline.geometry.frontier import NODE, RUN, Frontier
from isoline.geometry.grid import Box
from isoline.geometry.polygons import (
    NOTHING,
    Polygons,
    anchors,
    successors,
    trace,
    trace_components,
)
from isoline.geometry.tiling import Lattice

Place = tuple[int, int]
"""(column, row) of a tile in its lattice."""


@dataclass(frozen=True)
class Owned:
    """The m instances that one tile owns, in raster order of their first pixels."""

    polygons: Polygons
    number: NDArray[np.int32]
    """(m,) their values in the label image that they come from."""
    area_px: NDArray[np.int64]
    """(m,)"""
    anchor: NDArray[np.int32]
    """(m, 2) x, y."""


def own(labels: NDArray[np.integer], read: Box, write: Box, image: Box) -> Owned:
    """Return the instances of `labels` (y, x), which cover `read`, whose anchor lies in `write`.

    Pixels outside `image` are background. An instance that touches a side of `read` beyond which
    the image continues may have been cut there, so it is dropped: with a halo wider than the
    longest instance, its anchor lies outside `write` anyway. At the true border of the image, it is
    kept.
    """
    seen = read.intersect(image)
    traced = trace(labels[read.slices_of(seen)], (seen.x0, seen.y0))
    boxes, anchor = traced.polygons.boxes(), anchors(traced.polygons)
    is_cut = (
        ((boxes[:, 0] == read.x0) & (image.x0 < read.x0))
        | ((boxes[:, 1] == read.y0) & (image.y0 < read.y0))
        | ((boxes[:, 2] == read.x1) & (image.x1 > read.x1))
        | ((boxes[:, 3] == read.y1) & (image.y1 > read.y1))
    )
    inside = (anchor >= (write.x0, write.y0)) & (anchor < (write.x1, write.y1))
    owned = np.flatnonzero(inside.all(axis=1) & ~is_cut)
    x, y = traced.polygons.corners[traced.polygons.object_corner[owned]].T
    owned = owned[np.lexsort((x, y))]
    return Owned(
        traced.polygons.select(owned), traced.label[owned], traced.area_px[owned], anchor[owned]
    )


def owned_nuclei(nuclei: NDArray[np.integer], owned: Owned, read: Box, image: Box) -> Polygons:
    """Return the nucleus in each cell of `owned`; where there is none, an object without parts.

    `nuclei` (y, x), which cover `read`, have the numbers of the cells that they lie in.
    """
    seen = read.intersect(image)
    traced = trace(nuclei[read.slices_of(seen)], (seen.x0, seen.y0))
    at = np.full(
        1 + max(owned.number.max(initial=0), traced.label.max(initial=0)), len(traced.label)
    )
    at[traced.label] = np.arange(len(traced.label))
    return Polygons.concatenate([traced.polygons, NOTHING]).select(at[owned.number])


@dataclass(frozen=True)
class Pieces:
    """The n 4-connected pieces of one tile's classes, in raster order of their first pixels.

    This is what a `Union` needs; edges along the sides of the tile show where a piece was cut.
    """

    polygons: Polygons
    """One part each."""
    label: NDArray[np.uint8]
    """(n,) class, never 0."""
    area_px: NDArray[np.int64]
    """(n,)"""

    def __len__(self) -> int:
        return len(self.polygons)


def cut(classes: NDArray[np.uint8], write: Box) -> Pieces:
    """Return the pieces of `classes` (y, x), which cover `write`; 0 is background."""
    traced = trace_components(classes, (write.x0, write.y0))
    return Pieces(traced.polygons, traced.label.astype(np.uint8), traced.area_px)


@dataclass(frozen=True)
class Closed:
    """n regions that can no longer change, as columns."""

    polygons: Polygons
    """One part each."""
    label: NDArray[np.uint8]
    """(n,) class."""
    area_px: NDArray[np.int64]
    """(n,)"""
    anchor: NDArray[np.int32]
    """(n, 2) x, y."""
    incomplete: NDArray[np.bool_]
    """(n,) whether a tile that never arrived may have cut the region."""
    piece_start: NDArray[np.int64]
    """(n + 1,) where the pieces of each region start in `piece`."""
    piece: NDArray[np.int64]
    """(m, 3) column and row of a tile and the index of the piece in its `Pieces`, sorted."""

    def __len__(self) -> int:
        return len(self.polygons)

    @classmethod
    def concatenate(cls, several: Sequence[Closed]) -> Closed:
        """Return the regions of `several`, which must not be empty, one after the other."""
        counts = [np.diff(each.piece_start) for each in several]
        return cls(
            Polygons.concatenate([each.polygons for each in several]),
            np.concatenate([each.label for each in several]),
            np.concatenate([each.area_px for each in several]),
            np.concatenate([each.anchor for each in several]),
            np.concatenate([each.incomplete for each in several]),
            np.cumsum(np.concatenate([np.zeros(1, np.int64), *counts])),
            np.concatenate([each.piece for each in several]),
        )


class _Side(NamedTuple):
    """One side of a tile, as the step to the neighbour that shares it."""

    dx: int
    dy: int

    @property
    def opposite(self) -> _Side:
        return _Side(-self.dx, -self.dy)

    @property
    def rises(self) -> bool:
        """Whether edges along this side run towards larger coordinates, with the piece on the
        right."""
        return self.dx > 0 or self.dy < 0

    def neighbour(self, place: Place) -> Place:
        return place[0] + self.dx, place[1] + self.dy

    def runs(self, polygons: Polygons, following: NDArray[np.int64], box: Box) -> NDArray[np.void]:
        """Return the runs (k,) of `polygons` along this side of `box`, in order.

        `following` (c,) is the successor of each corner; the node of a run is its object.
        """
        axis = 0 if self.dx else 1
        near, far = (box.x0, box.y0), (box.x1, box.y1)
        on_side = polygons.corners[:, axis] == (far if self.dx + self.dy > 0 else near)[axis]
        tail = np.flatnonzero(on_side & on_side[following])
        ends = polygons.corners[np.stack([tail, following[tail]]), 1 - axis]
        runs = np.empty(len(tail), RUN)
        runs["start"], runs["stop"] = ends.min(axis=0), ends.max(axis=0)
        runs["tail"] = tail
        runs["node"] = np.searchsorted(polygons.object_corner, tail, side="right") - 1
        return runs[np.argsort(runs["start"])]


_SIDES = (_Side(0, -1), _Side(1, 0), _Side(0, 1), _Side(-1, 0))
_NO_RUNS = np.empty(0, RUN)


class Union:
    """Merges the pieces of the tiles of one lattice, which may arrive in any order.

    Every tile is passed once: to `add` with its pieces, or to `close` if it will never arrive. Both
    return the regions that become final. Memory holds the boundaries of the regions that are still
    open, and at most as much again; a piece that touches no open seam passes straight through.
    """

    def __init__(self, lattice: Lattice) -> None:
        self._lattice = lattice
        self._came: set[Place] = set()
        self._missing: dict[Place, bool] = {}
        """Places whose tile never arrives, and whether regions are complete without it."""
        self._waiting: dict[Place, dict[_Side, NDArray[np.void]]] = {}
        """Runs bordering on a tile that may still arrive, by its place and its side."""
        self._frontier = Frontier()

    @property
    def held_corners(self) -> int:
        """The number of corners in memory."""
        return self._frontier.corners

    def wanted(self) -> list[Place]:
        """Return the places, sorted, whose tiles open regions are waiting for."""
        return sorted(self._waiting)

    def add(self, place: Place, pieces: Pieces) -> Closed:
        """Add the pieces of the tile at `place`; return the regions that are now final."""
        self._check_new(place)
        self._came.add(place)
        write = self._lattice.tile(*place).write
        following = successors(pieces.polygons.ring_start)
        seams: dict[_Side, NDArray[np.void]] = {}
        nodes = _nodes(place, pieces)
        for side in _SIDES:
            neighbour = side.neighbour(place)
            if not self._lattice.has(*neighbour):
                continue
            runs = side.runs(pieces.polygons, following, write)
            if neighbour not in self._missing:
                seams[side] = runs
                np.add.at(nodes["waits"], runs["node"], 1)
            elif not self._missing[neighbour]:
                nodes["incomplete"][runs["node"]] = True
        passed = np.flatnonzero(nodes["waits"] == 0)
        passing = _closed(pieces.polygons.select(passed), nodes[passed], np.arange(len(passed) + 1))
        self._hold(pieces.polygons, nodes, seams)
        return Closed.concatenate([passing, self._meet(place, seams)])

    def close(self, place: Place, complete: bool = False) -> Closed:
        """Record that the tile at `place` will never arrive; return the regions that are now final.

        Its pixels count as background. Regions that border on it are flagged as incomplete, unless
        it is known to be empty (`complete`).
        """
        self._check_new(place)
        self._missing[place] = complete
        runs = np.concatenate([_NO_RUNS, *self._waiting.pop(place, {}).values()])
        if not complete:
            self._frontier.mark_incomplete(runs["node"])
        return self._settle(runs)

    def finish(self) -> Closed:
        """Close every place that regions still wait for; return the regions that were open."""
        return Closed.concatenate([self._settle(_NO_RUNS), *map(self.close, self.wanted())])

    def _check_new(self, place: Place) -> None:
        if not self._lattice.has(*place):
            raise ValueError(f"no tile at {place} in a lattice of {self._lattice.shape}")
        if place in self._came or place in self._missing:
            raise ValueError(f"the tile at {place} has already been added or closed before")

    def _hold(
        self, polygons: Polygons, nodes: NDArray[np.void], seams: dict[_Side, NDArray[np.void]]
    ) -> None:
        """Store the pieces that wait, and update the runs of `seams` to their new indices."""
        held = np.flatnonzero(nodes["waits"])
        kept = polygons.select(held)
        first_node, first_corner = self._frontier.push(kept, nodes[held])
        node_at, moved = np.empty((2, len(nodes)), np.int64)
        node_at[held] = first_node + np.arange(len(held))
        moved[held] = first_corner + kept.object_corner[:-1] - polygons.object_corner[held]
        for runs in seams.values():
            runs["tail"] += moved[runs["node"]]
            runs["node"] = node_at[runs["node"]]

    def _meet(self, place: Place, seams: dict[_Side, NDArray[np.void]]) -> Closed:
        """Join the tile at `place` to neighbours that arrived before it; wait for the others."""
        waiting = self._waiting.pop(place, {})
        settled = [_NO_RUNS]
        for side, mine in seams.items():
            neighbour = side.neighbour(place)
            if neighbour in self._came:
                theirs = waiting.get(side, _NO_RUNS)
                up, down = (mine, theirs) if side.rises else (theirs, mine)
                self._frontier.join(up, down)
                settled += [mine, theirs]
            elif len(mine):
                self._waiting.setdefault(neighbour, {})[side.opposite] = mine
        return self._settle(np.concatenate(settled))

    def _settle(self, runs: NDArray[np.void]) -> Closed:
        """Stop waiting along `runs`; return the regions that now wait for nothing."""
        closed = _closed(*self._frontier.settle(runs))
        self._frontier.compact(runs for sides in self._waiting.values() for runs in sides.values())
        return closed


def _nodes(place: Place, pieces: Pieces) -> NDArray[np.void]:
    """Return the pieces of one tile as nodes that wait for nothing yet."""
    nodes = np.zeros(len(pieces), NODE)
    nodes["column"], nodes["row"] = place
    nodes["number"] = np.arange(len(pieces))
    nodes["label"] = pieces.label
    nodes["area_px"] = pieces.area_px
    return nodes


def _closed(polygons: Polygons, nodes: NDArray[np.void], start: NDArray[np.int64]) -> Closed:
    """Return regions with the properties of their nodes; those of region k begin at start[k]."""
    if len(polygons) == 0:
        nodes = np.zeros(0, NODE)
    region = np.repeat(np.arange(len(polygons)), np.diff(start))
    nodes = nodes[np.lexsort((nodes["number"], nodes["row"], nodes["column"], region))]
    first = start[:-1]
    return Closed(
        polygons,
        nodes["label"][first].astype(np.uint8),
        np.add.reduceat(nodes["area_px"], first) if len(first) else np.empty(0, np.int64),
        anchors(polygons),
        np.logical_or.reduceat(nodes["incomplete"], first) if len(first) else np.empty(0, np.bool_),
        start,
        np.stack([nodes["column"], nodes["row"], nodes["number"]], axis=1),
    )
