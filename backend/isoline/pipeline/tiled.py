"""The whole way of one request: prepare(), where every mistake is found, then events().

image, model, grid, plan  ->  survey  ->  engine: read, infer, contour  ->  assembly  ->  batches
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path

from isoline.domain.batch import Arrays, Batch
from isoline.domain.events import Cancelled, Done, Event, Progress, Scope, Started, Warned
from isoline.domain.request import SegmentRequest, Value
from isoline.engines.base import Agenda, Engine
from isoline.errors import BadParameter, BadRegion, BadSpacing, NotSupported, TooLarge, WrongImage
from isoline.exports.base import Encoder
from isoline.exports.registry import EXPORTS
from isoline.geometry.grid import XY, Box, Grid, Overlap, Rect
from isoline.geometry.region import Region
from isoline.geometry.seams import Pieces, Place
from isoline.geometry.tiling import Lattice, Tile
from isoline.images.catalog import ANYONE, Caller, Found, Images
from isoline.inference.sampling import Selection, choose
from isoline.inference.task import Computed, Task, TileFailed
from isoline.models.base import Bounded, ModelSpec, Output, Regions, Unbounded
from isoline.models.catalogue import ModelCatalogue
from isoline.models.parameters import check_parameters
from isoline.pipeline import prompt_events, volumes
from isoline.pipeline.assembly import Assembly, carry_of
from isoline.pipeline.prompts import asked_of
from isoline.pipeline.resolution import image_spacing, working_grid
from isoline.pipeline.surveys import Surveys
from isoline.sources.base import ImageInfo
from isoline.sources.upload import UploadRequest

SMALLEST_TILE, LARGEST_TILE = 64, 4096
MOST_TILES = 200_000
"""Of one job: a slide of 100,000 pixels a side has 38,000 of 512."""
PROMPT_REACH_PX = 1024
"""How far around prompts pixels are uploaded: an object may be that much larger than they show."""


@dataclass(frozen=True)
class Prepared:
    """A request in which nothing is wrong."""

    task: Task
    lattice: Lattice
    tiles: tuple[Tile, ...]
    """Those whose write box meets the region, in raster order."""
    started: Started
    focus: XY | None
    """In grid pixels."""
    format: str
    warnings: tuple[str, ...]


def prepare(
    request: SegmentRequest,
    images: Images,
    models: ModelCatalogue,
    caller: Caller = ANYONE,
) -> Prepared:
    """Find everything that `request` of `caller` names and check it; nothing is computed yet.

    Raises a RequestError, NotFound, Conflict or Unreadable that says what is wrong.
    """
    model = models.get(request.model)
    spec = model.spec
    models.files(spec)
    encoder = EXPORTS.load(request.format)
    parameters = check_parameters(spec, request.parameters)
    output = model.output(parameters)

    found = images.find(request.image, caller)
    info = found.info
    asked = asked_of(request, spec, found)
    if 2 not in spec.dimensions or (3 in spec.dimensions and info.volume is not None):
        volume = volumes.plan(request, spec, parameters, found, encoder, asked)
        whole = volume.lattice.tile(0, 0)
        return Prepared(
            volume.task, volume.lattice, (whole,), volume.started, None, request.format, ()
        )
    _check_flat(request, spec, info, encoder)
    _check_size(found.name, info, request.image_size)
    selection = choose(info, spec.channels, request.channel, request.z)
    stated = image_spacing(found.name, info, request.spacing_um)
    grid = working_grid(found.name, info, spec, stated, request.at_um)
    spacing = None if stated is None else XY(stated.x * grid.scale.x, stated.y * grid.scale.y)

    if asked is None:
        halo = _halo_px(found.name, spec, output, spacing)
        lattice = Lattice(grid, _tile_px(spec, request.tile), halo)
    else:
        lattice = Lattice(grid, max(info.size), 0)
    tiles = _tiles(found.name, lattice, request.region)
    scope = _scope(info.fingerprint, spec, parameters, grid, selection, request.simplify_px)
    task = Task(
        path=found.path,
        reader=info.reader,
        fingerprint=info.fingerprint,
        selection=selection,
        grid=grid,
        spacing_um=spacing,
        model=request.model,
        spec=spec,
        output=output,
        parameters=parameters,
        scope=scope,
        region=request.region,
        simplify_px=request.simplify_px,
        is_slide=info.kind == "slide",
        on_gpu=spec.on_gpu,
        asked=asked,
        covered=None if info.covered is None else _covered(grid, info.covered),
    )
    started = Started(
        job="",
        image=request.image,
        scope=scope,
        labels=spec.labels,
        grid=grid,
        tiles=len(tiles),
        spacing_um=stated,
        kind="regions" if isinstance(output, Regions) else "objects",
        z=request.z or 0,
        pointed=asked is not None,
    )
    focus = grid.point(request.focus) if request.focus is not None else None
    warnings = request.region.warnings if request.region is not None else ()
    return Prepared(task, lattice, tiles, started, focus, request.format, warnings)


def footprint(asked: UploadRequest, models: ModelCatalogue) -> Box:
    """Return the image pixels that the results of a request depend on.

    They are its region and its halo, or what lies around its prompts.

    Raises a RequestError, NotFound or Conflict that says what is wrong with the request.
    """
    request, name = asked.request, "the image"
    model = models.get(request.model)
    output = model.output(check_parameters(model.spec, request.parameters))
    info = asked.info
    choose(info, model.spec.channels, request.channel, request.z)
    whole = Box(0, 0, *asked.size)
    prompted = asked_of(request, model.spec, Found(name, Path(), info))
    if prompted is not None:
        return prompted.area().grow(PROMPT_REACH_PX).intersect(whole)
    stated = image_spacing(name, info, request.spacing_um)
    grid = working_grid(name, info, model.spec, stated, request.at_um)
    spacing = None if stated is None else XY(stated.x * grid.scale.x, stated.y * grid.scale.y)
    halo = _halo_px(name, model.spec, output, spacing)
    if isinstance(output, Unbounded):
        halo += model.spec.tile_px  # objects may be of any size: most are smaller than a tile
    if request.region is None:
        return whole
    box = grid.cover(request.region.bounds)
    if not box.meets(grid.bounds):
        raise BadRegion(
            "the region lies outside the image", "its size is {} x {}".format(*asked.size)
        )
    area = grid.rect(box.grow(halo))
    near = Box(floor(area.x0) - 1, floor(area.y0) - 1, ceil(area.x1) + 1, ceil(area.y1) + 1)
    return near.intersect(whole)


def events(
    prepared: Prepared,
    engine: Engine,
    surveys: Surveys,
    agenda: Agenda,
    replay: Iterable[Batch] = (),
    turn: AbstractContextManager[object] = nullcontext(),  # noqa: B008  it has no state
) -> Iterator[Batch]:
    """Run `prepared` and yield what it gives, a batch a tile, numbered without gaps.

    `agenda` holds the tiles of `prepared`; others may move its focus or cancel it meanwhile.
    `replay` is what an earlier run of the same job gave before it was cut off: its tiles are not
    computed again, and the batches go on where it ended. Tiles are put together within `turn`: a
    lock of all who do that in one process.
    """
    if prepared.task.asked is not None:
        yield from prompt_events.events(prepared.task, prepared.started, engine, agenda, replay)
        return
    if prepared.started.volume is not None:
        yield from volumes.events(prepared.task, prepared.started, engine, agenda, replay)
        return
    seq = 0

    def batch(place: Place | None, told: Iterable[Event], carry: Arrays | None = None) -> Batch:
        nonlocal seq
        made = Batch(seq, place, tuple(told), carry)
        seq = made.last_seq + 1
        return made

    began = time.monotonic()
    survey = surveys.get(prepared.task, engine, agenda)
    if survey is None:  # cancelled before it was there
        past = list(replay)
        seq = past[-1].last_seq + 1 if past else 0
        done = sum(earlier.tile is not None for earlier in past)
        first = [] if past else [prepared.started]
        yield batch(None, [*first, Cancelled(done, len(prepared.tiles))])
        return
    task = prepared.task.surveyed(survey)
    assembly = Assembly(task, prepared.lattice, prepared.tiles)
    for earlier in replay:
        with turn:
            assembly.replay(earlier)
        seq = earlier.last_seq + 1
    agenda.drop(lambda tile: not assembly.needs(tile))
    if seq == 0:
        started = replace(prepared.started, tiles=assembly.tiles)
        yield batch(None, [started, *(Warned("Region", each) for each in prepared.warnings)])

    agenda.add(() if len(agenda) else assembly.pull())
    pace = _Pace(assembly)
    for result in engine.run(task, agenda):
        assert isinstance(result, Computed | TileFailed)
        with turn:
            told = assembly.take(result)
        if not len(agenda):
            agenda.add(assembly.pull())
        pieces = result.found if isinstance(result, Computed) else None
        carry = carry_of(pieces) if isinstance(pieces, Pieces) else None
        yield batch(result.tile.place, [*told, pace.progress()], carry)

    end: Done | Cancelled = Cancelled(assembly.finished, assembly.tiles)
    last = assembly.finish()
    if assembly.finished == assembly.tiles:
        seconds = time.monotonic() - began
        end = Done(assembly.objects, assembly.tiles, assembly.failed, assembly.skipped, seconds)
    yield batch(None, [*last, end])


class _Pace:
    """How fast the tiles of this run finish."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._began = time.monotonic()
        self._before = assembly.finished

    def progress(self) -> Progress:
        finished, tiles = self._assembly.finished, self._assembly.tiles
        seconds = (time.monotonic() - self._began) / (finished - self._before)
        return Progress(finished, tiles, round(seconds * (tiles - finished), 1))


