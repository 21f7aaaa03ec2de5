"""Prompt work: prompts are validated and converted to pixels, then the model runs once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from isoline.domain import mask_rle
from isoline.domain.batch import Batch
from isoline.domain.events import Cancelled, Contours, Done, Event, Failed, Objects, Warned
from isoline.domain.prompts import DrawnSlice, Prompt, check
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Agenda, Engine
from isoline.errors import BadPrompt
from isoline.exports.encoder import Encoder
from isoline.geometry.grid import XY, Box
from isoline.geometry.region import Region
from isoline.geometry.volume_grid import SliceName, VolumeGrid, VolumeInfo
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
from isoline.models.promptable import Index
from isoline.pipeline.flat import check_flat, flat_started, plane_of, scope_of
from isoline.pipeline.kinds import Context, Kind, Lane, OneTilePlan
from isoline.pipeline.looking import look_at_point, look_at_slice
from isoline.pipeline.volumes import check_volume, volume_scope, volume_started
from isoline.pipeline.voxel_boxes import box_in_voxels

MAX_INITIAL_PX = 1 << 26
"""Largest bounding box of an initial outline: 8192 x 8192 pixels."""
UPLOAD_REACH_PX = 1024
"""How far around prompts pixels are uploaded, since the object may be larger than the prompts."""
NOTHING_FOUND = "NothingFound"
_FLAT = 0.5
"""How far the corners of a lasso may be from a common plane, in voxels."""


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
        prompts=_place_in_volume(request, found.name, volume, context.spec),
        initial=_slices(request.initial, found.name, volume),
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
    prompts = _placed(request.prompts, places, found.info.size[::-1], _picture_size(context))
    covered = found.info.covered
    if covered is not None and not covered.meets(area_of(prompts, _outline(context))):
        raise BadPrompt(
            f"{found.name} has no pixels at the prompts",
            "upload those around them: create the upload with this request",
        )
    return prompts


def _picture_size(context: Context) -> str:
    return "{} has {} x {} pixels".format(context.found.name, *context.found.info.size)


def _place_in_volume(
    request: SegmentRequest, name: str, volume: VolumeInfo, spec: ModelSpec
) -> tuple[Prompt, ...]:
    """Return the prompts in (k, j, i) order. Raises BadPrompt."""
    check(request.prompts, 3)
    grid, frame, prompts = volume.grid, request.frame_of_reference, request.prompts
    if frame is not None and frame != grid.frame_of_reference:
        raise BadPrompt(
            f"the prompts are in the frame of reference {frame} and {name} in"
            f" {grid.frame_of_reference or 'none'}",
            "draw them on this series, or leave frame_of_reference out and send voxel indices",
        )
    if frame is not None:
        prompts = tuple(
            _from_patient(prompt, f"prompts[{number}]", grid, spec)
            for number, prompt in enumerate(prompts)
        )
    # an index refers to the centre of a voxel, a position in an image view to its corner
    places = [np.array(prompt.points)[:, ::-1] + 0.5 for prompt in prompts]
    shown = "{} has {} x {} x {} voxels".format(name, *grid.size)
    for number, (prompt, at) in enumerate(zip(prompts, places, strict=True)):
        if prompt.kind == "box" and len(at) == 4:
            raise BadPrompt(
                f"prompts[{number}]: four corners of a box are in millimetres",
                "name their frame_of_reference, or send two opposite corners in voxels",
            )
        if prompt.kind == "polygon" and _unevenness(at) > _FLAT:
            raise BadPrompt(
                f"prompts[{number}]: the corners of the polygon do not lie in one plane",
                "draw it in one slice",
            )
    return _placed(prompts, places, grid.shape, shown)


def _from_patient(prompt: Prompt, where: str, grid: VolumeGrid, spec: ModelSpec) -> Prompt:
    """Return a prompt in LPS millimetres in voxel indices. Raises BadPrompt."""
    if prompt.kind == "box":
        placed = box_in_voxels(prompt, where, grid)
        if placed.kind not in spec.prompts:
            raise BadPrompt(
                f"{where}: the sides of the box do not run along the voxels of the image, and"
                f" {spec.name} supports no other",
                "draw it in a slice of the image, along its rows and columns",
            )
        return placed
    points = grid.to_index(np.array(prompt.points)).tolist()
    return replace(prompt, points=tuple(map(tuple, points)))


def _placed(
    prompts: Sequence[Prompt], places: Sequence[NDArray[np.float64]], size: Index, shown: str
) -> tuple[Prompt, ...]:
    """Return `prompts` at `places`, each (n, axes) in array order, clipped near the image."""
    seen: dict[tuple[int, ...], int] = {}
    for number, (prompt, at) in enumerate(zip(prompts, places, strict=True)):
        where = f"prompts[{number}]"
        low, high = at.min(axis=0), at.max(axis=0)
        # half-open like the image, but a line along its border still counts
        if (high < 0).any() or (low >= size).any():
            raise BadPrompt(f"{where} lies outside the image", shown)
        if prompt.kind != "point":
            continue
        if (low < 0).any():
            raise BadPrompt(f"{where} lies outside the image", shown)
        pixel = tuple(np.floor(at[0]).astype(int).tolist())
        other = seen.setdefault(pixel, number)
        if prompts[other].include != prompt.include:
            includes, excludes = (number, other) if prompt.include else (other, number)
            raise BadPrompt(
                f"prompts[{includes}] includes and prompts[{excludes}] excludes the same"
                f" {'pixel' if len(pixel) == 2 else 'voxel'},"
                f" {', '.join(map(str, reversed(pixel)))}",
                "remove one of them",
            )
    reach = np.array(size)
    return tuple(
        replace(prompt, points=tuple(map(tuple, at.clip(-reach, 2 * reach).tolist())))
        for prompt, at in zip(prompts, places, strict=True)
    )


def _unevenness(points: NDArray[np.float64]) -> float:
    """Return the largest distance of (n, 3) points from their best-fitting plane."""
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return float(np.abs(centred @ axes[-1]).max())


def _slices(
    initial: Region | tuple[DrawnSlice, ...] | None, name: str, volume: VolumeInfo
) -> tuple[DrawnSlice, ...] | None:
    """Return the slices of `initial`, identified by k."""
    if initial is None:
        return None
    if isinstance(initial, Region):
        raise BadPrompt(
            f"initial: it is an outline, and {name} is a volume",
            'send a mask, {"slices": [...]}',
        )
    columns, rows, _ = volume.grid.size
    checked = []
    for number, drawn in enumerate(initial):
        where, (i0, j0, i1, j1) = f"initial.slices[{number}]", drawn.box
        if not (0 <= i0 < i1 <= columns and 0 <= j0 < j1 <= rows):
            raise BadPrompt(
                f"{where}.box: {[*drawn.box]} is not a box in a slice",
                f"use i0 < i1 <= {columns} and j0 < j1 <= {rows}",
            )
        try:
            mask_rle.lengths(drawn.runs, (i1 - i0) * (j1 - j0))
        except ValueError as error:
            raise BadPrompt(f"{where}.runs: {error}", "see docs/protocol.md, mask") from None
        checked.append(replace(drawn, slice=volume.k_of(drawn.slice, name)))
    return tuple(checked)
