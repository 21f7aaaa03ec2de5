"""A box or lasso in one slice of a volume: first the object in that slice, then the rest of it.

The slice, perpendicular to any axis, is treated as a picture, and the object in the outline is
found as in any other. The middle of that object becomes a stroke in the volume; the result in the
slice itself is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from isoline.kernels import bodies
from isoline.models.click import enclosing
from isoline.models.click.features import Space
from isoline.models.click.gestures import Area, Slice, Stroke
from isoline.models.click.selection import Selection
from isoline.models.promptable import ImageView, Index, Places, Window, thinned

T = TypeVar("T")

_MIDDLE = 0.85
"""Smallest depth of the stroke, as a share of the largest depth."""


class Turned(ImageView):
    """A volume with its axes permuted so that `first` comes first."""

    def __init__(self, scene: ImageView, first: int) -> None:
        self._scene = scene
        self._order = (first, *(axis for axis in range(3) if axis != first))
        self.levels = scene.levels
        self.spacing = tuple(scene.spacing[axis] for axis in self._order)

    def size(self, level: int) -> Index:
        return self._turned(self._scene.size(level))

    def factor(self, level: int) -> Index:
        return self._turned(self._scene.factor(level))

    def read(self, window: Window) -> NDArray[np.generic]:
        pixels = self._scene.read(self.back(window))
        turned: NDArray[np.generic] = pixels.transpose(0, *(1 + axis for axis in self._order))
        return turned

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        return self._scene.keep(("turned", self._order, key), make)

    def back(self, window: Window) -> Window:
        """Return `window` of this view in the axes of the original view."""
        low, high = np.empty(3, int), np.empty(3, int)
        low[[*self._order]], high[[*self._order]] = window.low, window.high
        return Window(window.level, tuple(map(int, low)), tuple(map(int, high)))

    def _turned(self, index: Index) -> Index:
        return tuple(index[axis] for axis in self._order)


def thin_axis(corners: Places) -> int | None:
    """Return the axis along which `corners` lie in one slice, None if there is none."""
    slices = np.ptp(np.floor(corners), axis=0) == 0
    return int(slices.argmax()) if slices.any() else None


def stroke_of(scene: ImageView, corners: Places, across: int, is_box: bool) -> Stroke | None:
    """Return a stroke in the middle of the object within an outline in one slice of `scene`.

    `corners` share a slice along the axis `across`. The stroke carries the object in that slice.
    None if the image shows no border there.
    """
    turned = Turned(scene, across)
    index = int(np.floor(corners[0, across]))
    if not 0 <= index < turned.size(0)[0]:
        return None
    flat = np.delete(corners, across, axis=1)
    area = Area(np.column_stack([np.full(len(flat), 0.5), flat]), is_box, True)
    space = Space(turned, index)
    if area.inside(space) is None:
        return None
    key = "outline", index, is_box, area.corners.tobytes()
    found = turned.keep(key, partial(enclosing.enclose, space, [area]))
    if not found.mask.any():
        return None
    return _stroke(space, turned, found, index, across)


def _stroke(space: Space, turned: Turned, found: Selection, index: int, across: int) -> Stroke:
    factor = space.factor(found.window.level)
    low = np.multiply(found.window.low, factor)
    high = np.minimum(np.multiply(found.window.high, factor), space.size(0))
    window = Window(0, tuple(map(int, low)), tuple(map(int, high)))
    mask = found.at(space, window)
    depth = bodies.depths(mask, space.steps(0))
    middle = np.argwhere(depth >= _MIDDLE * depth.max())
    places = middle + np.array([index, *window.low[1:]]) + 0.5
    placed = Window(0, (index, *window.low[1:]), (index + 1, *window.high[1:]))
    known = Slice(across, Selection(turned.back(placed), np.moveaxis(mask, 0, across)))
    back = np.empty_like(places)
    back[:, [across, *(axis for axis in range(3) if axis != across)]] = places
    return Stroke(thinned(back), True, known)


def settle(space: Space, known: Slice, before: Selection, grown: Selection) -> Selection:
    """Return `grown` with the slice reset to its known object and the earlier selection."""
    its, factor = known.found.window, space.factor(grown.window.level)
    low = np.minimum(its.low, np.multiply(grown.window.low, factor))
    high = np.maximum(its.high, np.multiply(grown.window.high, factor))
    high = np.minimum(high, space.size(0))
    low[known.across], high[known.across] = its.low[known.across], its.high[known.across]
    window = Window(0, tuple(map(int, low)), tuple(map(int, high)))
    mask = known.found.at(space, window) | before.at(space, window)
    return grown.changed(space, window, mask, np.ones_like(mask))
