"""The user's prompts as voxels: strokes, which become seeds, and areas, which bound the object."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

import cv2
import numpy as np
from numpy.typing import NDArray

from isoline.domain.prompts import Prompt
from isoline.kernels import bodies
from isoline.kernels.walker import FREE, OBJECT, OTHER
from isoline.models.click.features import Space
from isoline.models.click.selection import Selection
from isoline.models.promptable import Bool, Places, Window, along, thinned

STROKE_RADIUS = 1.5
"""In voxels; with a smaller radius, too few random walks would meet the seeds."""


@dataclass(frozen=True)
class Slice:
    """The object in one slice of a volume."""

    across: int
    """The axis along which the slice is one voxel thick."""
    found: Selection
    """The selection at level 0; its window lies in the slice."""


@dataclass(frozen=True)
class Stroke:
    """Positions on the object, or off it."""

    places: Places
    include: bool
    known: Slice | None = None
    """The object in a slice whose middle the stroke is, if that is where it came from."""

    def draw(
        self, marks: NDArray[np.uint8], space: Space, window: Window, radius: float, value: int
    ) -> None:
        """Set `marks` of `window` within `radius` to `value`; the unit is the shortest voxel
        side."""
        places = self.places / space.factor(window.level) - window.low
        bodies.mark_ball(marks, places, radius, space.steps(window.level), value)

    def draw_on(self, likely: NDArray[np.float32], space: Space, window: Window) -> None:
        """Set the probabilities `likely` of `window` to 1 or 0 on the stroke."""
        marks = np.zeros(window.shape, np.uint8)
        self.draw(marks, space, window, STROKE_RADIUS, 1)
        likely[marks > 0] = self.include

    def inside(self, space: Space) -> Stroke | None:
        """Return the part of the stroke on the image, None if there is none."""
        on = ((self.places >= 0) & (self.places < space.size(0))).all(axis=1)
        return replace(self, places=self.places[on]) if on.any() else None


@dataclass(frozen=True)
class Area:
    """A box or, on a picture, a polygon.

    The object lies inside including areas and outside excluding ones.
    """

    corners: Places
    """The polygon's corners, or two opposite ones of a box."""
    is_box: bool
    include: bool

    def inside(self, space: Space) -> Area | None:
        """Return the area itself, None if it does not overlap the image."""
        low, high = self.corners.min(axis=0), self.corners.max(axis=0)
        return self if bool((high >= 0).all() and (low < space.size(0)).all()) else None

    def holds(self, space: Space, window: Window) -> Bool:
        """Return the voxels of `window`, at any level, with their centre in the area, at least
        one."""
        factor = np.array(space.factor(window.level))
        corners = self.corners / factor - window.low
        if not self.is_box:
            flat = np.zeros(window.shape[1:], np.uint8)
            # pixel centres are at integers, in fixed point with sixteenths
            ring = np.rint((corners[:, :0:-1] - 0.5) * 16).astype(np.int32)
            cv2.fillPoly(flat, [ring], 1, shift=4)
            return flat.astype(np.bool_)[None]
        low, high = corners.min(axis=0), corners.max(axis=0)
        inside = np.ones(window.shape, np.bool_)
        for axis, n in enumerate(window.shape):
            if axis == 0 and space.is_flat:
                continue
            first = min(ceil(low[axis] - 0.5), int(np.floor(high[axis] - 1e-9)))
            at = np.arange(n)
            within = (at >= first) & ((at + 0.5 < high[axis]) | (at == first))
            inside &= within.reshape([-1 if each == axis else 1 for each in range(3)])
        return inside


def bounds_of(space: Space, window: Window, areas: list[Area]) -> NDArray[np.uint8]:
    """Return seeds for `window`, at any level: FREE where `areas` allow the object, else OTHER."""
    seeds = np.full(window.shape, FREE, np.uint8)
    bounds = [area.holds(space, window) for area in areas if area.include]
    if bounds:
        seeds[~np.logical_or.reduce(bounds)] = OTHER
    for area in areas:
        if not area.include:
            seeds[area.holds(space, window)] = OTHER
    return seeds


def seeds_of(
    space: Space, window: Window, areas: list[Area], strokes: list[Stroke]
) -> NDArray[np.uint8]:
    """Return the seeds in `window`, at any level; later gestures overwrite earlier ones.

    The last stroke is drawn as many voxels wide as at level 0, the others at their actual width.
    """
    seeds = bounds_of(space, window, areas)
    coarse = max(space.factor(window.level))
    for stroke in strokes:
        radius = STROKE_RADIUS if stroke is strokes[-1] else max(0.5, STROKE_RADIUS / coarse)
        stroke.draw(seeds, space, window, radius, OBJECT if stroke.include else OTHER)
    return seeds


def gesture_of(prompt: Prompt, space: Space, only: int | None) -> Stroke | Area | None:
    """Return `prompt` in the axes of `space`; None if it does not lie in the slice `only`."""
    corners = np.array(prompt.points, np.float64)
    is_volume = corners.shape[1] == 3
    if is_volume and only is not None:
        on = np.floor(corners[:, 0]) == only
        if prompt.kind == "box":
            on |= (corners[:, 0].min() < only + 1) & (corners[:, 0].max() >= only)
        elif prompt.kind == "polygon":
            on |= np.floor(corners[:, 0].mean()) == only
        if not on.any():
            return None
        corners = corners[on]
    if space.is_flat:
        corners = np.column_stack([np.full(len(corners), 0.5), corners[:, -2:]])
    if prompt.kind == "box" and (space.is_flat or np.ptp(corners, axis=0).min() >= 1):
        return Area(corners, True, prompt.include)
    if prompt.kind == "polygon" and space.is_flat:
        return Area(corners, False, prompt.include)
    if prompt.kind in ("box", "polygon"):
        return Stroke(_deep_places(corners, prompt), prompt.include)
    return Stroke(along(corners), prompt.include)


def _deep_places(corners: Places, prompt: Prompt) -> Places:
    """Return positions inside a flat outline in a volume.

    For an excluding outline, all of them; otherwise those at least half as deep as the deepest,
    since the object need not fill the outline.
    """
    if prompt.kind == "box":
        thin = int(np.ptp(corners, axis=0).argmin())
        u, v = (axis for axis in range(3) if axis != thin)
        ring = np.repeat(corners[:1], 4, axis=0)
        ring[1:3, u], ring[2:, v] = corners[1, u], corners[1, v]
        corners = ring
    centre = corners.mean(axis=0)
    axes = np.linalg.svd(corners - centre, full_matrices=False)[2][:2]
    flat = (corners - centre) @ axes.T
    scale = min(1.0, 500 / max(1.0, float(np.ptp(flat, axis=0).max())))
    origin = flat.min(axis=0) - 1 / scale
    drawn = np.zeros(np.ceil(np.ptp(flat, axis=0) * scale).astype(int)[::-1] + 3, np.uint8)
    cv2.fillPoly(drawn, [np.rint((flat - origin) * scale).astype(np.int32)], 1)
    depth = cv2.distanceTransform(drawn, cv2.DIST_L2, 5)
    rows, columns = np.nonzero(depth > (depth.max() / 2 if prompt.include else 0))
    places = np.column_stack([columns, rows]) / scale + origin
    return thinned(centre + places @ axes)
