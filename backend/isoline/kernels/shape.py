"""Smoothing and splitting the objects of a label image, each in its own window.

Nothing depends on neighbours or on anything beyond an object's bounding box, and everything is in
integers, so the result for an object does not depend on its position.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

STEP, DIAGONAL = 5, 7
"""Lengths of a straight and a diagonal step of the chamfer distance (Borgefors, 1986)."""


@numba.njit(cache=True, nogil=True)
def boxes(labels: NDArray[np.int32], n: int) -> NDArray[np.int32]:
    """Return (n, 4) x0, y0, x1, y1, inclusive, of the objects 1 .. n of `labels` (y, x)."""
    height, width = labels.shape
    box = np.empty((n, 4), np.int32)
    box[:, :2] = 2**31 - 1
    box[:, 2:] = -1
    for y in range(height):
        for x in range(width):
            k = labels[y, x] - 1
            if k >= 0:
                box[k, 0] = min(box[k, 0], x)
                box[k, 1] = min(box[k, 1], y)
                box[k, 2] = max(box[k, 2], x)
                box[k, 3] = max(box[k, 3], y)
    return box


@numba.njit(cache=True, nogil=True)
def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return `mask` with holes filled: all pixels that the first, outside pixel cannot reach."""
    height, width = mask.shape
    result = np.ones((height, width), np.bool_)
    stack = np.empty(mask.size, np.int32)
    stack[0] = 0
    result[0, 0] = False
    top = 1
    while top:
        top -= 1
        y, x = divmod(stack[top], width)
        for v, u in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
            if 0 <= v < height and 0 <= u < width and result[v, u] and not mask[v, u]:
                result[v, u] = False
                stack[top] = v * width + u
                top += 1
    return result


