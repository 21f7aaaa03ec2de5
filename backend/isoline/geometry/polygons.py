"""Converting label images to polygons that run along pixel edges.

Nothing is approximated: the area of an object is the number of its pixels, and neighbours share
the edges between them exactly. Every ring is simple and every part is valid as defined in OGC
Simple Features (section 6.1.11), so JTS, GEOS and shapely accept them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Polygons:
    """n objects of one or more polygons each, as four flat arrays; corners are grid-pixel corners.

        object k  = parts   object_start[k] .. object_start[k + 1]
        part p    = rings   part_start[p]   .. part_start[p + 1]     the shell, then its holes
        ring r    = corners ring_start[r]   .. ring_start[r + 1]     the first is not repeated

    A ring contains only the corners where it turns. Shells run clockwise as seen on screen (x
    right, y down), holes counterclockwise. The form is canonical: a ring starts at its first corner
    in raster order (smallest y, then smallest x), and the holes of a part and the parts of an
    object are sorted by that corner.
    """

    corners: NDArray[np.int32]
    """(c, 2) x, y."""
    ring_start: NDArray[np.int64]
    part_start: NDArray[np.int64]
    object_start: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.object_start) - 1

    @classmethod
    def concatenate(cls, several: Sequence[Polygons]) -> Polygons:
        """Return the objects of `several`, one after the other."""
        return cls(
            np.concatenate([np.empty((0, 2), np.int32), *(each.corners for each in several)]),
            _joined([each.ring_start for each in several]),
            _joined([each.part_start for each in several]),
            _joined([each.object_start for each in several]),
        )

    def select(self, which: NDArray[np.bool_] | NDArray[np.integer]) -> Polygons:
        """Return the objects selected by a mask (n,), or by an index (m,) in its order."""
        objects = np.flatnonzero(which) if which.dtype == np.bool_ else which
        parts, object_start = ranges(self.object_start[objects], self.object_start[objects + 1])
        rings, part_start = ranges(self.part_start[parts], self.part_start[parts + 1])
        corners, ring_start = ranges(self.ring_start[rings], self.ring_start[rings + 1])
        return Polygons(self.corners[corners], ring_start, part_start, object_start)

    def shift(self, dx: int, dy: int) -> Polygons:
        """Return the objects, translated."""
        corners = self.corners + np.array([dx, dy], np.int32)
        return Polygons(corners, self.ring_start, self.part_start, self.object_start)

    @property
    def object_ring(self) -> NDArray[np.int64]:
        """(n + 1,) where the rings of each object start."""
        return self.part_start[self.object_start]

    @property
    def object_corner(self) -> NDArray[np.int64]:
        """(n + 1,) where the corners of each object start."""
        return self.ring_start[self.object_ring]

    def ring_areas2(self) -> NDArray[np.int64]:
        """Return (r,) twice the signed area of each ring: shells positive, holes negative."""
        x, y = self.corners[:, 0].astype(np.int64), self.corners[:, 1].astype(np.int64)
        following = successors(self.ring_start)
        return _sums(x * y[following] - x[following] * y, self.ring_start)

    def areas2(self) -> NDArray[np.int64]:
        """Return (n,) twice the area of each object in pixels, without holes."""
        return _sums(self.ring_areas2(), self.object_ring)

    def boxes(self) -> NDArray[np.int32]:
        """Return (n, 4) x0, y0, x1, y1 of each object; every object must have parts."""
        if len(self) == 0:
            return np.empty((0, 4), np.int32)
        start = self.object_corner[:-1]
        low = np.minimum.reduceat(self.corners, start, axis=0)
        high = np.maximum.reduceat(self.corners, start, axis=0)
        return np.concatenate([low, high], axis=1)

    def records(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the canonical form of each object as rows, and (n + 1,) where each one starts.

        Every ring is a row (number of corners, 1 for a shell or 0 for a hole) followed by its
        corners. Two objects have the same rows if and only if they consist of the same pixels.
        """
        is_shell = np.zeros(len(self.ring_start) - 1, np.int32)
        is_shell[self.part_start[:-1]] = 1
        heads = np.stack([np.diff(self.ring_start).astype(np.int32), is_shell], axis=1)
        rows = np.insert(self.corners, self.ring_start[:-1], heads, axis=0)
        return rows, self.object_corner + self.object_ring


NOTHING = Polygons(
    np.empty((0, 2), np.int32), np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(2, np.int64)
)
"""One object without parts."""


@dataclass(frozen=True)
class Traced:
    """The n objects of a label image, as columns."""

    polygons: Polygons
    label: NDArray[np.int32]
    """(n,)"""
    area_px: NDArray[np.int64]
    """(n,) pixels."""


def trace(labels: NDArray[np.integer], origin: tuple[int, int] = (0, 0)) -> Traced:
    """Trace `labels` (y, x), whose first pixel lies at `origin` (x, y): one object per label > 0.

    Objects are in ascending order of label. Pixels of a label that touch only at a corner, or not
    at all, become separate parts of one object.
    """
    pieces = trace_components(labels, origin)
    label = pieces.label
    if np.all(label[1:] > label[:-1]):
        return pieces
    order = np.argsort(label, kind="stable")
    polygons, area_px, label = pieces.polygons.select(order), pieces.area_px[order], label[order]
    first = np.flatnonzero(np.diff(label, prepend=0))
    object_start = np.append(first, len(label))
    return Traced(
        Polygons(polygons.corners, polygons.ring_start, polygons.part_start, object_start),
        label[first],
        np.add.reduceat(area_px, first),
    )


