"""Prompt work in a worker: one request about a picture or a volume, one result."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import floor
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from isoline.domain import mask_rle
from isoline.domain.events import Mask, Objects
from isoline.domain.prompts import DrawnSlice, Prompt
from isoline.errors import BadPrompt, Broken
from isoline.geometry import polygons as contours
from isoline.geometry.grid import XY, Box, Grid, Rect
from isoline.geometry.region import Region
from isoline.geometry.tiling import Tile
from isoline.inference import results
from isoline.inference.image_views import FlatView, VolumeView
from isoline.inference.resources import Resources
from isoline.inference.results import WorkingPlane
from isoline.inference.task import Attention, Result, Task
from isoline.models.promptable import (
    ImageView,
    Index,
    PromptableModel,
    PromptedObject,
    Question,
    Window,
)  # fmt: skip
from isoline.sources.volume import VolumeSource

NOTHING = "nothing was found where the prompts point"


@dataclass(frozen=True)
class PromptResult(Result):
    """The object that prompts indicate."""

    tile: Tile
    found: Objects | Mask | None
    """An object in a picture, or the slices of a volume that contain it; None if nothing was
    found."""
    reason: str
    """Why nothing was found: a sentence."""
    seconds: float
    """Time taken, including reading."""

    @property
    def stage_seconds(self) -> Mapping[str, float]:
        return {"answer": self.seconds}


@dataclass(frozen=True, kw_only=True)
class PromptTask(Task):
    """A task for the prompts of one request."""

    prompts: tuple[Prompt, ...]
    """In level-0 pixels and array order, (y, x) or (k, j, i); the first pixel's centre is at
    0.5."""

    interactive: ClassVar[bool] = True

    @abstractmethod
    def view(self, resources: Resources) -> ImageView:
        """Return the image as the model sees it. Raises Unreadable."""

    @abstractmethod
    def initial_mask(self, size: Index) -> tuple[Window, NDArray[np.bool_]] | None:
        """Return the mask that the prompts correct, in an image of `size`; None if there is
        none."""

    @abstractmethod
    def result(
        self, view: ImageView, mask: NDArray[np.bool_], low: Index, factor: Index
    ) -> Objects | Mask:
        """Return the object of `mask`, exact in level-0 pixels.

        `mask` starts at `low`, in pixels of a level each of which is `factor` level-0 pixels.
        """

    def compute(self, resources: Resources, tile: Tile, attention: Attention) -> Iterator[Result]:
        began = time.perf_counter()
        model = self.load_model(resources)
        if not isinstance(model, PromptableModel):
            raise Broken(f"{self.model} declares prompts but is not a promptable model")
        view = self.view(resources)
        found, reason = self.found(view, model.answer(view, self.question(view.size(0))))
        yield PromptResult(tile, found, reason, time.perf_counter() - began)

    def question(self, size: Index) -> Question:
        """Return the request to a model for an image with `size` pixels at level 0.

        Raises BadPrompt if the initial mask is empty.
        """
        initial = self.initial_mask(size)
        if initial is not None and not initial[1].any():
            raise BadPrompt("initial contains no pixel", "leave it out")
        return Question(self.prompts, self.parameters, initial)

    def found(self, view: ImageView, answer: PromptedObject) -> tuple[Objects | Mask | None, str]:
        """Return the object of `answer`, or None and the reason why there is none.

        Pixels outside the image are ignored.
        """
        low, mask = _on_image(view, answer)
        if not mask.any():
            return None, answer.reason or NOTHING
        return self.result(view, mask, low, view.factor(answer.window.level)), ""


@dataclass(frozen=True, kw_only=True)
class FlatPromptTask(PromptTask):
    """Prompts on a slide or a picture; the result is an outline."""

    plane: WorkingPlane
    initial: Region | None
    """In image pixels."""

    def view(self, resources: Resources) -> ImageView:
        plane = self.plane
        open_source = partial(self.source, resources)
        return FlatView(self.fingerprint, self.model, plane, open_source, resources.seen)

    def initial_mask(self, size: Index) -> tuple[Window, NDArray[np.bool_]] | None:
        return None if self.initial is None else _filled(self.initial, size)

    def area(self) -> Box:
        """Return the bounding box of the prompts and the initial outline."""
        return area_of(self.prompts, self.initial)

    def result(
        self, view: ImageView, mask: NDArray[np.bool_], low: Index, factor: Index
    ) -> Objects:
        # parts that touch only at a corner, or not at all, belong to one object
        traced = contours.trace(mask.astype(np.int32), (low[1], low[0]))
        # the last pixel of a coarse level may extend beyond the image, so its far edge is clipped
        size = self.plane.grid.size
        corners = np.minimum(traced.polygons.corners * factor[::-1], size).astype(np.int32)
        polygons = replace(traced.polygons, corners=corners)
        return results.build(
            self.scope,
            self.plane,
            polygons,
            np.zeros(1, np.uint16),
            polygons.areas2() // 2,
            contours.anchors(polygons),
            incomplete=results.is_cut(self.plane, polygons),
        )


@dataclass(frozen=True, kw_only=True)
class VolumePromptTask(PromptTask):
    """Prompts in a volume; the result is only the slices that contain the object."""

    initial: tuple[DrawnSlice, ...] | None
    """Slices identified by k."""

    def view(self, resources: Resources) -> ImageView:
        opened = self.source(resources)
        if not isinstance(opened, VolumeSource):
            raise Broken(f"{self.path.name} is a volume, but its reader does not return one")
        return VolumeView(self.fingerprint, self.model, opened, resources.seen)

    def initial_mask(self, size: Index) -> tuple[Window, NDArray[np.bool_]] | None:
        return _stacked(self.initial) if self.initial else None

    def result(self, view: ImageView, mask: NDArray[np.bool_], low: Index, factor: Index) -> Mask:
        return _slices(mask, low, factor, view.size(0))


def area_of(prompts: Sequence[Prompt], initial: Region | None) -> Box:
    """Return the bounding box, in pixels, of `prompts`, in (y, x) order, and `initial`."""
    y, x = np.concatenate([prompt.points for prompt in prompts]).T
    area = Rect(x.min(), y.min(), x.max(), y.max())
    if initial is not None:
        also = initial.bounds
        area = Rect(
            min(area.x0, also.x0),
            min(area.y0, also.y0),
            max(area.x1, also.x1),
            max(area.y1, also.y1),
        )
    return Box(floor(area.x0), floor(area.y0), floor(area.x1) + 1, floor(area.y1) + 1)


def _on_image(view: ImageView, answer: PromptedObject) -> tuple[Index, NDArray[np.bool_]]:
    """Return the start of the part of the result's mask on the image, and that part."""
    window, size = answer.window, view.size(answer.window.level)
    if not answer.mask.size:
        return window.low, np.zeros((1,) * len(size), np.bool_)
    low = tuple(max(0, each) for each in window.low)
    part = tuple(
        slice(start - first, max(start, min(end, most)) - first)
        for start, first, end, most in zip(low, window.low, window.high, size, strict=True)
    )
    return low, answer.mask[part]


