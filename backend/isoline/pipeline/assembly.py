"""Results of tiles, in whatever order they come, to events that a viewer can apply."""

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
"""Objects that leave the chosen tiles may pull in so many times as many, and at least so many."""


class Assembly:
    """What one job has found so far, and which tiles may still come."""

    def __init__(self, task: TiledTask, lattice: Lattice, tiles: tuple[Tile, ...]) -> None:
        """Begin a job over `tiles`; those without tissue are set aside at once."""
        self._task = task
        self._lattice = lattice
        self._skipped = {tile.place for tile in tiles if self._is_glass(tile)}
        self._expected = {tile.place for tile in tiles} - self._skipped
        self._finished: set[TilePlace] = set()
        self._may_pull = max(PULL_AT_LEAST, PULL_FACTOR * len(tiles))
        self._union = Union(lattice)
        self._ended: set[TilePlace] = set()
        """Places that the union knows will never come."""
        self._shown: dict[tuple[int, ...], bytes] = {}
        """(column, row, number) of an open piece -> the id under which viewers show it."""
        self._cut = 0
        """Objects that lack what was not uploaded."""
        self.objects = 0
        self.failed = 0

    @property
    def skipped(self) -> int:
        return len(self._skipped)

    @property
    def tiles(self) -> int:
        """How many tiles the job computes, those already finished included."""
        return len(self._expected)

    @property
    def finished(self) -> int:
        return len(self._finished)

    def needs(self, tile: Tile) -> bool:
        """Return whether `tile` is still to be computed."""
        return tile.place in self._expected and tile.place not in self._finished

    def take(self, result: TileResult | TileFailed) -> tuple[Event, ...]:
        """Take what one tile gave; return what viewers should hear of it."""
        place = result.tile.place
        self._finished.add(place)
        if isinstance(result, TileFailed):
            return self._fail(result.tile, result.code, result.message)
        if isinstance(result.found, Pieces):
            return tuple(self._unite(place, result.found))
        return tuple(self._final(result.found))

    def replay(self, batch: Batch) -> None:
        """Take note of a batch that an earlier run of this job gave."""
        if batch.tile is None:
            return
        self._finished.add(batch.tile)
        if batch.tile not in self._expected:  # pulled in by the earlier run
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
        """Return the further tiles that objects which leave the chosen ones need, up to a limit."""
        if isinstance(self._task.output, Bounded | Regions):
            return []
        places = [place for place in self._union.wanted() if place not in self._expected]
        places = places[: max(0, self._may_pull)]
        self._may_pull -= len(places)
        self._expected.update(places)
        return [self._lattice.tile(*place) for place in places]

    def finish(self) -> tuple[Event, ...]:
        """Close what is open; return the last results."""
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
        """Tell the union of neighbours in which regions are known to have no pixel.

        That is glass, and for regions, which are cut to what was asked for, every tile beyond.
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
        """Show the pieces of `place` that are still open."""
        is_open = np.ones(len(pieces), np.bool_)
        mine = (closed.piece[:, :2] == place).all(axis=1)
        is_open[closed.piece[mine, 2]] = False
        numbers = np.flatnonzero(is_open)
        column, row = place
        if not len(numbers):
            return
        polygons = pieces.polygons.select(numbers)
        anchor = polygons.corners[polygons.object_corner[:-1]]  # of a piece: its first pixel
        label, area_px = pieces.label[numbers] - 1, pieces.area_px[numbers]
        objects = results.build(
            self._task.scope, self._task.plane, polygons, label, area_px, anchor, provisional=True
        )
        for number, raw in zip(numbers.tolist(), objects.ids, strict=True):
            self._shown[column, row, number] = raw.tobytes()
        yield Contours(objects, provisional=True)

    def _closed(self, closed: Closed) -> Iterator[Event]:
        """Give out regions that are final, in place of the pieces that were shown."""
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
    """Return `pieces` as named arrays, for the journal."""
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
    """Return what `carry_of` took apart."""
    polygons = Polygons(
        carry["corners"], carry["ring_start"], carry["part_start"], carry["object_start"]
    )
    return Pieces(polygons, carry["label"], carry["area_px"])
