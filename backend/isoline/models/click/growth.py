"""Strokes change a selection one after another, as far as the image supports each change.

A stroke may change everything within a radius. For each of several radii, from a few pixels to the
whole image, on coarser levels for larger ones, a random walker computes the change; nothing changes
beyond the radius. A change scores higher the higher the contrast at its border, the closer its
centre is to the stroke and the larger it is. The changes of the level with the best one are
averaged, weighted by their scores; for a large object, `level_sets` may find a better result from
all strokes together. The result is then refined level by level.

The first stroke changes an empty selection, so nothing else indicates how large its object is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from isoline.kernels import bodies, walker
from isoline.kernels.walker import FREE, OBJECT, OTHER
from isoline.models.click.features import Space
from isoline.models.click.gestures import Area, Stroke, seeds_of
from isoline.models.click.level_sets import Turn, better
from isoline.models.click.refining import LEAST, STEEPNESS, finish
from isoline.models.click.selection import Bool, Selection, box_of
from isoline.models.promptable import Window

_THRESHOLDS = ((0.1, 0.2, 0.35, 0.5, 0.65), (0.05, 0.1, 0.2, 0.35, 0.5))
"""Probabilities from which a voxel may belong to the object, in pictures and in volumes. They are
low because random walks seldom meet seeds of a few pixels."""
_RADII = ((4, 6, 9, 13, 19, 28, 40), (4, 6, 9, 13, 19))
"""In voxels, for pictures and volumes, at level 0; coarser levels try the last two."""
_SMALLEST = 6.0
"""A correction may always have this radius, in voxels, however near the strokes are."""
_SCALE = (0.8, 2.5)
"""Radii of a correction, in units of the distance from the nearest including stroke."""
_CENTRED = (1.0, 2.0)
"""Weight (exponent) of how central a stroke is in its change: for the first stroke, for others."""
_LARGE = 0.7
"""Weight (exponent) of the diameter of a correction."""
_SHARPNESS = 5.0
"""How fast the weight of a change falls as its score drops below the best."""
FAINTEST = 3.0
"""Contrast below this many times the typical difference between neighbouring pixels is noise: it
reaches 2.8 on pure noise, and nuclei in H&E have 3.4 and more."""


@dataclass(frozen=True)
class Change:
    """The change for one radius and threshold."""

    radius: int
    mask: Bool
    """The selection after the change, in the level's window."""
    score: float


def grow(space: Space, turns: list[Turn], areas: list[Area]) -> Selection:
    """Return the selection as changed by the last of `turns`.

    If the image shows no border around the change, only the stroke itself changes, and only if
    something was selected before.
    """
    strokes = [turn.stroke for turn in turns]
    stroke, selection = turns[-1].stroke, turns[-1].before
    if stroke.include == _is_all(space, selection, stroke):
        return selection
    best: tuple[float, _View, list[Change]] | None = None
    view = None
    for view in _views(space, selection, strokes, areas):
        changes = list(view.changes())
        top = max(changes, key=lambda change: change.score, default=None)
        if top is None:
            continue
        if best is not None and top.score <= best[0]:
            break
        best = top.score, view, changes
        if top.radius < view.radii[-1]:
            break  # the object fits
    if view is None or (best is None and not selection.mask.any()):
        return selection
    window = view.window
    if best is None:
        likely = view.before.astype(np.float32)
        stroke.draw_on(likely, space, window)
    else:
        _, view, changes = best
        window, likely = view.window, average(changes)
    joint = better(space, turns, window, likely > 0.5, areas)
    if joint is not None:
        window, part = joint
        likely = _only(stroke, selection.at(space, window), part).astype(np.float32)
    grown = finish(space, selection, window, likely, areas, strokes)
    before = selection.at(space, grown.window)
    return Selection(grown.window, _only(stroke, before, grown.mask))


def _only(stroke: Stroke, before: Bool, after: Bool) -> Bool:
    """Return `after` restricted to the stroke's intent: an including stroke removes nothing."""
    return after | before if stroke.include else after & before


def _is_all(space: Space, selection: Selection, stroke: Stroke) -> bool:
    """Return whether all of `stroke` is selected or, if it excludes, whether any of it is."""
    places = np.floor(stroke.places / space.factor(selection.window.level)).astype(int)
    places -= selection.window.low
    on = ((places >= 0) & (places < selection.mask.shape)).all(axis=1)
    hits = selection.mask[tuple(places[on].T)]
    return bool(on.all() and hits.all()) if stroke.include else bool(hits.any())


def average(changes: list[Change]) -> NDArray[np.float32]:
    """Return the mean of the masks of `changes`, weighted by score."""
    best = max(changes, key=lambda change: change.score)
    likely = np.zeros(best.mask.shape, np.float32)
    total = np.float32(0)
    for change in changes:
        weight = np.float32(np.exp(_SHARPNESS * (change.score / best.score - 1)))
        likely += weight * change.mask
        total += weight
    likely /= total
    return likely