def _slices(mask: NDArray[np.bool_], low: Index, factor: Index, size: Index) -> Mask:
    """Return the level-0 slices (k, j, i) that contain part of `mask`."""
    k0, j0, i0 = (first * each for first, each in zip(low, factor, strict=True))
    holding = np.flatnonzero(mask.any(axis=(1, 2)))
    planes = mask[holding].repeat(factor[1], axis=1).repeat(factor[2], axis=2)
    planes = planes[:, : size[1] - j0, : size[2] - i0]
    k = (k0 + holding[:, None] * factor[0] + np.arange(factor[0])).ravel()
    inside = k < size[0]
    labels = planes.repeat(factor[0], axis=0)[inside].view(np.uint8)
    coded = mask_rle.encode(labels, k[inside].tolist())
    layers = coded.layers + np.array([0, 0, i0, j0, i0, j0], np.int32)
    return replace(coded, layers=layers)


def whole_grid(size: tuple[int, int]) -> Grid:
    """Return the level-0 grid of an image with `size` columns and rows."""
    return Grid(size, XY(1.0, 1.0))


def _filled(region: Region, size: Index) -> tuple[Window, NDArray[np.bool_]]:
    """Return the pixels inside `region` and their window, in a level 0 of (y, x) `size`."""
    grid = whole_grid((size[1], size[0]))
    box = grid.cover(region.bounds).intersect(grid.bounds)
    return Window(0, (box.y0, box.x0), (box.y1, box.x1)), region.mask(grid, box)


def _stacked(slices: Sequence[DrawnSlice]) -> tuple[Window, NDArray[np.bool_]]:
    """Return the voxels of drawn `slices`, identified by k, and their window."""
    low = tuple(min(corner) for corner in zip(*(_ends(drawn)[0] for drawn in slices), strict=True))
    high = tuple(max(corner) for corner in zip(*(_ends(drawn)[1] for drawn in slices), strict=True))
    window = Window(0, low, high)
    mask = np.zeros(window.shape, np.bool_)
    for drawn in slices:
        (k, j0, i0), (_, j1, i1) = _ends(drawn)
        part = mask[k - low[0], j0 - low[1] : j1 - low[1], i0 - low[2] : i1 - low[2]]
        part |= mask_rle.decode(drawn.runs, drawn.box)
    return window, mask


def _ends(drawn: DrawnSlice) -> tuple[Index, Index]:
    """Return the corners [low, high), (k, j, i), of a slice identified by its k."""
    assert isinstance(drawn.slice, int)
    i0, j0, i1, j1 = drawn.box
    return (drawn.slice, j0, i0), (drawn.slice + 1, j1, i1)
