"""Tiled work: validating a request into a plan, and running it.

image, grid, tiles  ->  survey  ->  engine: read, infer, contour  ->  assembly  ->  batches
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from isoline.domain.batch import Arrays, Batch
from isoline.domain.events import Cancelled, Done, Event, Progress, Warned
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Agenda, Engine
from isoline.errors import BadParameter, BadRegion, BadSpacing, ImageChanged, TooLarge
from isoline.exports.encoder import Encoder
from isoline.geometry.grid import XY, Box, Overlap
from isoline.geometry.region import Region
from isoline.geometry.seams import Pieces, TilePlace
from isoline.geometry.tiling import Lattice, Tile
from isoline.geometry.volume_grid import SliceName
from isoline.inference.task import TileFailed
from isoline.inference.tiles import TiledTask, TileResult
from isoline.models.model import Bounded, Model, ModelSpec, Output, Regions, Unbounded
from isoline.pipeline.assembly import Assembly, carry_of
from isoline.pipeline.flat import (
    check_flat,
    flat_started,
    plane_of,
    refuse_prompt_keys,
    scope_of,
)
from isoline.pipeline.kinds import Context, Kind, Lane, Plan
from isoline.pipeline.looking import look_at_point
from isoline.pipeline.surveys import Surveys
from isoline.sources.pixel_size import NO_SPACING

SMALLEST_TILE, LARGEST_TILE = 64, 4096
MOST_TILES = 200_000
"""Largest number of tiles in a job: a slide of 100,000 pixels a side has 38,000 of 512."""
SMALL_TILES = 4
"""Largest number of tiles in a small region, which a user is waiting for."""


@dataclass(frozen=True, kw_only=True)
class TiledPlan(Plan):
    """A plan for a region of a flat image, in tiles."""

    task: TiledTask
    lattice: Lattice
    tiles: tuple[Tile, ...]
    """The tiles whose write box overlaps the region, in raster order."""
    focus: XY | None
    """In grid pixels."""
    warnings: tuple[Warned, ...]
    """What is known before anything is computed."""
    surveys: Surveys

    @property
    def lane(self) -> Lane:
        small = self.task.region is not None and len(self.tiles) <= SMALL_TILES
        return Lane.SMALL if small else Lane.LARGE

    @property
    def tile_count(self) -> int:
        return len(self.tiles)

    def agenda(self, owner: str = "") -> Agenda:
        return Agenda(self.lattice, self.tiles, self.focus, urgent=self.lane.urgent, owner=owner)

    def look(self, agenda: Agenda, at: XY | SliceName | int) -> None:
        look_at_point(self.lattice.grid, agenda, at)

    @property
    def settles_by_tile(self) -> bool:
        return isinstance(self.task.output, Bounded)

    def tiles_of(self, points: NDArray[np.float64]) -> NDArray[np.int32]:
        lattice, region = self.lattice, self.task.region
        tiles = np.floor(points / lattice.grid.scale / lattice.tile_px).astype(np.int32)
        if region is not None:
            tiles[~region.contains(points)] = -1
        return tiles

    def events(
        self,
        engine: Engine,
        agenda: Agenda,
        replay: Iterable[Batch] = (),
        turn: AbstractContextManager[object] = nullcontext(),  # noqa: B008  it has no state
    ) -> Iterator[Batch]:
        seq = 0

        def batch(
            place: TilePlace | None, events: Iterable[Event], carry: Arrays | None = None
        ) -> Batch:
            nonlocal seq
            made = Batch(seq, place, tuple(events), carry)
            seq = made.last_seq + 1
            return made

        began = time.monotonic()
        survey = self.surveys.get(self.task, engine, agenda)
        if survey is None:  # cancelled before it was complete
            past = list(replay)
            seq = past[-1].last_seq + 1 if past else 0
            done = sum(earlier.tile is not None for earlier in past)
            first = [] if past else [self.started]
            yield batch(None, [*first, Cancelled(done, len(self.tiles))])
            return
        task = self.task.with_survey(survey)
        assembly = Assembly(task, self.lattice, self.tiles)
        for earlier in replay:
            with turn:
                assembly.replay(earlier)
            seq = earlier.last_seq + 1
        agenda.drop(lambda tile: not assembly.needs(tile))
        if seq == 0:
            started = replace(self.started, tiles=assembly.tiles)
            warned = [*self.warnings, *(Warned("Survey", each) for each in survey.remarks)]
            yield batch(None, [started, *warned])

        agenda.add(() if len(agenda) else assembly.pull())
        pace = _Pace(assembly)
        for result in engine.run(task, agenda):
            assert isinstance(result, TileResult | TileFailed)
            if isinstance(result, TileFailed) and result.code == ImageChanged.__name__:
                # the remaining tiles would be of another image; what was found before is not
                if last := assembly.finish():
                    yield batch(None, last)
                raise ImageChanged(result.message)
            with turn:
                events = assembly.take(result)
            if not len(agenda):
                agenda.add(assembly.pull())
            pieces = result.found if isinstance(result, TileResult) else None
            carry = carry_of(pieces) if isinstance(pieces, Pieces) else None
            yield batch(result.tile.place, [*events, pace.progress()], carry)

        end: Done | Cancelled = Cancelled(assembly.finished, assembly.tiles)
        last = assembly.finish()
        if assembly.finished == assembly.tiles:
            seconds = time.monotonic() - began
            end = Done(assembly.objects, assembly.tiles, assembly.failed, assembly.skipped, seconds)
        yield batch(None, [*last, end])


class TiledWork(Kind):
    """Models that work on slides and pictures tile by tile."""

    @classmethod
    def accepts(cls, request: SegmentRequest, model: type[Model]) -> bool:
        return not request.prompts and isinstance(model.spec.output, Bounded | Unbounded | Regions)

    @classmethod
    def plan(cls, context: Context, encoder: type[Encoder]) -> TiledPlan:
        request, spec, found = context.request, context.spec, context.found
        output = _output(context)
        refuse_prompt_keys(request, spec)
        check_flat(context, encoder, output.kind)
        plane, stated = plane_of(context)
        halo = _halo_px(found.name, spec, output, plane.spacing_um)
        lattice = Lattice(plane.grid, _tile_px(spec, request.tile), halo)
        tiles = _tiles(found.name, lattice, request.region)
        scope = scope_of(context, plane)
        task = TiledTask(
            **context.task_head(scope),
            plane=plane,
            output=output,
            region=request.region,
            is_slide=found.info.kind == "slide",
        )
        return TiledPlan(
            started=flat_started(context, scope, plane.grid, stated, output.kind, len(tiles)),
            format=encoder.name,
            task=task,
            lattice=lattice,
            tiles=tiles,
            focus=plane.grid.point(request.focus) if request.focus is not None else None,
            warnings=tuple(_warnings(context)),
            surveys=context.surveys,
        )

    @classmethod
    def footprint(cls, context: Context) -> Box:
        spec, region, output = context.spec, context.request.region, _output(context)
        plane, _ = plane_of(context)
        grid, size = plane.grid, context.found.info.size
        halo = _halo_px(context.found.name, spec, output, plane.spacing_um)
        if isinstance(output, Unbounded):
            halo += spec.tile_px  # objects may have any size, but most are smaller than a tile
        whole = Box(0, 0, *size)
        if region is None:
            return whole
        box = grid.cover(region.bounds)
        if not box.meets(grid.bounds):
            raise BadRegion(
                "the region lies outside the image", "the image has {} x {} pixels".format(*size)
            )
        area = grid.rect(box.grow(halo))
        near = Box(floor(area.x0) - 1, floor(area.y0) - 1, ceil(area.x1) + 1, ceil(area.y1) + 1)
        return near.intersect(whole)


def _warnings(context: Context) -> Iterator[Warned]:
    """Yield what the user should know of the region and of the image."""
    region = context.request.region
    for text in region.warnings if region is not None else ():
        yield Warned("Region", text)
    for text in context.found.info.problems:
        if text != NO_SPACING:  # a model that needs the pixel size asks for it
            yield Warned("Image", text)


class _Pace:
    """Estimates the remaining time from the speed of this run."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._began = time.monotonic()
        self._before = assembly.finished

    def progress(self) -> Progress:
        finished, tiles = self._assembly.finished, self._assembly.tiles
        seconds = (time.monotonic() - self._began) / (finished - self._before)
        return Progress(finished, tiles, round(seconds * (tiles - finished), 1))


