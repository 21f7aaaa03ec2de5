"""Which tiles a request needs, and in which order: pure arithmetic on one lattice.

The lattice is anchored at the image's origin, never at the region, so the same pixels belong to the
same tile in every request. A tile reads more than it writes:

    +-----------------+
    |  read           |     read  = cell grown by the halo, even beyond the image (padded there)
    |   +---------+   |     write = cell clipped to the grid: the part that this tile owns
    |   |  write  |   |
    |   +---------+   |     the write boxes of all tiles cover the grid exactly once
    |                 |
    +-----------------+
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from isoline.geometry.grid import XY, Box, Grid, Overlap


class Tile(NamedTuple):
    """One cell of a lattice, identified by its place."""

    row: int
    column: int
    write: Box
    read: Box

    @property
    def place(self) -> tuple[int, int]:
        return self.column, self.row


@dataclass(frozen=True)
class Lattice:
    """The tiles of one grid."""

    grid: Grid
    tile_px: int
    halo_px: int

    @property
    def shape(self) -> tuple[int, int]:
        """(columns, rows)."""
        width, height = self.grid.size
        return -(-width // self.tile_px), -(-height // self.tile_px)

    def tile(self, column: int, row: int) -> Tile:
        return self._tile(column, row, self.grid.bounds)

    def _tile(self, column: int, row: int, bounds: Box) -> Tile:
        side = self.tile_px
        cell = Box(column * side, row * side, (column + 1) * side, (row + 1) * side)
        return Tile(row, column, cell.intersect(bounds), cell.grow(self.halo_px))

    def has(self, column: int, row: int) -> bool:
        columns, rows = self.shape
        return 0 <= column < columns and 0 <= row < rows

    def tiles(self, area: Box, overlap: Callable[[Box], Overlap]) -> list[Tile]:
        """Return, in raster order, the tiles that intersect `area` (grid pixels) and the region.

        `overlap` returns how much of a box lies in the region.
        """
        area = area.intersect(self.grid.bounds)
        if area.empty:
            return []
        side = self.tile_px
        cells = Box(area.x0 // side, area.y0 // side, -(-area.x1 // side), -(-area.y1 // side))
        return sorted(self._within(cells, overlap), key=lambda tile: (tile.row, tile.column))

    def _within(self, cells: Box, overlap: Callable[[Box], Overlap]) -> Iterator[Tile]:
        """Yield the tiles of `cells` that overlap the region, in no particular order.

        A slide has many tiles and a region few edges, so blocks of tiles without an edge are
        accepted or rejected as a whole.
        """
        side = self.tile_px
        block = Box(cells.x0 * side, cells.y0 * side, cells.x1 * side, cells.y1 * side)
        bounds = self.grid.bounds
        much = overlap(block.intersect(bounds))
        if much is Overlap.ALL or (much is Overlap.SOME and cells.area == 1):
            places = product(range(cells.y0, cells.y1), range(cells.x0, cells.x1))
            yield from (self._tile(column, row, bounds) for row, column in places)
        elif much is Overlap.SOME:
            for part in _parts(cells):
                yield from self._within(part, overlap)

    def order(self, focus: XY | None) -> Callable[[Tile], tuple[int, int, int]]:
        """Return the sort key of tiles around `focus` (grid pixels): rings, then rows in a ring.

        Processing rings row by row keeps the frontier of open regions short. Without a focus,
        tiles are in raster order.
        """
        if focus is None:
            return lambda tile: (0, tile.row, tile.column)
        column, row = int(focus.x // self.tile_px), int(focus.y // self.tile_px)

        def key(tile: Tile) -> tuple[int, int, int]:
            ring = max(abs(tile.column - column), abs(tile.row - row))
            return ring, tile.row, tile.column

        return key


def quarters(tile: Tile) -> tuple[Tile, ...]:
    """Return the four parts of `tile`, whose write boxes cover its own exactly once."""
    halo = tile.write.x0 - tile.read.x0
    return tuple(Tile(tile.row, tile.column, part, part.grow(halo)) for part in _parts(tile.write))


def _parts(box: Box) -> list[Box]:
    """Return the quarters of `box`, or halves if it is one pixel wide or high."""
    x, y = (box.x0 + box.x1) // 2, (box.y0 + box.y1) // 2
    parts = (
        Box(box.x0, box.y0, x, y),
        Box(x, box.y0, box.x1, y),
        Box(box.x0, y, x, box.y1),
        Box(x, y, box.x1, box.y1),
    )
    return [part for part in parts if not part.empty]
