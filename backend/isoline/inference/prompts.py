"""Work on prompts: one question about a picture or a volume, one answer."""

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
    """What prompts pointed at."""

    tile: Tile
    found: Objects | Mask | None
    """One object of a picture or the slices of a volume that hold it; None where there is none."""
    reason: str
    """Why nothing was found, a sentence."""
    seconds: float
    """What the answer took, reading included."""

    @property
    def stage_seconds(self) -> Mapping[str, float]:
        return {"answer": self.seconds}


@dataclass(frozen=True, kw_only=True)
class PromptTask(Task):
    """What the prompts of one request ask."""

    prompts: tuple[Prompt, ...]
    """In pixels of level 0 and in array order: (y, x) or (k, j, i), the first centre at 0.5."""

    interactive: ClassVar[bool] = True

    @abstractmethod
    def view(self, resources: Resources) -> ImageView:
        """Return the image as the model sees it. Raises Unreadable."""

    @abstractmethod
    def initial_mask(self, size: Index) -> tuple[Window, NDArray[np.bool_]] | None:
        """Return what the prompts correct, in an image of `size`; None where they begin."""

    @abstractmethod
    def result(
        self, view: ImageView, mask: NDArray[np.bool_], low: Index, factor: Index
    ) -> Objects | Mask:
        """Return the object of `mask`, exact in pixels of level 0.

        `mask` begins at `low`, in pixels of a level of which each is `factor` pixels of level 0.
        """

    def compute(self, resources: Resources, tile: Tile, attention: Attention) -> Iterator[Result]:
        began = time.perf_counter()
        model = self.load_model(resources)
        if not isinstance(model, PromptableModel):
            raise Broken(f"{self.model} declares prompts and answers none")
        view = self.view(resources)
        found, reason = self.found(view, model.answer(view, self.question(view.size(0))))
        yield PromptResult(tile, found, reason, time.perf_counter() - began)

    def question(self, size: Index) -> Question:
        """Return what to ask a model about an image of `size` pixels at level 0.

        Raises BadPrompt where there is nothing in what the prompts correct.
        """
        initial = self.initial_mask(size)
        if initial is not None and not initial[1].any():
            raise BadPrompt("initial holds no pixel", "leave it out")
        return Question(self.prompts, self.parameters, initial)

    def found(self, view: ImageView, answer: PromptedObject) -> tuple[Objects | Mask | None, str]:
        """Return the one object of `answer`, or None and the reason why there is none.

        What lies outside the image belongs to nothing.
        """
        low, mask = _on_image(view, answer)
        if not mask.any():
            return None, answer.reason or NOTHING
        return self.result(view, mask, low, view.factor(answer.window.level)), ""


@dataclass(frozen=True, kw_only=True)
class FlatPromptTask(PromptTask):
    """Prompts on a slide or a picture: the answer is an outline."""

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
        """Return the pixels of the picture between all that the request says."""
        return area_of(self.prompts, self.initial)

    def result(
        self, view: ImageView, mask: NDArray[np.bool_], low: Index, factor: Index
    ) -> Objects:
        # parts that touch at a corner only, or not at all, are parts of one object
        traced = contours.trace(mask.astype(np.int32), (low[1], low[0]))
        # the last pixel of a coarse level may reach beyond the image: its far edge is moved back
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
    """Prompts in a volume: the answer is the slices that hold the object, and no other."""

    initial: tuple[DrawnSlice, ...] | None
    """Slices named by k."""

    def view(self, resources: Resources) -> ImageView:
        opened = self.source(resources)
        if not isinstance(opened, VolumeSource):
            raise Broken(f"{self.path.name} is a volume and its reader gives none")
        return VolumeView(self.fingerprint, self.model, opened, resources.seen)

    def initial_mask(self, size: Index) -> tuple[Window, NDArray[np.bool_]] | None:
        return _stacked(self.initial) if self.initial else None

    def result(self, view: ImageView, mask: NDArray[np.bool_], low: Index, factor: Index) -> Mask:
        return _slices(mask, low, factor, view.size(0))


def area_of(prompts: Sequence[Prompt], initial: Region | None) -> Box:
    """Return the pixels of a picture between `prompts`, given as (y, x), and `initial`."""
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
    """Return where the part of the answer's mask that lies on the image begins, and that part."""
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
    """Return the slices (k, j, i) of level 0 that hold something of `mask`."""
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
    """Return the grid of level 0 of an image of `size`, columns and rows."""
    return Grid(size, XY(1.0, 1.0))


def _filled(region: Region, size: Index) -> tuple[Window, NDArray[np.bool_]]:
    """Return the pixels inside `region` and their window, at level 0 of (y, x) `size`."""
    grid = whole_grid((size[1], size[0]))
    box = grid.cover(region.bounds).intersect(grid.bounds)
    return Window(0, (box.y0, box.x0), (box.y1, box.x1)), region.mask(grid, box)


def _stacked(slices: Sequence[DrawnSlice]) -> tuple[Window, NDArray[np.bool_]]:
    """Return the voxels of drawn `slices`, named by k, and their window."""
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
    """Return the corners [low, high) of a slice named by its k, (k, j, i)."""
    assert isinstance(drawn.slice, int)
    i0, j0, i1, j1 = drawn.box
    return (drawn.slice, j0, i0), (drawn.slice + 1, j1, i1)
