"""The region of interest that a user drew, in image coordinates.

A pixel belongs to the region if its centre does. A point is inside a polygon if the shell winds
around it and no hole does (the non-zero rule), so a self-intersecting freehand lasso needs no
repair. A single formula, `_crossings` in float64, decides this for both points and masks, so the
two always agree. Edges are half-open like boxes: a rectangle is [x0, x1) x [y0, y1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from isoline.errors import BadRegion
from isoline.geometry.grid import Box, Grid, Overlap, Rect

MAX_VERTICES = 100_000
MAX_COORDINATE = 1e9
"""Far larger than any image; sums and products of coordinates below it are precise enough."""

Ring: TypeAlias = NDArray[np.float64]
"""(n, 2) x, y in image coordinates; the first corner is not repeated."""

_FORMS = "use [x0, y0, x1, y1] or a GeoJSON Polygon or MultiPolygon in image pixels"
_WITHOUT_AREA = ("null", "Point", "MultiPoint", "LineString", "MultiLineString")
_NEGLIGIBLE = 1e-9
"""A width or an area that is a smaller share of the outline's size, or of its square, is none."""
_PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class Region:
    """The union of polygons, each a shell followed by its holes."""

    polygons: tuple[tuple[Ring, ...], ...]
    notes: tuple[str, ...] = ()
    """What a user should know of how it was read, a sentence each."""

    def __post_init__(self) -> None:
        rings = [ring for polygon in self.polygons for ring in polygon]
        if sum(map(len, rings)) > MAX_VERTICES:
            raise BadRegion(
                f"the region has more than {MAX_VERTICES} vertices", "simplify the outline"
            )
        for ring in rings:
            if not np.all(np.abs(ring) <= MAX_COORDINATE):  # also rejects NaN
                raise BadRegion(
                    "the region has a coordinate that is infinite, undefined or far too large",
                    _FORMS,
                )
        if not any(_encloses_anything(polygon[0]) for polygon in self.polygons):
            raise BadRegion("the region is empty: it encloses no area", _FORMS)

    @classmethod
    def rectangle(cls, x0: float, y0: float, x1: float, y1: float) -> Region:
        """Return [x0, x1) x [y0, y1). Raises BadRegion if that is empty."""
        if not (x0 < x1 and y0 < y1):
            raise BadRegion(
                f"the region [{x0:g}, {y0:g}, {x1:g}, {y1:g}] is empty",
                "use x0 < x1 and y0 < y1, in image pixels",
            )
        return cls(((_corners(Rect(x0, y0, x1, y1)),),))

    @classmethod
    def from_geojson(cls, value: object, where: str = "region") -> Region:
        """Return the union of all polygons in a geometry, a Feature or a collection of these.

        Raises BadRegion, stating the place in `value`, if there is none or one is malformed.
        """
        polygons, notes = _read(value, where)
        return cls(tuple(polygons), notes)

    def to_geojson(self) -> dict[str, object]:
        """Return the region as a GeoJSON MultiPolygon."""
        closed = [
            [[*ring.tolist(), ring[0].tolist()] for ring in polygon] for polygon in self.polygons
        ]
        return {"type": "MultiPolygon", "coordinates": closed}

    @cached_property
    def bounds(self) -> Rect:
        """The smallest rectangle that contains the region."""
        x0, y0 = self._shell_boxes[:, :2].min(axis=0).tolist()
        x1, y1 = self._shell_boxes[:, 2:].max(axis=0).tolist()
        return Rect(x0, y0, x1, y1)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the outline for the user, a sentence each."""
        from shapely import LinearRing, is_simple

        outlines = [LinearRing(ring) for polygon in self.polygons for ring in polygon]
        if is_simple(outlines).all():
            return self.notes
        crossed = "the outline crosses or touches itself; it is filled by the non-zero rule"
        return (*self.notes, crossed)

    def overlap(self, rect: Rect) -> Overlap:
        """Return how much of `rect` lies inside: SOME if an edge is close."""
        if self.is_rectangle:
            return _overlap(self.bounds, rect)
        centre = np.array([[(rect.x0 + rect.x1) / 2, (rect.y0 + rect.y1) / 2]])
        least = Overlap.NONE
        for k in self._near(rect):
            # if no edge passes through it, the rectangle is entirely inside or outside
            if any(_passes(ring, rect) for ring in self.polygons[k]):
                least = Overlap.SOME
            elif _inside(self._edges[k], centre)[0]:
                return Overlap.ALL
        return least

    def contains(self, points: NDArray[np.generic]) -> NDArray[np.bool_]:
        """Return (n,) whether each of the (n, 2) points x, y in image coordinates lies inside."""
        xy = np.asarray(points, np.float64).reshape(-1, 2)
        inside = np.zeros(len(xy), np.bool_)
        for k, edges in enumerate(self._edges):
            x0, y0, x1, y1 = self._shell_boxes[k]
            x, y = xy.T
            near = np.flatnonzero((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1) & ~inside)
            inside[near] = _inside(edges, xy[near])
        return inside

    def mask(self, grid: Grid, box: Box) -> NDArray[np.bool_]:
        """Return (y, x) which grid pixels of `box` have their centre inside."""
        inside = np.zeros((box.height, box.width), np.bool_)
        x = (np.arange(box.x0, box.x1, dtype=np.float64) + 0.5) * grid.scale.x
        y = (np.arange(box.y0, box.y1, dtype=np.float64) + 0.5) * grid.scale.y
        for k in self._near(grid.rect(box)):
            x0, y0, x1, y1 = self._shell_boxes[k]
            rows = slice(np.searchsorted(y, y0), np.searchsorted(y, y1, "right"))
            columns = slice(np.searchsorted(x, x0), np.searchsorted(x, x1, "right"))
            shell, *holes = (_winds(ring, x[columns], y[rows]) for ring in self._edges[k])
            inside[rows, columns] |= shell & ~np.logical_or.reduce(holes, initial=False)
        return inside

    @cached_property
    def is_rectangle(self) -> bool:
        """Whether the region is one axis-aligned rectangle, as most are, for which there are
        shortcuts."""
        if len(self.polygons) > 1 or len(self.polygons[0]) > 1:
            return False
        return np.array_equal(self.polygons[0][0], _corners(self.bounds))

    @cached_property
    def _edges(self) -> tuple[tuple[_Edges, ...], ...]:
        return tuple(tuple(map(_edges_of, polygon)) for polygon in self.polygons)

    @cached_property
    def _shell_boxes(self) -> NDArray[np.float64]:
        """(polygons, 4) x0, y0, x1, y1 of each shell."""
        return np.array([[*shell.min(axis=0), *shell.max(axis=0)] for shell, *_ in self.polygons])

    def _near(self, rect: Rect) -> list[int]:
        """Return the indices of the polygons whose bounding box overlaps `rect`."""
        x0, y0, x1, y1 = self._shell_boxes.T
        near = (x0 <= rect.x1) & (x1 >= rect.x0) & (y0 <= rect.y1) & (y1 >= rect.y0)
        return [int(k) for k in np.flatnonzero(near)]


def _corners(rect: Rect) -> Ring:
    x0, y0, x1, y1 = rect.x0, rect.y0, rect.x1, rect.y1
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64)


def _overlap(region: Rect, rect: Rect) -> Overlap:
    """Return how much of `rect` lies in `region`, which includes its edges."""
    if region.x0 < rect.x0 and rect.x1 < region.x1 and region.y0 < rect.y0 and rect.y1 < region.y1:
        return Overlap.ALL
    if rect.x1 < region.x0 or region.x1 < rect.x0 or rect.y1 < region.y0 or region.y1 < rect.y0:
        return Overlap.NONE
    return Overlap.SOME


class _Edges(NamedTuple):
    """The non-horizontal edges of one ring, each directed so that y increases along it."""

    x0: NDArray[np.float64]
    y0: NDArray[np.float64]
    x1: NDArray[np.float64]
    y1: NDArray[np.float64]
    turn: NDArray[np.int64]
    """+1 if the ring runs down the edge, -1 if it runs up."""


def _edges_of(ring: Ring) -> _Edges:
    start, end = ring, np.roll(ring, -1, axis=0)
    down = start[:, 1] < end[:, 1]
    low, high = np.where(down[:, None], start, end), np.where(down[:, None], end, start)
    slanted = low[:, 1] < high[:, 1]
    (x0, y0), (x1, y1) = low[slanted].T, high[slanted].T
    return _Edges(x0, y0, x1, y1, np.where(down, 1, -1)[slanted])


def _crossings(
    edges: _Edges, y: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]]:
    """Yield, in chunks, every crossing of an edge [y0, y1) with the horizontal lines at sorted `y`.

    A crossing is (index into y, x of the crossing, turn of the edge).
    """
    first, last = np.searchsorted(y, edges.y0), np.searchsorted(y, edges.y1)
    crossed = np.flatnonzero(last > first)
    ends = np.cumsum(last[crossed] - first[crossed])
    begin = 0
    while begin < len(crossed):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + _PAIRS_AT_ONCE)))
        chosen = crossed[begin:end]
        count = last[chosen] - first[chosen]
        edge = np.repeat(chosen, count)
        line = np.arange(len(edge)) + np.repeat(first[chosen] - (np.cumsum(count) - count), count)
        x0, y0, x1, y1 = edges.x0[edge], edges.y0[edge], edges.x1[edge], edges.y1[edge]
        x = x0 + (y[line] - y0) * ((x1 - x0) / (y1 - y0))
        # rounding must not move a crossing off its edge, since code relies on the bounding boxes
        x = np.clip(x, np.minimum(x0, x1), np.maximum(x0, x1))
        yield line, x, edges.turn[edge]
        begin = end


def _inside(polygon: Sequence[_Edges], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (n,) whether the shell of `polygon` winds around each point and no hole does."""
    shell, *holes = (_winds_around(ring, points) for ring in polygon)
    inside: NDArray[np.bool_] = shell & ~np.logical_or.reduce(holes, initial=False)
    return inside