@numba.njit(cache=True, nogil=True)
def _depth(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the chamfer distance to the outside of `mask`, whose one-pixel rim is outside."""
    height, width = mask.shape
    depth = np.zeros((height, width), np.int32)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if mask[y, x]:
                depth[y, x] = min(
                    min(depth[y, x - 1], depth[y - 1, x]) + STEP,
                    min(depth[y - 1, x - 1], depth[y - 1, x + 1]) + DIAGONAL,
                )
    for y in range(height - 2, 0, -1):
        for x in range(width - 2, 0, -1):
            if mask[y, x]:
                depth[y, x] = min(
                    depth[y, x],
                    min(
                        min(depth[y, x + 1], depth[y + 1, x]) + STEP,
                        min(depth[y + 1, x - 1], depth[y + 1, x + 1]) + DIAGONAL,
                    ),
                )
    return depth


@numba.njit(cache=True, nogil=True)
def _opened(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Return `mask`, which does not touch the rim, opened by a disc of `radius` pixels."""
    core = _depth(mask) > radius * STEP
    return mask & (_depth(~core) <= radius * STEP)


@numba.njit(cache=True, nogil=True)
def _basin(link: NDArray[np.int32], k: int) -> int:
    while link[k] != k:
        link[k] = link[link[k]]
        k = link[k]
    return k


@numba.njit(cache=True, nogil=True)
def _deepest_first(depth: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the raster indices of positive `depth`, in descending order, ties in raster order."""
    flat = depth.ravel()
    deepest = flat.max()
    end = np.zeros(deepest + 2, np.int32)
    for d in flat:
        end[deepest - d + 1] += 1
    for i in range(deepest + 1):
        end[i + 1] += end[i]
    pixel = np.empty(end[deepest], np.int32)
    for p in range(flat.size):
        d = flat[p]
        if d > 0:
            pixel[end[deepest - d]] = p
            end[deepest - d] += 1
    return pixel


@numba.njit(cache=True, nogil=True)
def _parted(
    depth: NDArray[np.int32], neck: int, neck_percent: int, min_area: int
) -> NDArray[np.int32]:
    """Split a shape at its necks by a watershed of its depth; labels start at 1, 0 is outside.

    Two parts stay separate if the neck between them is shallower than the shallower of them by at
    least `neck` and by at least `neck_percent` per cent. A part with fewer than `min_area` pixels
    is merged with the one across its deepest neck.
    """
    width = depth.shape[1]
    flat = depth.ravel()
    pixel = _deepest_first(depth)
    n = pixel.size
    position = np.full(flat.size, n, np.int32)
    link = np.arange(n).astype(np.int32)  # a basin is identified by its first, deepest pixel
    across = np.arange(n).astype(np.int32)  # the first deeper basin that it met
    around = (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1)
    for k in range(n):
        p = pixel[k]
        position[p] = k
        first = k
        for step in around:
            first = min(first, position[p + step])
        link[k] = _basin(link, first)
        for step in around:
            q = position[p + step]
            if q >= k:
                continue
            a, b = _basin(link, k), _basin(link, q)
            deep, shallow = min(a, b), max(a, b)
            if deep == shallow:
                continue
            peak = flat[pixel[shallow]]
            fall = peak - flat[p]
            if fall < neck or fall * 100 < peak * neck_percent:
                link[shallow] = deep
            elif across[shallow] == shallow:
                across[shallow] = deep
    area = np.zeros(n, np.int32)
    for k in range(n):
        area[_basin(link, k)] += 1
    for k in range(n - 1, -1, -1):
        if link[k] == k and area[k] < min_area:
            link[k] = _basin(link, across[k])
            area[link[k]] += area[k]
    return _gathered(pixel, position, link, width).reshape(depth.shape)


@numba.njit(cache=True, nogil=True)
def _gathered(
    pixel: NDArray[np.int32],
    position: NDArray[np.int32],
    link: NDArray[np.int32],
    width: int,
) -> NDArray[np.int32]:
    """Number the basins; return, by raster index, the pixels 4-connected to each one's bottom."""
    parts = np.zeros(position.size, np.int32)
    stack = np.empty(pixel.size, np.int32)
    count = 0
    for bottom in range(pixel.size):
        if link[bottom] != bottom:
            continue
        count += 1
        parts[pixel[bottom]] = count
        stack[0] = pixel[bottom]
        top = 1
        while top:
            top -= 1
            p = stack[top]
            for q in (p - width, p - 1, p + 1, p + width):
                k = position[q]
                if k < pixel.size and parts[q] == 0 and _basin(link, k) == bottom:
                    parts[q] = count
                    stack[top] = q
                    top += 1
    return parts


@numba.njit(cache=True, nogil=True)
def _cut_out(
    labels: NDArray[np.int32], number: int, box: NDArray[np.int32], pad: int
) -> NDArray[np.bool_]:
    """Return a mask of the object `number` of `labels` in its box with a rim of `pad` pixels."""
    x0, y0, x1, y1 = box
    mask = np.zeros((y1 - y0 + 1 + 2 * pad, x1 - x0 + 1 + 2 * pad), np.bool_)
    for y in range(y0, y1 + 1):
        for x in range(x0, x1 + 1):
            mask[y - y0 + pad, x - x0 + pad] = labels[y, x] == number
    return mask


@numba.njit(cache=True, nogil=True)
def fill(labels: NDArray[np.int32], box: NDArray[np.int32]) -> None:
    """Fill the holes of objects 1 .. n in place; anything in a hole becomes part of the object.

    `box` (n, 4) contains the objects' boxes.
    """
    for k in range(len(box)):
        filled = _filled(_cut_out(labels, k + 1, box[k], 1))
        x0, y0, x1, y1 = box[k]
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                if filled[y - y0 + 1, x - x0 + 1]:
                    labels[y, x] = k + 1


@numba.njit(cache=True, nogil=True)
def tidy(
    labels: NDArray[np.int32],
    n: int,
    radius: int,
    neck: int,
    neck_percent: int,
    min_area: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Fill the holes of objects 1 .. n, open them by a disc, and split them at their necks.

    `labels` (y, x) is filled in place; `radius` of the disc is in pixels; `neck` is in chamfer
    units, STEP per pixel; objects with fewer than `min_area` pixels are dropped. Returns new labels
    1 .. m, each 4-connected, and (m,) the object that each of them came from, counted from 0.
    """
    box = boxes(labels, n)
    fill(labels, box)
    result = np.zeros_like(labels)
    origin = np.empty(labels.size + 1, np.int32)
    count = 0
    pad = radius + 1  # a disc that touches the object stays within the window
    for k in range(n):
        opened = _opened(_cut_out(labels, k + 1, box[k], pad), radius)
        parts = _parted(_depth(opened), neck, neck_percent, min_area)
        area = np.zeros(parts.max() + 1, np.int32)
        for part in parts.flat:
            area[part] += 1
        number = np.zeros(area.size, np.int32)
        for part in range(1, area.size):
            if area[part] >= min_area:
                origin[count] = k
                count += 1
                number[part] = count
        x0, y0, x1, y1 = box[k]
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                part = parts[y - y0 + pad, x - x0 + pad]
                if number[part] > 0:
                    result[y, x] = number[part]
    return result, origin[:count].copy()
