"""One body of voxels: its extent, its depth and its contrast to the surroundings.

Arrays are (k, j, i); pictures are volumes of one slice. Neighbouring voxels share a face.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from isoline.kernels.walker import OBJECT, OTHER

RING = 2
"""Width in voxels of the bands on either side of a body's border between which contrast is
measured."""


@numba.njit(cache=True, nogil=True)
def mark_ball(
    marks: NDArray[np.uint8],
    points: NDArray[np.float64],
    radius: float,
    steps: NDArray[np.float32],
    value: int,
) -> None:
    """Set `marks` to `value` at the voxels of `points` (n, 3) and within `radius` of a point.

    Points are in voxels, with the origin at the corner of the first; `radius` and `steps`, the
    length of a voxel along each axis, have a common unit.
    """
    size = marks.shape
    low, high, own = np.zeros(3, np.int64), np.zeros(3, np.int64), np.zeros(3, np.int64)
    for n in range(len(points)):
        is_inside = True
        for axis in range(3):
            at, reach = points[n, axis], radius / steps[axis]
            own[axis] = np.int64(np.floor(at))
            low[axis] = max(0, np.int64(np.ceil(at - 0.5 - reach)))
            high[axis] = min(size[axis], np.int64(np.floor(at - 0.5 + reach)) + 1)
            is_inside = is_inside and 0 <= own[axis] < size[axis]
        if is_inside:
            marks[own[0], own[1], own[2]] = value
        for k in range(low[0], high[0]):
            dk = ((k + 0.5 - points[n, 0]) * steps[0]) ** 2
            for j in range(low[1], high[1]):
                dj = dk + ((j + 0.5 - points[n, 1]) * steps[1]) ** 2
                for i in range(low[2], high[2]):
                    if dj + ((i + 0.5 - points[n, 2]) * steps[2]) ** 2 <= radius * radius:
                        marks[k, j, i] = value


@numba.njit(cache=True, nogil=True)
def settle(body: NDArray[np.bool_], seeds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the components of `body` that contain an OBJECT seed, with their holes filled.

    A hole contains no OTHER seed and does not reach the border of the array.
    """
    whole = np.zeros(body.shape, np.bool_)
    open_ = np.zeros(body.shape, np.bool_)
    stack = np.empty((body.size, 3), np.int32)
    slices, rows, columns = body.shape
    top = 0
    for k in range(slices):
        for j in range(rows):
            for i in range(columns):
                if body[k, j, i] and seeds[k, j, i] == OBJECT and not whole[k, j, i]:
                    top = _push(stack, whole, k, j, i, top)
    _flood(body, True, whole, stack, top)
    top = 0
    for k in range(slices):
        for j in range(rows):
            for i in range(columns):
                if whole[k, j, i]:
                    continue
                is_edge = j == 0 or i == 0 or j == rows - 1 or i == columns - 1
                is_edge = is_edge or (slices > 1 and (k == 0 or k == slices - 1))
                if is_edge or seeds[k, j, i] == OTHER:
                    top = _push(stack, open_, k, j, i, top)
    _flood(whole, False, open_, stack, top)
    return ~open_


@numba.njit(cache=True, nogil=True)
def _push(
    stack: NDArray[np.int32], seen: NDArray[np.bool_], k: int, j: int, i: int, top: int
) -> int:
    seen[k, j, i] = True
    stack[top, 0], stack[top, 1], stack[top, 2] = k, j, i
    return top + 1