def trace_components(labels: NDArray[np.integer], origin: tuple[int, int] = (0, 0)) -> Traced:
    """Trace every 4-connected component of equal `labels` > 0 as an object of its own.

    Objects are in raster order of their first pixels, and have one part each.
    """
    import cc3d

    from isoline.kernels.trace import trace_rings

    component, count = cc3d.connected_components(
        np.ascontiguousarray(labels), connectivity=4, out_dtype=np.uint32, return_N=True
    )
    corners, ring_start = trace_rings(component.astype(np.uint32, copy=False), count)

    x, y = corners[ring_start[:-1]].T
    is_shell = corners[ring_start[:-1] + 1, 0] > x
    # a shell runs from its first corner along the top of its first pixel; a hole lies below its own
    ring_component = component[np.where(is_shell, y, y - 1), x]
    shells = np.flatnonzero(is_shell)
    rank = np.empty(count + 1, np.int64)
    rank[ring_component[shells]] = np.arange(count)
    label = labels[y[shells], x[shells]].astype(np.int32)

    corners += np.array(origin, np.int32)
    polygons = one_part_each(corners, ring_start, rank[ring_component], count)
    if label.min(initial=0) < 0:
        polygons, label = polygons.select(label > 0), label[label > 0]
    return Traced(polygons, label, polygons.areas2() // 2)


def anchors(polygons: Polygons) -> NDArray[np.int32]:
    """Return (n, 2) x, y of each object's anchor pixel.

    This is the object's own pixel nearest to the centre of its bounding box, or the first of them
    in raster order. Only for rings on pixel edges, not for simplified ones.
    """
    from isoline.kernels.anchors import anchor_pixels

    return np.asarray(
        anchor_pixels(polygons.corners, polygons.ring_start, polygons.object_ring, polygons.boxes())
    )


def simplify(polygons: Polygons, tolerance_px: float) -> Polygons:
    """Return the objects without corners that lie within `tolerance_px` of the remaining outline.

    Applies the Douglas-Peucker algorithm to each object separately, so neighbours may overlap or
    separate afterwards. An object that would become invalid is left unchanged.
    """
    from isoline.kernels.simplify import needed_corners

    is_needed = needed_corners(polygons.corners, polygons.ring_start, float(tolerance_px))
    length = _sums(is_needed.astype(np.int64), polygons.ring_start)
    ring_start = np.concatenate([np.zeros(1, np.int64), np.cumsum(length)])
    corners = polygons.corners[is_needed]
    loose = Polygons(corners, ring_start, polygons.part_start, polygons.object_start)

    is_turned = np.sign(loose.ring_areas2()) != np.sign(polygons.ring_areas2())
    is_sound = is_valid(loose) & (_sums(is_turned.astype(np.int64), polygons.object_ring) == 0)
    which = np.arange(len(polygons))
    return Polygons.concatenate([loose, polygons]).select(
        np.where(is_sound, which, which + len(polygons))
    )


def is_valid(polygons: Polygons) -> NDArray[np.bool_]:
    """Return (n,) whether each object is valid as defined in OGC Simple Features."""
    import shapely

    stops, starts = polygons.ring_start[1:], polygons.ring_start[:-1]
    closed = np.insert(polygons.corners, stops, polygons.corners[starts], axis=0)
    offsets = (
        polygons.ring_start + np.arange(len(polygons.ring_start)),
        polygons.part_start,
        polygons.object_start,
    )
    kind = shapely.GeometryType.MULTIPOLYGON
    return np.asarray(
        shapely.is_valid(shapely.from_ragged_array(kind, closed.astype(np.float64), offsets)),
        np.bool_,
    )


def one_part_each(
    corners: NDArray[np.int32],
    ring_start: NDArray[np.int64],
    owner: NDArray[np.int64],
    count: int,
) -> Polygons:
    """Assemble canonical rings, in any order, into objects 0 .. count - 1, given by `owner` (r,).

    Every object has one part. Its shell is the ring that starts first in raster order.
    """
    first = corners[ring_start[:-1]]
    order = np.lexsort((first[:, 0], first[:, 1], owner))
    if np.any(order[1:] < order[:-1]):
        taken, ring_start = ranges(ring_start[order], ring_start[order + 1])
        corners = corners[taken]
    part_start = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=count))])
    return Polygons(corners, ring_start, part_start, np.arange(count + 1))


def ranges(
    start: NDArray[np.int64], stop: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the concatenated numbers of all ranges [start, stop), and where each range starts."""
    length = stop - start
    begin = np.concatenate([np.zeros(1, np.int64), np.cumsum(length)])
    return np.repeat(start - begin[:-1], length) + np.arange(begin[-1]), begin


def successors(ring_start: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (c,) the index of the corner that follows each corner in its ring."""
    following = np.arange(1, ring_start[-1] + 1)
    following[ring_start[1:] - 1] = ring_start[:-1]
    return following


def _sums(values: NDArray[np.int64], start: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sum of each run of `values` delimited by `start`; runs may be empty."""
    total: NDArray[np.int64] = np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])
    sums: NDArray[np.int64] = total[start[1:]] - total[start[:-1]]
    return sums


def _joined(starts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the starts of the runs after concatenation."""
    lengths = [np.zeros(1, np.int64), *(np.diff(start) for start in starts)]
    return np.cumsum(np.concatenate(lengths))
