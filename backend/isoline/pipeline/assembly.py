"""Assembling tile results, which arrive in any order, into events that a viewer can apply."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from isoline.domain.batch import Arrays, Batch
from isoline.domain.events import Contours, Event, Objects, Warned
from isoline.geometry.polygons import Polygons
from isoline.geometry.seams import Closed, Pieces, TilePlace, Union
from isoline.geometry.tiling import Lattice, Tile
from isoline.inference import results
from isoline.inference.task import TileFailed
from isoline.inference.tiles import TiledTask, TileResult
from isoline.models.model import Bounded, Regions, Unbounded

PULL_AT_LEAST = 64
PULL_FACTOR = 4
"""Objects that extend beyond the chosen tiles may add at most PULL_FACTOR times as many tiles, or
PULL_AT_LEAST if that is more."""


class Assembly:
    """The state of one job: its results so far, and the tiles that may still arrive."""

    def __init__(self, task: TiledTask, lattice: Lattice, tiles: tuple[Tile, ...]) -> None:
        """Start a job over `tiles`; tiles without tissue are skipped."""
        self._task = task
        self._lattice = lattice
        self._skipped = {tile.place for tile in tiles if self._is_glass(tile)}
        self._expected = {tile.place for tile in tiles} - self._skipped
        self._finished: set[TilePlace] = set()
        self._may_pull = max(PULL_AT_LEAST, PULL_FACTOR * len(tiles))
        self._union = Union(lattice)
        self._ended: set[TilePlace] = set()
        """Places that were closed in the union because their tile will never arrive."""
        self._shown: dict[tuple[int, ...], bytes] = {}
        """(column, row, number) of an open piece -> its id in viewers."""
        self._cut = 0
        """Number of objects that are cut off at the border of an upload."""
        self.objects = 0
        self.failed = 0

    @property
    def skipped(self) -> int:
        return len(self._skipped)

    @property
    def tiles(self) -> int:
        """The number of tiles to compute, including finished ones."""
        return len(self._expected)

    @property
    def finished(self) -> int:
        return len(self._finished)

    def needs(self, tile: Tile) -> bool:
        """Return whether `tile` still has to be computed."""
        return tile.place in self._expected and tile.place not in self._finished

    def take(self, result: TileResult | TileFailed) -> tuple[Event, ...]:
        """Add the result of one tile; return the resulting events."""
        place = result.tile.place
        self._finished.add(place)
        if isinstance(result, TileFailed):
            return self._fail(result.tile, result.code, result.message)
        if isinstance(result.found, Pieces):
            return tuple(self._unite(place, result.found))
        return tuple(self._final(result.found))

    def replay(self, batch: Batch) -> None:
        """Restore the state from a batch that an earlier run of this job produced."""
        if batch.tile is None:
            return
        self._finished.add(batch.tile)
        if batch.tile not in self._expected:  # added by the earlier run
            self._may_pull -= 1
            self._expected.add(batch.tile)
        if isinstance(self._task.output, Bounded):
            self.objects += sum(
                len(event.objects) for event in batch.events if isinstance(event, Contours)
            )
            self.failed += any(isinstance(event, Warned) for event in batch.events)
        elif batch.carry is not None:
            tuple(self._unite(batch.tile, pieces_of(batch.carry)))
        else:
            self._fail(self._lattice.tile(*batch.tile), "", "")

    def pull(self) -> list[Tile]:
        """Return further tiles, up to a limit, for objects that extend beyond the chosen tiles."""
        if isinstance(self._task.output, Bounded | Regions):
            return []
        places = [place for place in self._union.wanted() if place not in self._expected]
        places = places[: max(0, self._may_pull)]
        self._may_pull -= len(places)
        self._expected.update(places)
        return [self._lattice.tile(*place) for place in places]

    def finish(self) -> tuple[Event, ...]:
        """Close all open regions; return the last events."""
        last = tuple(self._closed(self._union.finish()))
        return (*last, *results.cut_off(self._cut))

    def _is_glass(self, tile: Tile) -> bool:
        tissue = self._task.tissue
        return tissue is not None and not tissue.meets(self._lattice.grid, tile.write)

    def _fail(self, tile: Tile, code: str, message: str) -> tuple[Event, ...]:
        self.failed += 1
        warned = Warned(code, message, self._lattice.grid.rect(tile.write))
        if isinstance(self._task.output, Bounded):
            return (warned,)
        return (warned, *self._closed(self._union.close(tile.place)))

    def _unite(self, place: TilePlace, pieces: Pieces) -> Iterator[Event]:
        yield from self._end_at_edges(place)
        closed = self._union.add(place, pieces)
        if isinstance(self._task.output, Regions):
            yield from self._show(place, pieces, closed)
        yield from self._closed(closed)

    def _end_at_edges(self, place: TilePlace) -> Iterator[Event]:
        """Close neighbours in the union that are known to contain no pixels of regions.

        These are glass tiles and, for outputs of type `Regions`, which are clipped to the requested
        region, all tiles beyond it.
        """
        column, row = place
        for neighbour in (
            (column, row - 1), (column + 1, row), (column, row + 1), (column - 1, row)
        ):  # fmt: skip
            beyond = isinstance(self._task.output, Regions) and neighbour not in self._expected
            if not (beyond or neighbour in self._skipped) or neighbour in self._ended:
                continue
            if self._lattice.has(*neighbour):
                self._ended.add(neighbour)
                yield from self._closed(self._union.close(neighbour, complete=True))

    def _show(self, place: TilePlace, pieces: Pieces, closed: Closed) -> Iterator[Event]:
        """Yield the pieces of `place` that are still open, as provisional contours."""
        is_open = np.ones(len(pieces), np.bool_)
        mine = (closed.piece[:, :2] == place).all(axis=1)
        is_open[closed.piece[mine, 2]] = False
        numbers = np.flatnonzero(is_open)
        column, row = place
        if not len(numbers):
            return
        polygons = pieces.polygons.select(numbers)
        anchor = polygons.corners[
            polygons.object_corner[:-1]
        ]  # the anchor of a piece is its first pixel
        label, area_px = pieces.label[numbers] - 1, pieces.area_px[numbers]
        objects = results.build(
            self._task.scope, self._task.plane, polygons, label, area_px, anchor, provisional=True
        )
        for number, raw in zip(numbers.tolist(), objects.ids, strict=True):
            self._shown[column, row, number] = raw.tobytes()
        yield Contours(objects, provisional=True)

    def _closed(self, closed: Closed) -> Iterator[Event]:
        """Yield final regions, which replace their provisional pieces."""
        if not len(closed):
            return
        replaced = [
            shown
            for piece in closed.piece.tolist()
            if (shown := self._shown.pop(tuple(piece), None)) is not None
        ]
        is_cut = self._is_cut(closed.polygons)
        objects = results.build(
            self._task.scope,
            self._task.plane,
            closed.polygons,
            closed.label - 1,
            closed.area_px,
            closed.anchor,
            incomplete=closed.incomplete | is_cut,
        )
        if not isinstance(self._task.output, Regions):
            is_inside = self._task.inside(objects.anchor)
            objects = objects.select(is_inside)
            self._cut += np.count_nonzero(is_cut & is_inside)
        ids = np.frombuffer(b"".join(replaced), np.uint8).reshape(-1, 16)
        yield from self._final(objects, ids)

    def _is_cut(self, polygons: Polygons) -> NDArray[np.bool_]:
        if not isinstance(self._task.output, Unbounded):
            return np.zeros(len(polygons), np.bool_)
        return results.is_cut(self._task.plane, polygons, self._lattice.halo_px)

    def _final(
        self, objects: Objects, replaces: NDArray[np.uint8] | None = None
    ) -> Iterator[Event]:
        if len(objects):
            self.objects += len(objects)
            yield Contours(objects) if replaces is None else Contours(objects, False, replaces)


def carry_of(pieces: Pieces) -> Arrays:
    """Return `pieces` as named arrays for the journal."""
    polygons = pieces.polygons
    return {
        "corners": polygons.corners,
        "ring_start": polygons.ring_start,
        "part_start": polygons.part_start,
        "object_start": polygons.object_start,
        "label": pieces.label,
        "area_px": pieces.area_px,
    }


def pieces_of(carry: Arrays) -> Pieces:
    """Restore the argument of `carry_of`."""
    polygons = Polygons(
        carry["corners"], carry["ring_start"], carry["part_start"], carry["object_start"]
    )
    return Pieces(polygons, carry["label"], carry["area_px"])