@numba.njit(cache=True, nogil=True)
def _flood(
    body: NDArray[np.bool_],
    value: bool,
    seen: NDArray[np.bool_],
    stack: NDArray[np.int32],
    top: int,
) -> None:
    """Add to `seen` all voxels with `body` == `value` connected to the `top` voxels of `stack`."""
    slices, rows, columns = body.shape
    while top:
        top -= 1
        k, j, i = stack[top, 0], stack[top, 1], stack[top, 2]
        if k > 0 and body[k - 1, j, i] == value and not seen[k - 1, j, i]:
            top = _push(stack, seen, k - 1, j, i, top)
        if k + 1 < slices and body[k + 1, j, i] == value and not seen[k + 1, j, i]:
            top = _push(stack, seen, k + 1, j, i, top)
        if j > 0 and body[k, j - 1, i] == value and not seen[k, j - 1, i]:
            top = _push(stack, seen, k, j - 1, i, top)
        if j + 1 < rows and body[k, j + 1, i] == value and not seen[k, j + 1, i]:
            top = _push(stack, seen, k, j + 1, i, top)
        if i > 0 and body[k, j, i - 1] == value and not seen[k, j, i - 1]:
            top = _push(stack, seen, k, j, i - 1, top)
        if i + 1 < columns and body[k, j, i + 1] == value and not seen[k, j, i + 1]:
            top = _push(stack, seen, k, j, i + 1, top)


@numba.njit(cache=True, nogil=True)
def depths(body: NDArray[np.bool_], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the city-block distance of each voxel of `body` to the outside, 0 outside.

    The array's surroundings are outside too, except along the first axis of a single slice.
    """
    slices, rows, columns = body.shape
    far = np.float32(1e9)
    flat = far if slices == 1 else np.float32(0)
    depth = np.zeros(body.shape, np.float32)
    for k in range(slices):
        for j in range(rows):
            for i in range(columns):
                if body[k, j, i]:
                    one = (depth[k - 1, j, i] if k > 0 else flat) + steps[0]
                    one = min(one, (depth[k, j - 1, i] if j > 0 else 0) + steps[1])
                    depth[k, j, i] = min(one, (depth[k, j, i - 1] if i > 0 else 0) + steps[2])
    for k in range(slices - 1, -1, -1):
        for j in range(rows - 1, -1, -1):
            for i in range(columns - 1, -1, -1):
                if body[k, j, i]:
                    one = (depth[k + 1, j, i] if k + 1 < slices else flat) + steps[0]
                    one = min(one, (depth[k, j + 1, i] if j + 1 < rows else 0) + steps[1])
                    one = min(one, (depth[k, j, i + 1] if i + 1 < columns else 0) + steps[2])
                    depth[k, j, i] = min(depth[k, j, i], one)
    return depth


@numba.njit(cache=True, nogil=True)
def contrast(features: NDArray[np.float32], body: NDArray[np.bool_]) -> float:
    """Return the distance between the means of `features` (c, k, j, i) just inside and outside a
    body.

    It is 0 if there is no border.
    """
    channels = len(features)
    side = _sides(body)
    count = np.zeros(2)
    total = np.zeros((2, channels))
    slices, rows, columns = body.shape
    for k in range(slices):
        for j in range(rows):
            for i in range(columns):
                if side[k, j, i]:
                    which = int(body[k, j, i])
                    count[which] += 1
                    for c in range(channels):
                        total[which, c] += features[c, k, j, i]
    if count.min() < 1:
        return 0.0
    apart = 0.0
    for c in range(channels):
        apart += (total[1, c] / count[1] - total[0, c] / count[0]) ** 2
    return float(np.sqrt(apart))


@numba.njit(cache=True, nogil=True)
def _sides(body: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return each voxel's number of steps to the other side of the border, 0 beyond RING."""
    slices, rows, columns = body.shape
    side = np.zeros(body.shape, np.uint8)
    for ring in range(1, RING + 1):
        for k in range(slices):
            for j in range(rows):
                for i in range(columns):
                    if side[k, j, i]:
                        continue
                    own = body[k, j, i]
                    for axis in range(3):
                        for step in (-1, 1):
                            v = k + step * (axis == 0)
                            u = j + step * (axis == 1)
                            t = i + step * (axis == 2)
                            if 0 <= v < slices and 0 <= u < rows and 0 <= t < columns:
                                if ring == 1:
                                    is_next = body[v, u, t] != own
                                else:
                                    is_next = side[v, u, t] == ring - 1 and body[v, u, t] == own
                                if is_next:
                                    side[k, j, i] = ring
    return side
