"""The user's prompts in a volume as voxels: thin strokes, filled outlines and boxes.

Each is a level-0 window, cropped to the image, with a mask for strokes and outlines. Places are
(n, 3) positions (k, j, i) in voxels; the centre of the first voxel is at 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

import cv2
import numpy as np
from numpy.typing import NDArray

from isoline.models.promptable import Bool, Index, Places, Window, along


def stroke(places: Places, thickness: Sequence[int], size: Index) -> tuple[Window, Bool] | None:
    """Return the voxels that a brush of `thickness` voxels (k, j, i) covers on its way along
    `places`.

    A stroke within one slice is one voxel thick across it. None if it lies outside the image.
    """
    way = along(places)
    flat = np.floor(way).astype(int)
    across = next((axis for axis in range(3) if np.ptp(flat[:, axis]) == 0), None)
    wide = np.array([1 if axis == across else n for axis, n in enumerate(thickness)])
    first = np.floor(way - (wide - 1) / 2).astype(int)
    brush = np.stack(np.meshgrid(*map(np.arange, wide), indexing="ij"), axis=-1).reshape(-1, 3)
    return _mask(np.concatenate([first + offset for offset in brush]), size)


def outline(corners: Places, size: Index) -> tuple[Window, Bool] | None:
    """Return the voxels that a planar polygon passes through, one per column along its steepest
    axis.

    None if it lies outside the image.
    """
    centre = corners.mean(axis=0)
    normal = np.linalg.svd(corners - centre, full_matrices=False)[2][2]
    steep = int(np.abs(normal).argmax())
    sides = [axis for axis in range(3) if axis != steep]
    low = np.floor(corners[:, sides].min(axis=0)).astype(int)
    shape = np.ceil(corners[:, sides].max(axis=0)).astype(int) - low + 1
    filled = np.zeros(shape, np.uint8)
    # pixel centres are at integers, in fixed point with sixteenths
    ring = np.rint((corners[:, sides[::-1]] - low[::-1] - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(filled, [ring], 1, shift=4)
    voxels = np.empty((int(filled.sum()), 3), int)
    voxels[:, sides] = np.argwhere(filled) + low
    away = (voxels[:, sides] + 0.5 - centre[sides]) @ normal[sides]
    voxels[:, steep] = np.floor(centre[steep] - away / normal[steep])
    return _mask(voxels, size)


def box(corners: Places, size: Index) -> Window | None:
    """Return the voxels whose centres lie between two `corners`, at least one along each axis.

    None if the box lies outside the image.
    """
    low, high = [], []
    for start, end, n in zip(corners.min(axis=0), corners.max(axis=0), size, strict=True):
        first = min(ceil(start - 0.5), floor(end - 1e-9))
        low.append(max(0, first))
        high.append(min(n, max(first + 1, ceil(end - 0.5))))
        if low[-1] >= high[-1]:
            return None
    return Window(0, tuple(low), tuple(high))


def smallest(window: Window, mask: Bool) -> tuple[Window, Bool]:
    """Return the smallest window inside `window` that contains `mask`, and the mask in it.

    If the mask is empty, the window is a single voxel.
    """
    low, high = [], []
    for axis, first in enumerate(window.low):
        holding = np.flatnonzero(mask.any(axis=tuple(each for each in range(3) if each != axis)))
        start, end = (int(holding[0]), int(holding[-1]) + 1) if holding.size else (0, 1)
        low.append(first + start)
        high.append(first + end)
    inner = Window(window.level, tuple(low), tuple(high))
    part = tuple(
        slice(a - first, b - first) for a, b, first in zip(low, high, window.low, strict=True)
    )
    return inner, mask[part]


def _mask(voxels: NDArray[np.int_], size: Index) -> tuple[Window, Bool] | None:
    """Return those of (n, 3) `voxels` that lie on the image, in the smallest window."""
    voxels = voxels[((voxels >= 0) & (voxels < size)).all(axis=1)]
    if not len(voxels):
        return None
    low, high = voxels.min(axis=0), voxels.max(axis=0) + 1
    mask = np.zeros(high - low, np.bool_)
    mask[tuple((voxels - low).T)] = True
    return Window(0, tuple(map(int, low)), tuple(map(int, high))), mask