def _check_flat(
    request: SegmentRequest, spec: ModelSpec, info: ImageInfo, encoder: type[Encoder]
) -> None:
    if info.volume is not None:
        raise NotSupported(
            f"{spec.name} works on slides and pictures, and {request.image} is a volume",
            "choose a model of volumes",
        )
    if encoder.masks:
        raise NotSupported(f"{encoder.name} writes masks, not outlines", "ask for another format")
    if request.slice is not None:
        raise NotSupported("slice says nothing about a picture", "leave it out")


def _check_size(name: str, info: ImageInfo, shown: tuple[int, int] | None) -> None:
    if shown is not None and shown != info.size:
        raise WrongImage(
            "{} is {} x {} pixels here, and {} x {} in the viewer".format(name, *info.size, *shown),
            "it is another file or another series of it: correct [file_uris], or upload the pixels",
        )


def _covered(grid: Grid, area: Box) -> Box:
    return grid.cover(Rect(area.x0, area.y0, area.x1, area.y1)).intersect(grid.bounds)


def _tile_px(spec: ModelSpec, asked: int | None) -> int:
    if asked is None or asked == spec.tile_px:
        return spec.tile_px
    if spec.fixed_tile:
        raise BadParameter(
            f"{spec.name} works on tiles of {spec.tile_px} only: its layers normalise over them",
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
        raise BadRegion(f"{name} has no pixel at this resolution", "choose a finer at_um")
    area = grid.bounds if region is None else grid.cover(region.bounds).intersect(grid.bounds)
    if area.area > MOST_TILES * lattice.tile_px**2:
        raise TooLarge(
            f"the region is {area.width} x {area.height} pixels at the working resolution",
            "choose a smaller region, a coarser at_um or a larger tile",
        )
    if region is None or (region.is_rectangle and not area.empty):  # every tile of `area` meets it
        return tuple(lattice.tiles(area, lambda _: Overlap.ALL))

    def overlap(block: Box) -> Overlap:
        return region.overlap(grid.rect(block))

    tiles = tuple(lattice.tiles(area, overlap))
    if not tiles:
        raise BadRegion(
            f"the region lies outside {name}", "its size is {} x {} px".format(*grid.image_size)
        )
    return tiles


def _scope(
    fingerprint: str,
    spec: ModelSpec,
    parameters: Mapping[str, Value],
    grid: Grid,
    selection: Selection,
    simplify_px: float | None,
) -> Scope:
    chosen: dict[str, Value] = {
        **parameters,
        "scale_x": grid.scale.x,
        "scale_y": grid.scale.y,
        "channels": ",".join(map(str, selection.channels)),
        "z": selection.z,
    }
    if simplify_px:
        chosen["simplify_px"] = simplify_px
    return Scope(fingerprint, spec.name, spec.full_version, tuple(sorted(chosen.items())))
