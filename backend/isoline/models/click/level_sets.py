"""A large object from all strokes together: one connected part of the image above a threshold.

Successive corrections can follow an object; but if it is larger than a random walker reaches at
full resolution, two or three strokes determine it at once. For many thresholds, the candidates are
the connected parts above or below that contain all including strokes and no excluding one. The
strokes themselves decide between candidates, since users point at the middle of what is missing or
superfluous. The candidate should also resemble the result of the last stroke alone.

For pictures and slices only: it was no better on the volumes that it was tried on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from isoline.kernels import bodies
from isoline.kernels.walker import FREE, OBJECT, OTHER
from isoline.models.click.features import Space
from isoline.models.click.gestures import Area, Stroke, bounds_of
from isoline.models.click.selection import Bool, Selection, box_of
from isoline.models.promptable import Window

_LARGE = np.pi * 40**2
"""Number of level-0 pixels from which an object counts as large."""
_SIDE = 96
"""Largest extent of the window along an axis, in pixels."""
_THRESHOLDS = 24
_STROKES = 6
"""How many of the last strokes decide between candidates."""
_LEAST = 0.2
"""Score of a stroke at the rim of its change; one in the middle scores 1."""


@dataclass(frozen=True)
class Turn:
    """A stroke and the selection when it was drawn."""

    stroke: Stroke
    before: Selection


def better(
    space: Space, turns: list[Turn], changed: Window, mask: Bool, areas: list[Area]
) -> tuple[Window, Bool] | None:
    """Return a window and a mask that fit `turns` better than `mask` of `changed` does.

    None if there is none, in volumes, if the object is small, or if something was selected before
    the first stroke, since such a selection is corrected only near the strokes.
    """
    if not space.is_flat or len(turns) < 2 or turns[0].before.mask.any():
        return None
    before = turns[-1].before
    selection = before.changed(space, changed, mask, np.ones(mask.shape, np.bool_))
    if not _is_large(space, selection):
        return None
    window = _around(space, [selection, before], [turn.stroke for turn in turns])
    seeds = bounds_of(space, window, areas)
    for turn in turns:
        turn.stroke.draw(seeds, space, window, 0.0, OBJECT if turn.stroke.include else OTHER)
    if not (seeds == OBJECT).any():
        return None
    evidence = [_evidence_of(space, window, turn) for turn in turns[-_STROKES:]]
    steps = space.steps(window.level)
    answer = selection.at(space, window)
    best, found = prod(each.depth(answer, steps) for each in evidence), None
    for plane in _planes(space.features(window), seeds):
        for part in _parts(space, window, plane, seeds):
            score = _agreement(part, answer)
            if score > best:  # the depths can only lower it
                score *= prod(each.depth(part, steps) for each in evidence)
            if score > best:
                best, found = score, part
            elif part.sum() * best > answer.sum():
                break  # larger parts agree even less
    return None if found is None else (window, found)


@dataclass(frozen=True)
class _Evidence:
    """A stroke in a window, as evidence for or against a candidate."""

    stroke: Bool
    include: bool
    before: Bool
    """The selection when the stroke was drawn."""

    def depth(self, mask: Bool, steps: NDArray[np.float32]) -> float:
        """Return how deep it lies in the errors of `before`, at most 1, if `mask` were correct."""
        missing = bodies.depths(mask & ~self.before, steps)
        excess = bodies.depths(self.before & ~mask, steps)
        deepest = max(float(missing.max()), float(excess.max()))
        if deepest == 0 or not self.stroke.any():
            return _LEAST
        own = missing if self.include else excess
        return max(_LEAST, float(own[self.stroke].mean()) / deepest)


def _evidence_of(space: Space, window: Window, turn: Turn) -> _Evidence:
    marks = np.zeros(window.shape, np.uint8)
    turn.stroke.draw(marks, space, window, 0.0, 1)
    return _Evidence(marks > 0, turn.stroke.include, turn.before.at(space, window))


def _agreement(one: Bool, other: Bool) -> float:
    """Return the intersection over union."""
    return float((one & other).sum()) / max(1, int((one | other).sum()))


def _is_large(space: Space, selection: Selection) -> bool:
    volume = float(selection.mask.sum()) * np.prod(space.factor(selection.window.level))
    return bool(volume > _LARGE)


def _around(space: Space, selections: list[Selection], strokes: list[Stroke]) -> Window:
    """Return a window around everything, with a margin, at a level at which it is small enough."""
    low = np.min([stroke.places.min(axis=0) for stroke in strokes], axis=0)
    high = np.max([stroke.places.max(axis=0) for stroke in strokes], axis=0)
    for selection in selections:
        if selection.mask.any():
            voxel, corner = space.factor(selection.window.level), selection.window.low
            box = box_of(selection.mask, 0)
            low = np.minimum(low, np.add([each.start for each in box], corner) * voxel)
            high = np.maximum(high, np.add([each.stop for each in box], corner) * voxel)
    room = (high - low) / 2
    for level in range(space.levels):
        factor, size = np.array(space.factor(level)), np.array(space.size(level))
        first = np.clip(np.floor((low - room) / factor), 0, size - 1).astype(int)
        last = np.clip(np.ceil((high + room) / factor), first + 1, size).astype(int)
        if (last - first).max() <= _SIDE:
            break
    return Window(level, tuple(map(int, first)), tuple(map(int, last)))


def _planes(
    features: NDArray[np.float32], seeds: NDArray[np.uint8]
) -> Iterator[NDArray[np.float32]]:
    """Yield (k, j, i) values that might be higher in the object than around it."""
    own = features[:, seeds == OBJECT].mean(axis=1)
    yield features[0]
    yield -features[0]
    yield -np.sqrt(((features - own[:, None, None, None]) ** 2).sum(axis=0))
    outside = seeds == OTHER
    if len(features) > 1 and outside.any():
        yield np.tensordot(own - features[:, outside].mean(axis=1), features, 1)


def _parts(
    space: Space, window: Window, plane: NDArray[np.float32], seeds: NDArray[np.uint8]
) -> Iterator[Bool]:
    """Yield connected parts of `window` above many thresholds, smallest first.

    They contain every voxel that is OBJECT and none that is OTHER.
    """
    inside, outside = seeds == OBJECT, seeds == OTHER
    one = np.where(inside, FREE, seeds)
    one[tuple(np.argwhere(inside)[0])] = OBJECT
    below = plane[plane < plane[inside].min()]
    if not below.size:
        return
    shares = np.linspace(0.02, 1, _THRESHOLDS)
    for threshold in np.unique(np.quantile(below, shares))[::-1]:
        part = bodies.settle(plane >= threshold, one)
        if part[outside].any() or _is_cut(space, window, part):
            return
        if part[inside].all():
            yield part


def _is_cut(space: Space, window: Window, part: Bool) -> bool:
    """Return whether `part` reaches a side of `window` beyond which the image continues."""
    for axis, size in enumerate(space.size(window.level)):
        if window.low[axis] > 0 and part.take(0, axis).any():
            return True
        if window.high[axis] < size and part.take(-1, axis).any():
            return True
    return False