def roughness(features: NDArray[np.float32]) -> float:
    """Return the median distance between neighbours along i of `features` (c, k, j, i)."""
    if features.shape[-1] < 2:
        return 0.0
    square = (np.diff(features, axis=-1) ** 2).sum(axis=0)
    return float(np.sqrt(np.median(square)))


@dataclass(frozen=True)
class _View:
    """The surroundings of a stroke at one level."""

    space: Space
    window: Window
    radii: tuple[int, ...]
    strokes: list[Stroke]
    """All strokes so far; the last one requests the change."""
    areas: list[Area]
    features: NDArray[np.float32]
    before: Bool
    """The selection before the change."""

    @cached_property
    def roughness(self) -> float:
        return roughness(self.features)

    def changes(self) -> Iterator[Change]:
        """Yield the change for each radius and threshold, where there is one."""
        stroke = self.strokes[-1]
        fixed = seeds_of(self.space, self.window, self.areas, self.strokes)
        middle = np.zeros(self.window.shape, np.uint8)
        stroke.draw(middle, self.space, self.window, 0.0, 1)
        for radius in self.radii:
            near = np.zeros(self.window.shape, np.uint8)
            stroke.draw(near, self.space, self.window, float(radius), 1)
            part = box_of(near > 0, 1)
            seeds, before = fixed[part].copy(), self.before[part]
            beyond = (near[part] == 0) & (seeds == FREE)
            seeds[beyond] = np.where(before[beyond], OBJECT, OTHER)
            chance = self.chance(part, seeds)
            for threshold in _THRESHOLDS[0 if self.space.is_flat else 1]:
                least = threshold if stroke.include else 1 - threshold
                mask = self.before.copy()
                mask[part] = bodies.settle(chance > least, seeds)
                change = self.change(radius, _only(stroke, self.before, mask), middle > 0)
                if change is not None:
                    yield change

    def chance(self, part: tuple[slice, ...], seeds: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probability of the object in `part` of the window."""
        k, j, i = part
        features = np.ascontiguousarray(self.features[:, k, j, i])
        steps = self.space.steps(self.window.level)
        paths = walker.conductances(features, STEEPNESS, LEAST, steps)
        start = self.before[part].astype(np.float32)
        return walker.potentials(paths, seeds, start, 1e-2, 300)

    def change(self, radius: int, mask: Bool, middle: Bool) -> Change | None:
        """Return the change to `mask`, with its score.

        None if it changes nothing, or if the image shows no border there.
        """
        altered = mask != self.before
        depth = bodies.depths(altered, self.space.steps(self.window.level))
        deepest = float(depth.max())
        if deepest == 0:
            return None
        apart = bodies.contrast(self.features, mask)
        if apart <= (0 if self.before.any() else FAINTEST * self.roughness):
            return None
        centred = max(0.1, float(depth[middle].mean()) / deepest)
        if self.before.any():
            volume = float(altered.sum()) * np.prod(self.space.factor(self.window.level))
            size = volume ** (1 / (2 if self.space.is_flat else 3))
            score = apart * centred ** _CENTRED[1] * size**_LARGE
        else:
            score = apart * centred ** _CENTRED[0]
        return Change(radius, mask, score)


def _scale(space: Space, strokes: list[Stroke]) -> tuple[float, float]:
    """Return the smallest and largest radius for the last stroke, in level-0 voxels."""
    *others, stroke = strokes
    near = [other.places for other in others if other.include]
    if not near:
        return 0.0, np.inf
    gaps = stroke.places[:, None, :] - np.concatenate(near)[None, :, :]
    apart = float(np.sqrt(((gaps * space.steps(0)) ** 2).sum(axis=2)).max(axis=0).min())
    return _SCALE[0] * apart, max(_SCALE[1] * apart, _SMALLEST)


def _views(
    space: Space, selection: Selection, strokes: list[Stroke], areas: list[Area]
) -> Iterator[_View]:
    """Yield views around the last of `strokes`, finest first, until one covers the image."""
    stroke = strokes[-1]
    fine = _RADII[0 if space.is_flat else 1]
    least, most = _scale(space, strokes) if selection.mask.any() else (0.0, np.inf)
    low, high = stroke.places.min(0), stroke.places.max(0)
    for level in range(space.levels):
        factor, size, steps = space.factor(level), space.size(level), space.steps(level)
        if max((high - low) / factor) > 4 * fine[-1] and level + 1 < space.levels:
            continue
        coarse = max(factor)
        radii = tuple(each for each in fine if least <= each * coarse <= most)
        if level:
            radii = tuple(each for each in radii if each >= fine[-2])
        if not radii:
            continue
        reach = np.ceil((fine[-1] + bodies.RING + 2) / steps) * (size != np.array(1))
        first = np.clip(np.floor(low / factor) - reach, 0, np.array(size) - 1).astype(int)
        last = np.clip(np.floor(high / factor) + reach + 1, first + 1, size).astype(int)
        window = Window(level, tuple(map(int, first)), tuple(map(int, last)))
        yield _View(
            space,
            window,
            radii,
            strokes,
            areas,
            space.features(window),
            selection.at(space, window),
        )
        if window.shape == size:
            return
