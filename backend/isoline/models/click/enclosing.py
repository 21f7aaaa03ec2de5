"""The object within boxes or lassos: everything outside is background, the middle is object.

How much of the middle belongs to the object is unknown, so several shares are tried; results with
the highest contrast that best fill the box get the most weight.
"""

from __future__ import annotations

import numpy as np

from isoline.kernels import bodies, walker
from isoline.kernels.walker import FREE, OBJECT
from isoline.models.click.features import Space
from isoline.models.click.gestures import Area, seeds_of
from isoline.models.click.growth import FAINTEST, Change, average, roughness
from isoline.models.click.refining import LEAST, STEEPNESS, finish
from isoline.models.click.selection import Bool, Selection
from isoline.models.promptable import Window

_SIDE = (128, 48)
"""Side of the coarse window in which the object is first found, in pictures and in volumes."""
_MARGIN = 3
_CORES = (0.3, 0.5, 0.7)
"""Depth at which seeds begin, as a share of the largest depth."""
_THRESHOLDS = (0.35, 0.5, 0.65)


def enclose(space: Space, areas: list[Area]) -> Selection:
    """Return the object within the including ones of `areas`."""
    window = _window(space, [area for area in areas if area.include])
    features, steps = space.features(window), space.steps(window.level)
    fixed = seeds_of(space, window, areas, [])
    bounds = fixed == FREE
    empty = Selection(window, np.zeros(window.shape, np.bool_))
    depth = bodies.depths(bounds, steps)
    if not depth.any():
        return empty
    paths = walker.conductances(features, STEEPNESS, LEAST, steps)
    faintest = FAINTEST * roughness(features)
    changes = []
    for core in _CORES:
        seeds = fixed.copy()
        seeds[depth >= core * depth.max()] = OBJECT
        chance = walker.potentials(paths, seeds, bounds.astype(np.float32), 1e-2, 300)
        for threshold in _THRESHOLDS:
            body = bodies.settle(chance > threshold, seeds)
            apart = bodies.contrast(features, body)
            if apart > faintest:
                changes.append(Change(0, body, apart * _fill(body, bounds)))
    if not changes:
        return empty
    return finish(space, empty, window, average(changes), areas, [])


def _window(space: Space, areas: list[Area]) -> Window:
    """Return the window around `areas` at the finest level at which it is small enough."""
    corners = np.concatenate([area.corners for area in areas])
    for level in range(space.levels):
        factor, size = np.array(space.factor(level)), np.array(space.size(level))
        low = np.floor(corners.min(axis=0) / factor).astype(int) - _MARGIN
        high = np.ceil(corners.max(axis=0) / factor).astype(int) + _MARGIN
        low, high = low.clip(0, size - 1), high.clip(1, size)
        if (high - low).max() <= _SIDE[0 if space.is_flat else 1]:
            break
    return Window(level, tuple(map(int, low)), tuple(map(int, high)))


def _fill(body: Bool, bounds: Bool) -> float:
    """Return the share of the bounding box of `bounds` that the bounding box of `body` fills."""
    share = 1.0
    for axis in range(3):
        across = tuple(each for each in range(3) if each != axis)
        own, whole = (np.flatnonzero(each.any(axis=across)) for each in (body, bounds))
        if not own.size:
            return 0.0
        share *= (own[-1] - own[0] + 1) / (whole[-1] - whole[0] + 1)
    return share
