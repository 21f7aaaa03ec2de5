"""Growing the objects of a label image by a distance, without overlaps.

A pixel belongs to the object with the pixel nearest to it, by exact squared Euclidean distances in
integers. Of equally near objects, it belongs to the one whose first pixel comes first in raster
order. Distance and order form one number here, a *key*: distance**2 << bits | rank. Along a row,
the keys of one column form a parabola, and all parabolas have the same opening, so the smallest key
at every pixel is their lower envelope, found in linear time including ties (Felzenszwalb and
Huttenlocher, Theory of Computing 8:415, 2012).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_NONE = np.int64(2**62)


@numba.njit(cache=True, nogil=True)
def expand(labels: NDArray[np.int32], n: int, limit: int) -> NDArray[np.int32]:
    """Return `labels` (y, x) with each object 1 .. n grown by all pixels at most sqrt(limit) away.

    An object grows only where it stays 4-connected, and it keeps all of its own pixels. The result
    for an object depends only on the objects that have a pixel within sqrt(limit) of the grown one.
    """
    bits = 0
    while n >> bits:
        bits += 1
    rank, number = _ranks(labels, n)
    near = _nearest(_column_keys(labels, rank, bits, limit), number, bits, limit)
    return _connected(labels, near)


@numba.njit(cache=True, nogil=True)
def _ranks(labels: NDArray[np.int32], n: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return (n + 1,) the rank of each object in raster order of first pixels, and the inverse."""
    rank = np.full(n + 1, -1, np.int64)
    number = np.zeros(n, np.int32)
    count = 0
    for label in labels.ravel():
        if label > 0 and rank[label] < 0:
            rank[label] = count
            number[count] = label
            count += 1
    return rank, number


@numba.njit(cache=True, nogil=True)
def _column_keys(
    labels: NDArray[np.int32], rank: NDArray[np.int64], bits: int, limit: int
) -> NDArray[np.int64]:
    """Return (y, x) the smallest key from object pixels in the same column, or _NONE."""
    height, width = labels.shape
    keys = np.full((height, width), _NONE, np.int64)
    far = np.int64(limit + 1)
    away = np.full(width, far, np.int64)  # from the last pixel of an object, going down
    last = np.zeros(width, np.int64)  # and the rank of that object
    for y in range(height):
        for x in range(width):
            if labels[y, x] > 0:
                away[x], last[x] = 0, rank[labels[y, x]]
            square = away[x] * away[x]
            if square <= limit:
                keys[y, x] = square << bits | last[x]
                away[x] += 1
    away[:] = far
    for y in range(height - 1, -1, -1):
        for x in range(width):
            if labels[y, x] > 0:
                away[x], last[x] = 0, rank[labels[y, x]]
            square = away[x] * away[x]
            if square <= limit:
                keys[y, x] = min(keys[y, x], square << bits | last[x])
                away[x] += 1
    return keys


@numba.njit(cache=True, nogil=True)
def _nearest(
    keys: NDArray[np.int64], number: NDArray[np.int32], bits: int, limit: int
) -> NDArray[np.int32]:
    """Return (y, x) the object with the smallest key at each pixel, 0 beyond the limit."""
    height, width = keys.shape
    near = np.zeros((height, width), np.int32)
    site = np.empty(width, np.int64)  # the columns whose parabolas form the envelope
    begin = np.empty(width, np.int64)  # the first x at which each of them is the smallest
    for y in range(height):
        count = 0
        for x in range(width):
            key = keys[y, x]
            if key == _NONE:
                continue
            start = 0
            while count:
                u = site[count - 1]
                # from the first x with 2 * start * (x - u) << bits >= rise, x's parabola is no
                # higher
                rise = key - keys[y, u] + ((x * x - u * u) << bits)
                start = -(-rise >> (bits + 1))
                if x - u > 1 and start > 0:
                    start = (start + x - u - 1) // (x - u)
                if start > begin[count - 1]:
                    break
                count -= 1
                start = 0
            if start < width:
                site[count], begin[count] = x, start
                count += 1
        for k in range(count):
            u = site[k]
            end = begin[k + 1] if k + 1 < count else width
            for x in range(begin[k], end):
                key = keys[y, u] + (((x - u) * (x - u)) << bits)
                if key >> bits <= limit:
                    near[y, x] = number[key & ((1 << bits) - 1)]
    return near


@numba.njit(cache=True, nogil=True)
def _connected(labels: NDArray[np.int32], near: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the part of `near` that is 4-connected, within each object, to its own pixels."""
    height, width = labels.shape
    reached: NDArray[np.int32] = labels.copy()
    is_settled = False
    while not is_settled:  # sweep back and forth until nothing changes: rarely many times
        is_settled = True
        for y in range(height):
            for x in range(width):
                k = near[y, x]
                if reached[y, x] != k and (
                    (x > 0 and reached[y, x - 1] == k) or (y > 0 and reached[y - 1, x] == k)
                ):
                    reached[y, x] = k
                    is_settled = False
        for y in range(height - 1, -1, -1):
            for x in range(width - 1, -1, -1):
                k = near[y, x]
                if reached[y, x] != k and (
                    (x < width - 1 and reached[y, x + 1] == k)
                    or (y < height - 1 and reached[y + 1, x] == k)
                ):
                    reached[y, x] = k
                    is_settled = False
    return reached
