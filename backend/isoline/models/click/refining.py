"""Refining a coarse result: at each level, the voxels along its border are classified again."""

from __future__ import annotations

from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from isoline.kernels import bodies, walker
from isoline.kernels.walker import FREE, OBJECT, OTHER
from isoline.models.click.features import Space
from isoline.models.click.gestures import Area, Stroke, seeds_of
from isoline.models.click.selection import Bool, Selection
from isoline.models.promptable import Window

S = TypeVar("S", bound=np.generic)

STEEPNESS = 2.0
LEAST = 1e-3
"""Arguments of `walker.conductances`."""
_MOST_VOXELS = (2**21, 2**27)
"""Largest window of a result, for pictures and volumes; larger ones stay at a coarser level. The
largest objects of a slide took 16 s with 2**27 for pictures too, 3.4 s with 2**23, 1.9 s now."""
_BLOCK = (256, 48)
_BAND = 2
"""Voxels on either side of a border that are classified again at each finer level."""


def finish(
    space: Space,
    selection: Selection,
    window: Window,
    likely: NDArray[np.float32],
    areas: list[Area],
    strokes: list[Stroke],
) -> Selection:
    """Return `selection` after a change to `likely` in `window`, refined down to level 0.

    At each finer level, the voxels along the border are classified again.
    """
    where = dilated((likely > 0.5) != selection.at(space, window), space.is_flat)
    while window.level:
        finer = _finer(space, window)
        if np.prod(finer.shape) > _MOST_VOXELS[0 if space.is_flat else 1]:
            break
        likely = _repeated(space, window, likely, finer)
        where = _repeated(space, window, where, finer)
        window = finer
        likely = _refined(space, window, likely, areas, strokes)
    seeds = seeds_of(space, window, areas, strokes)
    # voxels that were selected and stay so need not be connected to a stroke
    stays = (seeds == FREE) & ~where & (likely > 0.5)
    seeds[stays & selection.at(space, window)] = OBJECT
    if not strokes:
        seeds[(seeds == FREE) & (likely > 0.5)] = OBJECT
    return selection.changed(space, window, bodies.settle(likely > 0.5, seeds), where)


def without(space: Space, selection: Selection, areas: list[Area]) -> Selection:
    """Return `selection` without what `areas` exclude."""
    if not areas:
        return selection
    out = seeds_of(space, selection.window, areas, []) == OTHER
    return Selection(selection.window, selection.mask & ~out)


def _finer(space: Space, window: Window) -> Window:
    """Return `window` at the next finer level, within the image."""
    level = window.level - 1
    ratio = np.floor_divide(space.factor(window.level), space.factor(level))
    high = np.minimum(ratio * window.high, space.size(level))
    return Window(level, tuple(map(int, ratio * window.low)), tuple(map(int, high)))


def _repeated(space: Space, window: Window, values: NDArray[S], finer: Window) -> NDArray[S]:
    """Return `values` of `window`, repeated for the voxels of `finer`."""
    ratio = np.floor_divide(space.factor(window.level), space.factor(finer.level))
    for axis, times in enumerate(ratio):
        values = np.repeat(values, times, axis)
    return np.ascontiguousarray(values[tuple(slice(0, n) for n in finer.shape)])


def _refined(
    space: Space,
    window: Window,
    likely: NDArray[np.float32],
    areas: list[Area],
    strokes: list[Stroke],
) -> NDArray[np.float32]:
    """Return `likely` of `window` with its border classified again, block by block."""
    body = likely > 0.5
    band = np.zeros(body.shape, np.bool_)
    for inside in (body, ~body):
        shell = ~inside
        for _ in range(_BAND):
            shell = dilated(shell, space.is_flat)
        band |= shell & inside
    refined = body.astype(np.float32)
    side = _BLOCK[0] if space.is_flat else _BLOCK[1]
    for start in product(*(range(0, n, side) for n in body.shape)):
        block = tuple(slice(a, a + side) for a in start)
        if not band[block].any():
            continue
        wide = tuple(slice(max(0, a - 3), a + side + 3) for a in start)
        low = tuple(a + s.start for a, s in zip(window.low, wide, strict=True))
        shape = body[wide].shape
        here = Window(window.level, low, tuple(a + n for a, n in zip(low, shape, strict=True)))
        seeds = seeds_of(space, here, areas, strokes)
        fixed = ~band[wide] & (seeds == FREE)
        seeds[fixed] = np.where(body[wide][fixed], OBJECT, OTHER)
        paths = walker.conductances(
            space.features(here), STEEPNESS, LEAST, space.steps(window.level)
        )
        chance = walker.potentials(paths, seeds, refined[wide], 3e-2, 50)
        inner = tuple(
            slice(a - s.start, a - s.start + n)
            for a, s, n in zip(start, wide, body[block].shape, strict=True)
        )
        refined[block] = np.where(band[block], chance[inner], refined[block])
    return refined


def dilated(mask: Bool, is_flat: bool) -> Bool:
    """Return `mask` together with the voxels that share a face with it."""
    wide: Bool = mask.copy()
    for axis in range(1 if is_flat else 0, mask.ndim):
        ahead = tuple(slice(1, None) if each == axis else slice(None) for each in range(3))
        behind = tuple(slice(None, -1) if each == axis else slice(None) for each in range(3))
        wide[ahead] |= mask[behind]
        wide[behind] |= mask[ahead]
    return wide
