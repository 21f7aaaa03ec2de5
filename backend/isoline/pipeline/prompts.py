"""Prompt work: prompts are validated and converted to pixels, then the model runs once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from isoline.domain.batch import Batch
from isoline.domain.events import Cancelled, Contours, Done, Event, Failed, Objects, Warned
from isoline.domain.prompts import Prompt, check
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Agenda, Engine
from isoline.errors import BadPrompt
from isoline.exports.encoder import Encoder
from isoline.geometry.grid import XY, Box
from isoline.geometry.region import Region
from isoline.geometry.volume_grid import SliceName, VolumeInfo
from isoline.inference.prompts import (
    FlatPromptTask,
    PromptResult,
    PromptTask,
    VolumePromptTask,
    area_of,
    whole_grid,
)  # fmt: skip
from isoline.inference.results import cut_off
from isoline.inference.task import TileFailed
from isoline.models.model import Model, ModelSpec
from isoline.pipeline.flat import check_flat, flat_started, plane_of, scope_of
from isoline.pipeline.kinds import Context, Kind, Lane, OneTilePlan
from isoline.pipeline.looking import look_at_point, look_at_slice
from isoline.pipeline.prompt_places import placed
from isoline.pipeline.volume_prompts import drawn_slices, place_in_volume
from isoline.pipeline.volumes import check_volume, volume_scope, volume_started

MAX_INITIAL_PX = 1 << 26
"""Largest bounding box of an initial outline: 8192 x 8192 pixels."""
UPLOAD_REACH_PX = 1024
"""How far around prompts pixels are uploaded, since the object may be larger than the prompts."""
NOTHING_FOUND = "NothingFound"


@dataclass(frozen=True, kw_only=True)
class PromptPlan(OneTilePlan):
    """A request with prompts, whose result is returned from memory."""

    task: PromptTask
    volume: VolumeInfo | None

    transient: ClassVar[bool] = True

    @property
    def lane(self) -> Lane:
        return Lane.INTERACTIVE

    def look(self, agenda: Agenda, at: XY | SliceName | int) -> None:
        if self.volume is None:
            look_at_point(self.started.grid, agenda, at)
        else:
            look_at_slice(self.volume, self.started.image, agenda, at)

    def events(
        self,
        engine: Engine,
        agenda: Agenda,
        replay: Iterable[Batch] = (),
        turn: AbstractContextManager[object] = nullcontext(),  # noqa: B008  it has no state
    ) -> Iterator[Batch]:
        # after a restart the model runs again: `replay` only determines the next event number
        began = time.monotonic()
        seq = max((earlier.last_seq for earlier in replay), default=-1) + 1
        if seq == 0:
            yield Batch(0, None, (self.started,))
            seq = 1
        events: tuple[Event, ...] = (Cancelled(0, 1),)
        for result in engine.run(self.task, agenda):
            if isinstance(result, TileFailed):
                events = (Failed(result.code, result.message),)
            else:
                assert isinstance(result, PromptResult)
                objects = int(result.found is not None)
                events = (*_events_of(result), Done(objects, 1, 0, 0, time.monotonic() - began))
        yield Batch(seq, None, events)


class PromptWork(Kind):
    """Models that segment the one object that prompts indicate."""

    @classmethod
    def accepts(cls, request: SegmentRequest, model: type[Model]) -> bool:
        needs_prompts = bool(model.spec.prompts) and model.spec.output is None
        return bool(request.prompts) or needs_prompts

    @classmethod
    def plan(cls, context: Context, encoder: type[Encoder]) -> PromptPlan:
        request, spec, found = context.request, context.spec, context.found
        _check_kinds(request, spec)
        volume = found.info.volume if 3 in spec.prompt_dimensions else None
        if volume is not None or 2 not in spec.prompt_dimensions:
            return _plan_volume(context, encoder)
        check_flat(context, encoder, "objects")
        plane, stated = plane_of(context, whole_grid(found.info.size))
        scope = scope_of(context, plane)
        prompts = _place_in_picture(context)
        task = FlatPromptTask(
            **context.task_head(scope),
            prompts=prompts,
            plane=plane,
            initial=_outline(context),
        )
        return PromptPlan(
            started=flat_started(context, scope, plane.grid, stated, "objects", 1, prompted=True),
            format=encoder.name,
            task=task,
            volume=None,
        )

    @classmethod
    def footprint(cls, context: Context) -> Box:
        _check_kinds(context.request, context.spec)
        plane_of(context, whole_grid(context.found.info.size))
        area = area_of(_place_in_picture(context), _outline(context))
        return area.grow(UPLOAD_REACH_PX).intersect(Box(0, 0, *context.found.info.size))


def _plan_volume(context: Context, encoder: type[Encoder]) -> PromptPlan:
    request, found = context.request, context.found
    volume, _ = check_volume(context, encoder)
    scope = volume_scope(context)
    task = VolumePromptTask(
        **context.task_head(scope),
        prompts=place_in_volume(request, found.name, volume, context.spec),
        initial=drawn_slices(request.initial, found.name, volume),
    )
    return PromptPlan(
        started=volume_started(context, scope, volume, 1),
        format=encoder.name,
        task=task,
        volume=volume,
    )


def _events_of(result: PromptResult) -> tuple[Event, ...]:
    if result.found is None:
        return (Warned(NOTHING_FOUND, result.reason),)
    if isinstance(result.found, Objects):
        cut = int(result.found.incomplete.sum())
        return (Contours(result.found), *cut_off(cut))
    return (replace(result.found, whole=True),)


def _check_kinds(request: SegmentRequest, spec: ModelSpec) -> None:
    if not spec.prompts:
        raise BadPrompt(
            f"prompts: {spec.name} takes no prompts",
            "leave it out, or choose a model whose `prompts` are not empty",
        )
    if not request.prompts:
        raise BadPrompt(
            f"{spec.name} needs prompts: it segments the object that they indicate",
            f"send prompts ({', '.join(spec.prompts)}), or choose a model that needs none",
        )
    for key in ("region", "tile", "at_um"):
        if getattr(request, key) is not None:
            raise BadPrompt(
                f"{key} cannot be combined with prompts, which determine the place", "leave it out"
            )
    for number, prompt in enumerate(request.prompts):
        if prompt.kind not in spec.prompts:
            raise BadPrompt(
                f"prompts[{number}]: {spec.name} does not support a {prompt.kind}",
                f"it supports {', '.join(spec.prompts)}",
            )
    if not request.initial and not any(prompt.include for prompt in request.prompts):
        raise BadPrompt(
            "every prompt excludes, and there is nothing to exclude from",
            "include something, or send the result to correct as initial",
        )


def _outline(context: Context) -> Region | None:
    """Return the initial outline that the prompts correct. Raises BadPrompt."""
    initial, size = context.request.initial, context.found.info.size
    if initial is None:
        return None
    if isinstance(initial, tuple):
        raise BadPrompt(
            f"initial: it has slices of a volume, and {context.found.name} is a picture",
            "send GeoJSON or [x0, y0, x1, y1] in image pixels",
        )
    grid = whole_grid(size)
    area = grid.cover(initial.bounds).intersect(grid.bounds)
    if area.empty:
        raise BadPrompt("initial lies outside the image", _picture_size(context))
    if area.area > MAX_INITIAL_PX:
        raise BadPrompt(
            f"initial: its bounding box has {area.area / 1e6:.0f} million pixels;"
            f" {MAX_INITIAL_PX / 1e6:.0f} million are allowed",
            "correct a smaller object",
        )
    return initial


def _place_in_picture(context: Context) -> tuple[Prompt, ...]:
    """Return the prompts in (y, x) order. Raises BadPrompt."""
    request, found = context.request, context.found
    check(request.prompts, 2)
    if request.frame_of_reference is not None:
        raise BadPrompt(
            f"{found.name} is a picture and has no frame of reference",
            "leave frame_of_reference out and send prompts in image pixels",
        )
    places = [np.array(prompt.points)[:, ::-1] for prompt in request.prompts]
    prompts = placed(request.prompts, places, found.info.size[::-1], _picture_size(context))
    covered = found.info.covered
    if covered is not None and not covered.meets(area_of(prompts, _outline(context))):
        raise BadPrompt(
            f"{found.name} has no pixels at the prompts",
            "upload those around them: create the upload with this request",
        )
    return prompts


def _picture_size(context: Context) -> str:
    return "{} has {} x {} pixels".format(context.found.name, *context.found.info.size)
