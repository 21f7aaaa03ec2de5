"""Outlines to pixels: GeoJSON geometries as arrays, and painted as labels. Needs NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from isoline_client.arrays import np
from isoline_client.options import Json

if TYPE_CHECKING:
    from isoline_client.arrays import NDArray

    Corners: TypeAlias = NDArray[np.float64]
    """(n, 2): x and y in image coordinates."""
    Whole: TypeAlias = NDArray[np.int64]
    Numbers: TypeAlias = NDArray[np.int32]
    """(y, x): the number of the outline in which the centre of a pixel lies, 0 outside all."""
else:
    Corners = Whole = Numbers = Any


def rings(geometry: Json) -> list[Corners]:
    """Return the rings of a Polygon or MultiPolygon: of each part the outline, then its holes.

    The last corner of a ring is its first.
    """
    several = geometry["type"] == "MultiPolygon"
    parts = geometry["coordinates"] if several else [geometry["coordinates"]]
    return [np.array(ring, np.float64) for part in parts for ring in part]


class Outlines:
    """Numbered outlines, of which any part is painted at any scale.

    A pixel belongs to an outline if its centre lies inside it and in none of its holes: at full
    resolution, an outline that follows the edges of pixels gives exactly these pixels. Where
    outlines overlap, the greatest number is seen.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._edges: dict[str, Corners] = {}
        self._together: tuple[Corners, Numbers] | None = None
        """All edges (n, 4) x0, y0, x1, y1, and the number of each; None after a change."""

    def add(self, feature_id: str, geometry: Json, number: int) -> None:
        """Add an outline, or replace the one with this id; `number` is at least 1."""
        edges = [np.concatenate([ring[:-1], ring[1:]], axis=1) for ring in rings(geometry)]
        self._numbers[feature_id], self._edges[feature_id] = number, np.concatenate(edges)
        self._together = None

    def update(self, other: Outlines) -> None:
        """Add the outlines of another, as `add` does."""
        self._numbers.update(other._numbers)
        self._edges.update(other._edges)
        self._together = None

    def remove(self, feature_id: str) -> None:
        """Remove the outline with this id, if there is one."""
        self._numbers.pop(feature_id, None)
        self._edges.pop(feature_id, None)
        self._together = None

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each outline, by id."""
        return self._numbers

    def paint(self, box: Sequence[int], downsample: Sequence[float] = (1.0, 1.0)) -> Numbers:
        """Return the numbers of the pixels x0 to x1 - 1, y0 to y1 - 1 of `box`.

        These are pixels of a level; each is `downsample` (x, y) image pixels wide and high.
        """
        left, top, right, bottom = box
        edges, number_of_edge = self._all_edges()
        x0, y0, x1, y1 = (edges / [*downsample, *downsample]).T
        # an edge crosses the rows whose centre lies between its ends
        first, last = _first_centre(np.minimum(y0, y1)), _first_centre(np.maximum(y0, y1))
        edge, row = _each(first.clip(top, bottom), last.clip(top, bottom))
        x = x0[edge] + (row + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
        column, number = _first_centre(x).clip(left, right), number_of_edge[edge]
        # inside lies between an outline's crossings of a row, taken in pairs
        order = np.lexsort((column, row, number))
        begin, end = column[order].reshape(-1, 2).T
        run, column = _each(begin, end)
        pixels = np.zeros((bottom - top, right - left), np.int32)
        pixels[row[order][::2][run] - top, column - left] = number[order][::2][run]
        return pixels

    def level(self, shape: tuple[int, int], size: Sequence[int]) -> PaintedLevel:
        """Return an array of this `shape` (rows, columns) that covers an image of `size` (x, y)."""
        return PaintedLevel(self, shape, (size[0] / shape[1], size[1] / shape[0]))

    def _all_edges(self) -> tuple[Corners, Numbers]:
        if self._together is None:
            edges = [np.empty((0, 4)), *self._edges.values()]
            numbers = np.array([0, *self._numbers.values()], np.int32)
            self._together = np.concatenate(edges), np.repeat(numbers, [len(e) for e in edges])
        return self._together


class PaintedLevel:
    """One level of a pyramid of outlines, as napari and Dask want an array.

    Each part is painted when it is read, as the outlines then are.
    """

    ndim = 2

    def __init__(
        self, outlines: Outlines, shape: tuple[int, int], downsample: tuple[float, float]
    ) -> None:
        """Use `Outlines.level`."""
        self._outlines = outlines
        self._downsample = downsample
        self.shape = shape

    @property
    def dtype(self) -> np.dtype[np.int32]:
        """The type of the numbers."""
        return np.dtype(np.int32)

    @property
    def size(self) -> int:
        """The number of pixels."""
        return self.shape[0] * self.shape[1]

    def __getitem__(self, key: tuple[slice, slice]) -> Numbers:
        """Return the pixels in two slices, of rows and of columns, without steps."""
        rows, columns = (part.indices(n) for part, n in zip(key, self.shape, strict=True))
        return self._outlines.paint((columns[0], rows[0], columns[1], rows[1]), self._downsample)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Numbers:
        """Return all pixels."""
        return self[:, :].astype(dtype or np.int32, copy=False)


def _first_centre(position: Corners) -> Whole:
    """Return the first pixel whose centre does not lie before `position`."""
    return np.ceil(position - 0.5).astype(np.int64)


def _each(first: Whole, last: Whole) -> tuple[Whole, Whole]:
    """Return all numbers from each `first` to before its `last`, after which of them it is."""
    lengths = last - first
    which = np.repeat(np.arange(len(first)), lengths)
    return which, np.arange(len(which)) + (first - np.cumsum(lengths) + lengths)[which]
