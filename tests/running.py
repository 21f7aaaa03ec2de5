"""Running requests through the pipeline and comparing what comes out."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import shapely
from shapely.geometry import Polygon

from isoline.domain.events import Contours, Done, Event, Objects, Started
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Agenda, Engine
from isoline.geometry.polygons import Polygons
from isoline.geometry.tiling import Lattice, Tile
from isoline.images.catalog import Images
from isoline.inference.resources import Resources
from isoline.inference.task import Attention, Result, Task
from isoline.models.catalogue import ModelCatalogue
from isoline.pipeline.tiled import TiledPlan
from tests.planning import tiled_plan


class SerialEngine(Engine):
    """Runs tiles in this process, one after the other, in the agenda's order or shuffled."""

    def __init__(self, weights: Path, seed: int | None = None) -> None:
        self._resources = Resources(ModelCatalogue(weights), "cpu")
        self._random = None if seed is None else random.Random(seed)

    def survey(self, task: Task, agenda: Agenda) -> Result:
        return task.survey(self._resources)

    def run(self, task: Task, agenda: Agenda) -> Iterator[Result]:
        while len(agenda):
            tiles: list[Tile] = []
            while (tile := agenda.take()) is not None:
                tiles.append(tile)
            if self._random is not None:
                self._random.shuffle(tiles)
            for each in tiles:
                yield from task.compute(self._resources, each, Attention())

    def close(self) -> None:
        self._resources.close()


@dataclass
class Outcome:
    """Everything one run said."""

    prepared: TiledPlan
    events: list[Event] = field(default_factory=list)

    @property
    def started(self) -> Started:
        first = self.events[0]
        assert isinstance(first, Started)
        return first

    @property
    def done(self) -> Done:
        last = self.events[-1]
        assert isinstance(last, Done), last
        return last

    @property
    def final(self) -> list[Objects]:
        """The results that are not provisional."""
        return [
            event.objects
            for event in self.events
            if isinstance(event, Contours) and not event.provisional
        ]

    @property
    def count(self) -> int:
        return sum(map(len, self.final))

    @property
    def area_px(self) -> int:
        return sum(int(objects.area_px.sum()) for objects in self.final)

    def rows(self) -> list[bytes]:
        """Return everything that is known of each result, as bytes, sorted."""
        return sorted(row for objects in self.final for row in _rows(objects))

    def digest(self) -> str:
        """Return what two runs share if and only if they gave the same results."""
        return hashlib.sha256(b"".join(self.rows())).hexdigest()


def _rows(objects: Objects) -> Iterator[bytes]:
    geometry, start = objects.polygons.records()
    if objects.nuclei is not None:
        nuclei, nucleus_start = objects.nuclei.records()
    for k in range(len(objects)):
        measured = [
            objects.measurements[name][k].tobytes() for name in sorted(objects.measurements)
        ]
        yield b"|".join(
            [
                objects.ids[k].tobytes(),
                objects.label[k].tobytes(),
                objects.area_px[k].tobytes(),
                objects.anchor[k].tobytes(),
                objects.incomplete[k].tobytes(),
                geometry[start[k] : start[k + 1]].tobytes(),
                *measured,
                b""
                if objects.nuclei is None
                else nuclei[nucleus_start[k] : nucleus_start[k + 1]].tobytes(),
            ]
        )


def run(
    request: SegmentRequest,
    images: Images,
    engine: Engine,
    data: Path,
    *,
    untiled: bool = False,
) -> Outcome:
    """Run `request` to its end; `untiled` computes the whole grid as one tile."""
    prepared = tiled_plan(request, images, data / "weights")
    if untiled:
        side = max(prepared.lattice.grid.size)
        lattice = Lattice(prepared.lattice.grid, side, prepared.lattice.halo_px)
        prepared = replace(prepared, lattice=lattice, tiles=(lattice.tile(0, 0),))
    agenda = prepared.agenda()
    outcome = Outcome(prepared)
    for batch in prepared.events(engine, agenda):
        outcome.events += batch.events
    return outcome


def shapes(objects: Objects) -> list[shapely.MultiPolygon]:
    """Return the geometry of each object, in grid pixels."""
    return [shapely.MultiPolygon(parts) for parts in parts_of(objects.polygons)]


def parts_of(polygons: Polygons) -> Iterator[list[Polygon]]:
    """Yield, for each object, its parts."""
    rings = [
        polygons.corners[a:b]
        for a, b in zip(polygons.ring_start, polygons.ring_start[1:], strict=False)
    ]
    parts = [
        Polygon(rings[a], rings[a + 1 : b])
        for a, b in zip(polygons.part_start, polygons.part_start[1:], strict=False)
    ]
    for a, b in zip(polygons.object_start, polygons.object_start[1:], strict=False):
        yield parts[a:b]
