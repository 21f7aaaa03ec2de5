"""Volume work: validating a request into a plan, and streaming slices as they are labelled.

A volume is one tile whose worker reports intermediate results: see `models.volumetric`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from isoline.domain.batch import Batch
from isoline.domain.events import (
    Cancelled,
    Done,
    Event,
    Failed,
    Mask,
    Progress,
    Scope,
    Started,
    Warned,
)
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Agenda, Engine
from isoline.errors import NotSupported
from isoline.exports.encoder import Encoder
from isoline.exports.registry import check_kind
from isoline.geometry.grid import XY, Grid
from isoline.geometry.volume_grid import SliceName, VolumeInfo
from isoline.inference.task import TileFailed
from isoline.inference.volumes import VolumePart, VolumeTask
from isoline.models.model import Model, Voxels
from isoline.pipeline.flat import refuse_prompt_keys
from isoline.pipeline.kinds import Context, Kind, Lane, OneTilePlan
from isoline.pipeline.looking import look_at_slice
from isoline.sources.volume import check_size

PERCENT = 100
"""Progress on a volume is counted in hundredths."""


@dataclass(frozen=True, kw_only=True)
class VolumePlan(OneTilePlan):
    """A plan for a whole volume."""

    task: VolumeTask
    volume: VolumeInfo
    warnings: tuple[str, ...] = ()
    """What the user should know about the image."""

    @property
    def lane(self) -> Lane:
        return Lane.LARGE

    def look(self, agenda: Agenda, at: XY | SliceName | int) -> None:
        look_at_slice(self.volume, self.started.image, agenda, at)

    def events(
        self,
        engine: Engine,
        agenda: Agenda,
        replay: Iterable[Batch] = (),
        turn: AbstractContextManager[object] = nullcontext(),  # noqa: B008  it has no state
    ) -> Iterator[Batch]:
        # slices that were already final are not sent again, and not computed again if the model can
        # skip them
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
        task = self.task.without(frozenset(have))

        def batch(*events: Event) -> Batch:
            nonlocal seq
            made = Batch(seq, None, events)
            seq = made.last_seq + 1
            return made

        began = time.monotonic()
        if seq == 0:
            yield batch(self.started, *(Warned("Image", each) for each in self.warnings))
        before = percent
        for result in engine.run(task, agenda):
            if isinstance(result, TileFailed):
                yield batch(Failed(result.code, result.message))
                return
            assert isinstance(result, VolumePart)
            events: list[Event] = [Warned("Image", each) for each in result.notes]
            if result.mask is not None:
                events.append(result.mask)
                if not result.mask.provisional:
                    labels.update(result.mask.layers[:, 1].tolist())
            if (now := before + int((PERCENT - before) * result.done)) > percent:
                percent = now
                events.append(_progress(before, percent, time.monotonic() - began))
            if events:
                yield batch(*events)
        if agenda.cancelled and percent < PERCENT:
            yield batch(Cancelled(percent, PERCENT))
        else:
            yield batch(Done(len(labels), PERCENT, 0, 0, time.monotonic() - began))


class VolumeWork(Kind):
    """Models that label every voxel of a volume."""

    @classmethod
    def accepts(cls, request: SegmentRequest, model: type[Model]) -> bool:
        return not request.prompts and isinstance(model.spec.output, Voxels)

    @classmethod
    def plan(cls, context: Context, encoder: type[Encoder]) -> VolumePlan:
        refuse_prompt_keys(context.request, context.spec)
        volume, look = check_volume(context, encoder)
        scope = volume_scope(context)
        return VolumePlan(
            started=volume_started(context, scope, volume, PERCENT),
            format=encoder.name,
            task=VolumeTask(**context.task_head(scope), look=look),
            volume=volume,
            warnings=context.found.info.problems,
        )


def check_volume(context: Context, encoder: type[Encoder]) -> tuple[VolumeInfo, int]:
    """Check a request on a volume; return the volume and the slice k of the focus."""
    request, found = context.request, context.found
    volume = found.info.volume
    if volume is None:
        raise NotSupported(
            f"{context.spec.name} works on volumes, and {found.name} is not one",
            "choose another model",
        )
    check_kind(encoder, "mask")
    for name in ("region", "focus", "tile", "spacing_um", "at_um", "channel", "z", "simplify_px"):
        if getattr(request, name) is not None:
            raise NotSupported(
                f"{name} does not apply to a volume",
                "leave it out; slice is the focus in a volume",
            )
    if request.override_spacing:
        raise NotSupported("override_spacing does not apply to a volume", "leave it out")
    check_size(request.image, volume.grid, context.limits.volume_mib)
    look = volume.grid.size[2] // 2
    if request.slice is not None:
        look = volume.k_of(request.slice, found.name)
    return volume, look


def volume_scope(context: Context) -> Scope:
    """Return the scope of results in the volume."""
    chosen = tuple(sorted(context.parameters.items()))
    spec = context.spec
    return Scope(context.found.info.fingerprint, spec.name, spec.full_version, chosen)


def volume_started(context: Context, scope: Scope, volume: VolumeInfo, tiles: int) -> Started:
    """Return the first event of a job on a volume."""
    info = context.found.info
    return Started(
        job="",
        image=context.request.image,
        scope=scope,
        labels=context.spec.labels,
        grid=Grid(info.size, XY(1.0, 1.0)),
        tiles=tiles,
        spacing_um=info.spacing_um,
        kind="mask",
        volume=volume,
    )


def _progress(before: int, percent: int, seconds: float) -> Progress:
    left = seconds / (percent - before) * (PERCENT - percent)
    return Progress(percent, PERCENT, round(left, 1))