def _output(context: Context) -> Output:
    output = context.model.output(context.parameters)
    assert output is not None, "a model that tiled work accepts has an output"
    return output


def _tile_px(spec: ModelSpec, asked: int | None) -> int:
    if asked is None or asked == spec.tile_px:
        return spec.tile_px
    if spec.fixed_tile:
        raise BadParameter(
            f"{spec.name} works only on tiles of {spec.tile_px}: its layers normalise over them",
            "leave tile out",
        )
    if not SMALLEST_TILE <= asked <= LARGEST_TILE:
        raise BadParameter(
            f"a tile of {asked} pixels is out of range",
            f"choose {SMALLEST_TILE} to {LARGEST_TILE}, or leave tile out",
        )
    return asked


def _halo_px(name: str, spec: ModelSpec, output: Output, spacing_um: XY | None) -> int:
    if not isinstance(output, Bounded):
        return spec.reach_px
    if spacing_um is None:
        raise BadSpacing(f"{name} has no pixel size", "pass spacing_um, in micrometres per pixel")
    seen_um = output.max_extent_um + output.reach_um
    return ceil(seen_um / min(spacing_um)) + spec.reach_px + 2


def _tiles(name: str, lattice: Lattice, region: Region | None) -> tuple[Tile, ...]:
    grid = lattice.grid
    if grid.bounds.empty:
        raise BadRegion(f"{name} has no pixels at this resolution", "choose a finer at_um")
    area = grid.bounds if region is None else grid.cover(region.bounds).intersect(grid.bounds)
    if area.area > MOST_TILES * lattice.tile_px**2:
        raise TooLarge(
            f"the region is {area.width} x {area.height} pixels at the working resolution",
            "choose a smaller region, a coarser at_um or a larger tile",
        )
    if region is None or (
        region.is_rectangle and not area.empty
    ):  # it overlaps all tiles of `area`
        return tuple(lattice.tiles(area, lambda _: Overlap.ALL))

    def overlap(block: Box) -> Overlap:
        return region.overlap(grid.rect(block))

    tiles = tuple(lattice.tiles(area, overlap))
    if not tiles:
        raise BadRegion(
            f"the region lies outside {name}",
            "the image has {} x {} pixels".format(*grid.image_size),
        )
    return tiles