def _winds_around(edges: _Edges, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    order = np.argsort(points[:, 1], kind="stable")
    x, y = points[order].T
    winding = np.zeros(len(points), np.int64)
    for point, crossing, turn in _crossings(edges, y):
        left = x[point] < crossing
        np.add.at(winding, point[left], turn[left])
    inside = np.empty(len(points), np.bool_)
    inside[order] = winding != 0
    return inside


def _winds(edges: _Edges, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (y, x) whether the ring winds around each point of the lattice x times y."""
    if not (len(x) and len(y)):
        return np.zeros((len(y), len(x)), np.bool_)
    # rays to the right never cross an edge left of all x, and all of them cross one right of
    # all x, wherever it is: only the edges between are processed line by line
    right = np.minimum(edges.x0, edges.x1) > x[-1]
    between = ~right & (np.maximum(edges.x0, edges.x1) > x[0])
    step = np.zeros((len(y), len(x) + 1), np.int32)
    for line, crossing, turn in _crossings(_Edges(*(c[between] for c in edges)), y):
        np.add.at(step, (line, np.searchsorted(x, crossing)), -turn)
        np.add.at(step[:, 0], line, turn)
    start = np.zeros(len(y) + 1, np.int32)
    np.add.at(start, np.searchsorted(y, edges.y0[right]), edges.turn[right])
    np.add.at(start, np.searchsorted(y, edges.y1[right]), -edges.turn[right])
    step[:, 0] += np.cumsum(start)[:-1]
    if not between.any():
        return np.repeat(step[:, :1] != 0, len(x), axis=1)
    inside: NDArray[np.bool_] = np.cumsum(step[:, :-1], axis=1, dtype=np.int32) != 0
    return inside


def _passes(ring: Ring, rect: Rect) -> bool:
    """Return whether an edge touches `rect`: their boxes overlap and the edge's line divides it."""
    following = np.roll(ring, -1, axis=0)
    low, high = np.minimum(ring, following), np.maximum(ring, following)
    near = (
        (low[:, 0] <= rect.x1)
        & (high[:, 0] >= rect.x0)
        & (low[:, 1] <= rect.y1)
        & (high[:, 1] >= rect.y0)
    )
    (x0, y0), (x1, y1) = ring[near].T, following[near].T
    corners = _corners(rect)
    side = (x1 - x0) * (corners[:, 1:] - y0) - (y1 - y0) * (corners[:, :1] - x0)
    return bool(((side.min(axis=0) <= 0) & (side.max(axis=0) >= 0)).any())


def _encloses_anything(shell: Ring) -> bool:
    """Return whether `shell` winds around an area that is not negligible."""
    if len(shell) < 3:
        return False
    x, y = (shell - shell[0]).T
    size, thickness = max(np.ptp(x), np.ptp(y)), min(np.ptp(x), np.ptp(y))
    if thickness <= _NEGLIGIBLE * size:
        return False
    area = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2
    is_large = bool(abs(area) > _NEGLIGIBLE * size * size)
    return is_large or _fills_a_line(shell, _NEGLIGIBLE * size)


def _fills_a_line(shell: Ring, width: float) -> bool:
    """Return whether the ring fills more than `width` of some horizontal line.

    For outlines whose area the shoelace formula reports as zero, such as a figure of eight, whose
    lobes cancel. Three lines through each of the tallest bands between corners are enough.
    """
    edges, levels = _edges_of(shell), np.unique(shell[:, 1])
    tallest = np.argsort(-np.diff(levels), kind="stable")[:64]
    bands = levels[tallest] + np.diff(levels)[tallest] * [[0.21], [0.5], [0.83]]
    for y in bands.ravel():
        for _, x, turn in _crossings(edges, np.array([y])):
            order = np.argsort(x, kind="stable")
            filled = np.cumsum(turn[order])[:-1] != 0
            if np.diff(x[order])[filled].sum() > width:
                return True
    return False


def _read(value: object, where: str) -> tuple[list[tuple[Ring, ...]], tuple[str, ...]]:
    """Return every polygon in a GeoJSON object, and a note about other shapes beside them.

    Raises BadRegion if there is none.
    """
    polygons: list[tuple[Ring, ...]] = []
    others: Counter[str] = Counter()
    for geometry, place in _geometries(value, where):
        kind = "null" if geometry is None else _kind(geometry, place)
        polygons += _polygons(geometry, kind, place)
        if kind in _WITHOUT_AREA:
            others[kind] += 1
            where = place if others.total() == 1 else where
    if not others:
        return polygons, ()
    if not polygons:
        got = " and a ".join(others)
        raise BadRegion(f"{where}: expected a Polygon or MultiPolygon, got a {got}", _FORMS)
    ignored = ", ".join(f"{count} x {kind}" for kind, count in others.items())
    return polygons, (f"shapes that enclose no area are ignored: {ignored}",)


def _geometries(value: object, where: str) -> Iterator[tuple[object, str]]:
    """Yield the geometries in `value`, with their place; None for a feature without one."""
    for key, kind in (("features", "FeatureCollection"), ("geometries", "GeometryCollection")):
        if _kind(value, where) == kind:
            for k, member in enumerate(_list(_member(value, key), f"{where}.{key}")):
                yield from _geometries(member, f"{where}.{key}[{k}]")
            return
    if _kind(value, where) != "Feature":
        yield value, where
    elif (geometry := _member(value, "geometry")) is None:
        yield None, f"{where}.geometry"
    else:
        yield from _geometries(geometry, f"{where}.geometry")


def _polygons(geometry: object, kind: str, where: str) -> Iterator[tuple[Ring, ...]]:
    where = f"{where}.coordinates"
    if kind == "Polygon":
        yield _polygon(_member(geometry, "coordinates"), where)
    elif kind == "MultiPolygon":
        for k, polygon in enumerate(_list(_member(geometry, "coordinates"), where)):
            yield _polygon(polygon, f"{where}[{k}]")
    elif kind not in _WITHOUT_AREA:
        raise BadRegion(
            f"{where.removesuffix('.coordinates')}: {brief(kind)} is no type of GeoJSON", _FORMS
        )


def _polygon(value: object, where: str) -> tuple[Ring, ...]:
    rings = _list(value, where)
    if not rings:
        raise BadRegion(f"{where}: the polygon has no outline", _FORMS)
    return tuple(_ring(ring, f"{where}[{k}]") for k, ring in enumerate(rings))


def _ring(value: object, where: str) -> Ring:
    given = _list(value, where)
    points = _pairs(given)
    if points is None:
        each = [_point(point, f"{where}[{k}]") for k, point in enumerate(given)]
        points = np.array(each, np.float64).reshape(-1, 2)
    if len(points) > 1 and (points[0] == points[-1]).all():
        points = points[:-1]
    if len(points) < 3:
        raise BadRegion(f"{where}: an outline with {len(points)} corners encloses no area", _FORMS)
    return points


def _pairs(points: list[Any]) -> Ring | None:
    """Return `points` if each is [x, y], checked quickly for all of them at once, else None."""
    if set(map(type, points)) != {list} or set(map(len, points)) != {2}:
        return None
    if not set(map(type, chain.from_iterable(points))) <= {int, float}:
        return None
    try:
        ring = np.array(points, np.float64)
    except OverflowError:  # an integer beyond the range of floats
        return None
    return ring if np.all(np.abs(ring) <= MAX_COORDINATE) else None  # also rejects NaN


def _point(value: object, where: str) -> tuple[float, float]:
    if isinstance(value, list) and len(value) >= 2:  # a third is the altitude, RFC 7946 3.1.1
        x, y = value[:2]
        if _is_number(x) and _is_number(y):
            return float(x), float(y)
    raise BadRegion(f"{where}: expected two numbers below 1e9, got {brief(value)}", _FORMS)


def _is_number(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= MAX_COORDINATE  # also False for NaN


def _kind(value: object, where: str) -> str:
    kind = _member(value, "type")
    if isinstance(kind, str):
        return kind
    raise BadRegion(f"{where}: expected GeoJSON, got {brief(value)}", _FORMS)


def _member(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, Mapping) else None


def _list(value: object, where: str) -> list[object]:
    if isinstance(value, list):
        return value
    raise BadRegion(f"{where}: expected a list, got {brief(value)}", _FORMS)


def brief(value: object) -> str:
    """Return `value` shortened for quoting in an error message."""
    if isinstance(value, str | list):
        value = value[:40]  # no more is shown, and there may be megabytes
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
