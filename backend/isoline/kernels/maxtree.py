"""The max-tree of an image: the nesting of its bright components, and selecting among them.

Every node is a 4-connected component of an upper level set {value >= level}; together they form a
forest that depends only on the image (Salembier, Oliveras and Garrido, 1998). It is built by
union-find over the pixels from bright to dark (Berger et al., 2007). Sums are integers and ties are
broken in raster order, so that a node has the same attributes wherever the image was cut.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray


class MaxTree(NamedTuple):
    """The pixels at or above a floor, brightest first, ties in raster order, linked upwards.

    Position k represents one pixel and, if `is_node`, the node whose last pixel it is; the other
    pixels of that node come before k.
    """

    pixel: NDArray[np.int32]
    """(n,) raster index in the image."""
    parent: NDArray[np.int32]
    """(n,) position of the node that contains pixel k or, if k is a node, of the next larger one;
    a root is its own parent."""
    is_node: NDArray[np.bool_]
    """(n,)"""


class Attributes(NamedTuple):
    """Sums over the pixels of each node; at positions that are not nodes, partial sums."""

    area: NDArray[np.int32]
    """(n,) pixels."""
    box: NDArray[np.int32]
    """(n, 4) x0, y0, x1, y1, all inclusive."""
    moments: NDArray[np.int64]
    """(n, 5) sums of x, y, xx, yy, xy."""
    perimeter: NDArray[np.int32]
    """(n,) number of pixel sides that border on pixels outside the node, without the image
    border."""
    drop: NDArray[np.int32]
    """(n,) sum of the drop in value across these sides."""


@numba.njit(cache=True, nogil=True)
def _root(link: NDArray[np.int32], k: int) -> int:
    root = k
    while link[root] != root:
        root = link[root]
    while link[k] != root:
        link[k], k = root, link[k]
    return root


@numba.njit(cache=True, nogil=True)
def _falling(value: NDArray[np.uint8], floor: int) -> NDArray[np.int32]:
    """Return the raster indices of pixels >= floor in descending order, ties in raster order."""
    flat = value.ravel()
    end = np.zeros(257, np.int64)
    for v in flat:
        if v >= floor:
            end[256 - v] += 1
    for i in range(256):
        end[i + 1] += end[i]
    pixel = np.empty(end[256], np.int32)
    for p in range(flat.size):
        v = flat[p]
        if v >= floor:
            pixel[end[255 - v]] = p
            end[255 - v] += 1
    return pixel


@numba.njit(cache=True, nogil=True)
def build(value: NDArray[np.uint8], floor: int) -> MaxTree:
    """Build the max-tree of the pixels of `value` (y, x) that are at least `floor`."""
    width = value.shape[1]
    flat = value.ravel()
    pixel = _falling(value, floor)
    n = pixel.size
    position = np.full(flat.size, -1, np.int32)
    parent = np.empty(n, np.int32)
    link = np.empty(n, np.int32)
    for k in range(n):
        p = pixel[k]
        position[p] = parent[k] = link[k] = k
        x = p % width
        for side in range(4):
            if side == 0:
                inside, q = p >= width, p - width
            elif side == 1:
                inside, q = x > 0, p - 1
            elif side == 2:
                inside, q = x + 1 < width, p + 1
            else:
                inside, q = p + width < flat.size, p + width
            if inside and position[q] >= 0:
                root = _root(link, position[q])
                if root != k:
                    parent[root] = link[root] = k
    is_node = np.empty(n, np.bool_)
    for k in range(n - 1, -1, -1):
        above = parent[k]
        if flat[pixel[parent[above]]] == flat[pixel[above]]:
            parent[k] = above = parent[above]
        is_node[k] = above == k or flat[pixel[above]] != flat[pixel[k]]
    return MaxTree(pixel, parent, is_node)


@numba.njit(cache=True, nogil=True)
def measure(value: NDArray[np.uint8], tree: MaxTree) -> Attributes:
    """Sum the attributes of every node of `tree`, which was built on `value`."""
    height, width = value.shape
    flat = value.ravel()
    n = tree.pixel.size
    area = np.zeros(n, np.int32)
    box = np.empty((n, 4), np.int32)
    box[:, :2] = 2**31 - 1
    box[:, 2:] = -1
    moments = np.zeros((n, 5), np.int64)
    perimeter = np.zeros(n, np.int32)
    drop = np.zeros(n, np.int32)
    for k in range(n):
        p = tree.pixel[k]
        y = p // width
        x = p - y * width
        for side in range(4):
            if side == 0:
                inside, q = y > 0, p - width
            elif side == 1:
                inside, q = x > 0, p - 1
            elif side == 2:
                inside, q = x + 1 < width, p + 1
            else:
                inside, q = y + 1 < height, p + width
            if inside:
                # a side between two pixels of a node is visited from both and must cancel
                fall = np.int32(flat[p]) - np.int32(flat[q])
                drop[k] += fall
                perimeter[k] += 1 if fall > 0 or (fall == 0 and q > p) else -1
        area[k] += 1
        box[k, 0] = min(box[k, 0], x)
        box[k, 1] = min(box[k, 1], y)
        box[k, 2] = max(box[k, 2], x)
        box[k, 3] = max(box[k, 3], y)
        moments[k, 0] += x
        moments[k, 1] += y
        moments[k, 2] += x * x
        moments[k, 3] += y * y
        moments[k, 4] += x * y
        above = tree.parent[k]
        if above != k:
            area[above] += area[k]
            box[above, 0] = min(box[above, 0], box[k, 0])
            box[above, 1] = min(box[above, 1], box[k, 1])
            box[above, 2] = max(box[above, 2], box[k, 2])
            box[above, 3] = max(box[above, 3], box[k, 3])
            for i in range(5):
                moments[above, i] += moments[k, i]
            perimeter[above] += perimeter[k]
            drop[above] += drop[k]
    return Attributes(area, box, moments, perimeter, drop)


@numba.njit(cache=True, nogil=True)
def select(tree: MaxTree, area: NDArray[np.int32], score: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which nodes to keep (n,) such that no kept node contains another.

    `score` (n,) is positive and below 2**16 for nodes that may be kept, which have fewer than
    2**15 pixels. Such a node replaces the kept ones inside it if score * sqrt(area / their area)
    is at least their area-weighted mean score: a node that covers more may score slightly lower.
    The choice depends only on the node, on what is inside it and on the candidates around it.
    """
    n = area.size
    keep = np.zeros(n, np.bool_)
    gain = np.zeros(n, np.int64)
    covered = np.zeros(n, np.int64)
    for k in range(n):
        if not tree.is_node[k]:
            continue
        own, size = np.int64(score[k]), np.int64(area[k])
        if own > 0 and (covered[k] == 0 or own * own * covered[k] * size >= gain[k] * gain[k]):
            keep[k] = True
            gain[k] = own * size
            covered[k] = size
        above = tree.parent[k]
        if above != k:
            gain[above] += gain[k]
            covered[above] += covered[k]
    outer = np.zeros(n, np.bool_)
    for k in range(n - 1, -1, -1):
        above = tree.parent[k]
        if above != k and outer[above]:
            outer[k] = True
            keep[k] = False
        elif keep[k]:
            outer[k] = True
    return keep


@numba.njit(cache=True, nogil=True)
def paint(tree: MaxTree, keep: NDArray[np.bool_], labels: NDArray[np.int32]) -> None:
    """Write 1 .. n into `labels` (y, x), initially zero, at the pixels of the n kept nodes.

    The numbers follow the order of `keep`.
    """
    out = labels.ravel()
    number = np.zeros(keep.size, np.int32)
    kept = np.int32(np.sum(keep))
    for k in range(keep.size - 1, -1, -1):
        if keep[k]:
            number[k] = kept
            kept -= 1
        else:
            above = tree.parent[k]
            number[k] = number[above] if above != k else 0
        out[tree.pixel[k]] = number[k]
