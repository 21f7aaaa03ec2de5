"""The way of one request on a volume: checked as a whole, then slices of labels as they come.

A volume is one tile whose worker tells what it finds on the way: see `models.volume`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from isoline.domain.batch import Batch
from isoline.domain.events import Cancelled, Done, Event, Failed, Mask, Progress, Scope, Started
from isoline.domain.request import SegmentRequest, Value
from isoline.engines.base import Agenda, Engine
from isoline.errors import NotSupported
from isoline.exports.base import Encoder
from isoline.geometry.grid import XY, Grid
from isoline.geometry.tiling import Lattice
from isoline.images.catalog import Found
from isoline.inference.prompt_task import Asked
from isoline.inference.sampling import Selection
from isoline.inference.task import Masked, Task, TileFailed
from isoline.models.base import ModelSpec

PERCENT = 100
"""The work of a volume is counted in hundredths."""


@dataclass(frozen=True)
class VolumePlan:
    """A request on a volume in which nothing is wrong."""

    task: Task
    lattice: Lattice
    started: Started


def plan(
    request: SegmentRequest,
    spec: ModelSpec,
    parameters: Mapping[str, Value],
    found: Found,
    encoder: type[Encoder],
    asked: Asked | None,
) -> VolumePlan:
    """Check what `request` asks of the volume `found`. Raises a RequestError."""
    info, volume = found.info, found.info.volume
    if volume is None:
        raise NotSupported(
            f"{spec.name} works on volumes, and {found.name} is none", "choose another model"
        )
    if not encoder.masks:
        raise NotSupported(f"{encoder.name} writes outlines, not masks", "ask for format ohif")
    for name in ("region", "focus", "tile", "spacing_um", "at_um", "channel", "z", "simplify_px"):
        if getattr(request, name) is not None:
            raise NotSupported(
                f"{name} says nothing about a volume",
                "leave it out; slice says where the user looks",
            )
    look = volume.grid.size[2] // 2
    if request.slice is not None:
        look = volume.k_of(request.slice, found.name)
    grid = Grid(info.size, XY(1.0, 1.0))
    scope = Scope(info.fingerprint, spec.name, spec.full_version, tuple(sorted(parameters.items())))
    task = Task(
        path=found.path,
        reader=info.reader,
        fingerprint=info.fingerprint,
        selection=Selection((0,), 0),
        grid=grid,
        spacing_um=None,
        model=request.model,
        spec=spec,
        output=spec.output,
        parameters=parameters,
        scope=scope,
        region=None,
        look=look,
        asked=asked,
        on_gpu=spec.on_gpu,
    )
    started = Started(
        job="",
        image=request.image,
        scope=scope,
        labels=spec.labels,
        grid=grid,
        tiles=PERCENT if asked is None else 1,
        spacing_um=info.spacing_um,
        kind="mask",
        volume=volume,
    )
    return VolumePlan(task, Lattice(grid, max(info.size), 0), started)


def events(
    task: Task, started: Started, engine: Engine, agenda: Agenda, replay: Iterable[Batch] = ()
) -> Iterator[Batch]:
    """Run `task` and yield what it gives, numbered without gaps.

    `replay` is what an earlier run of the same job gave before it was cut off: slices that were
    final then are not given again, and not computed again where the model can leave them out.
    """
    seq = percent = 0
    have, labels = set[int](), set[int]()
    for earlier in replay:
        seq = earlier.last_seq + 1
        for event in earlier.events:
            if isinstance(event, Progress):
                percent = event.tiles_done
            elif isinstance(event, Mask) and not event.provisional:
                have.update(event.slices.tolist())
                labels.update(event.layers[:, 1].tolist())
    task = replace(task, have=frozenset(have))

    def batch(*told: Event) -> Batch:
        nonlocal seq
        made = Batch(seq, None, told)
        seq = made.last_seq + 1
        return made

    began = time.monotonic()
    if seq == 0:
        yield batch(started)
    before = percent
    for result in engine.run(task, agenda):
        if isinstance(result, TileFailed):
            yield batch(Failed(result.code, result.message))
            return
        assert isinstance(result, Masked)
        told: list[Event] = []
        if result.mask is not None:
            told.append(result.mask)
            if not result.mask.provisional:
                labels.update(result.mask.layers[:, 1].tolist())
        if (now := before + int((PERCENT - before) * result.done)) > percent:
            percent = now
            told.append(_progress(before, percent, time.monotonic() - began))
        if told:
            yield batch(*told)
    if agenda.cancelled and percent < PERCENT:
        yield batch(Cancelled(percent, PERCENT))
    else:
        yield batch(Done(len(labels), PERCENT, 0, 0, time.monotonic() - began))


def _progress(before: int, percent: int, seconds: float) -> Progress:
    left = seconds / (percent - before) * (PERCENT - percent)
    return Progress(percent, PERCENT, round(left, 1))
