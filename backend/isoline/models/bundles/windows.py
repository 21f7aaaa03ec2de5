"""Overlapping windows over a volume, and the weighted mean of a network's outputs in them.

    row 0   |------- size -------|
    row 1             |------- size -------|            rows step along the first axis;
    ...                                                 in a row, windows step along the others

The mean is kept as integer sums, plane by plane: it is the same to the last bit in whatever order
windows are added, and a plane is released as soon as its last window has been added. Positions and
weights of windows are those of MONAI's `sliding_window_inference`.
"""

from __future__ import annotations

import itertools
from collections.abc import Container
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoline.errors import Broken

HEAVIEST = 4095
"""Weight of a window's centre, an integer."""
_LEAST_SHARE = 1e-3
"""Smallest weight in a window, as a share of the largest."""
LARGEST = 256.0
"""Network outputs are clipped to plus or minus this."""


class Place(NamedTuple):
    """Index of a window's first voxel; negative if the window is larger than the volume."""

    k: int
    j: int
    i: int


@dataclass(frozen=True)
class Windows:
    """The positions of equal windows over a volume, anchored at its first voxel."""

    shape: tuple[int, int, int]
    """Shape (k, j, i) of the volume."""
    size: tuple[int, int, int]
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    """Start of each window along each axis, ascending."""

    @classmethod
    def over(
        cls,
        shape: tuple[int, int, int],
        size: tuple[int, int, int],
        overlap: tuple[float, float, float],
    ) -> Windows:
        """Return windows that overlap by these shares of their size; the last ends at the
        border."""
        k, j, i = map(_starts, shape, size, overlap)
        return cls(shape, size, (k, j, i))

    @property
    def rows(self) -> tuple[int, ...]:
        """The first plane of each row of windows."""
        return self.starts[0]

    def row(self, first: int) -> list[Place]:
        """Return the windows whose first plane is `first`."""
        return [Place(first, j, i) for j, i in itertools.product(*self.starts[1:])]

    def planes(self, row: int) -> range:
        """Return the planes of the volume that the windows of `row` cover."""
        return range(max(0, row), min(self.shape[0], row + self.size[0]))

    def cut(self, values: NDArray[np.float32], place: Place) -> NDArray[np.float32]:
        """Return the voxels of one window, 0 outside the volume."""
        window = np.zeros(self.size, np.float32)
        inside, here = self.overlap(place)
        window[inside] = values[here]
        return window

    def overlap(self, place: Place) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Return the part of a window that lies in the volume, as slices of the window and of
        it."""
        inside, here = [], []
        for start, size, extent in zip(place, self.size, self.shape, strict=True):
            low, high = max(0, start), min(extent, start + size)
            inside.append(slice(low - start, high - start))
            here.append(slice(low, high))
        return tuple(inside), tuple(here)


def _starts(extent: int, size: int, overlap: float) -> tuple[int, ...]:
    if extent <= size:
        return (-((size - extent) // 2),)
    step = max(1, int(size * (1 - overlap)))
    last = extent - size
    return (*range(0, last, step), last)


def gaussian(size: tuple[int, int, int], sigma: float) -> NDArray[np.int32]:
    """Return the weight of each voxel of a window; `sigma` is a share of its size."""
    weights = np.ones(size)
    for axis, length in enumerate(size):
        x = np.arange(length) - (length - 1) / 2
        bell = np.exp(-(x**2) / (2 * (sigma * length) ** 2))
        weights = weights * bell.reshape([-1 if n == axis else 1 for n in range(3)])
    whole: NDArray[np.int32] = np.rint(HEAVIEST * np.maximum(weights, _LEAST_SHARE)).astype(
        np.int32
    )
    return whole


def constant(size: tuple[int, int, int]) -> NDArray[np.int32]:
    """Return equal weights."""
    return np.ones(size, np.int32)


class Blend:
    """The sums of the planes that are still open: `classes` + 1 int32 per pixel."""

    def __init__(self, windows: Windows, weights: NDArray[np.int32], classes: int) -> None:
        self._windows = windows
        self._weights = weights
        self._classes = classes
        self._scale = _scale(windows, weights)
        self._planes: dict[int, NDArray[np.int32]] = {}

    @property
    def planes(self) -> tuple[int, ...]:
        """The open planes."""
        return tuple(self._planes)

    def add(self, place: Place, values: NDArray[np.float32], wanted: Container[int]) -> None:
        """Add (classes, k, j, i) `values` of the window at `place` to those planes that are
        `wanted`.

        Raises Broken if the network returned infinite or undefined values.
        """
        if not np.isfinite(values).all():
            raise Broken(
                "the network returned values that are not finite numbers",
                "check the range of its input",
            )
        inside, here = self._windows.overlap(place)
        whole = np.rint(np.clip(values, -LARGEST, LARGEST) * np.float32(self._scale))
        for k in range(here[0].start, here[0].stop):
            n = k - place.k
            if k not in wanted:
                continue
            if k not in self._planes:
                shape = (self._classes + 1, *self._windows.shape[1:])
                self._planes[k] = np.zeros(shape, np.int32)
            weights = self._weights[n][inside[1:]]
            sums = self._planes[k][:, here[1], here[2]]
            sums[:-1] += weights * whole[:, n, inside[1], inside[2]].astype(np.int32)
            sums[-1] += weights

    def mean(self, k: int) -> NDArray[np.float32]:
        """Return (classes, j, i) means of plane `k` over the windows so far; 0 where there is
        none."""
        sums = self._planes[k]
        mean: NDArray[np.float32] = (sums[:-1] / (np.maximum(sums[-1], 1) * self._scale)).astype(
            np.float32
        )
        return mean

    def drop(self, k: int) -> None:
        """Release plane `k`."""
        self._planes.pop(k, None)


def _scale(windows: Windows, weights: NDArray[np.int32]) -> float:
    """Return the power of two by which to multiply values so that no sum overflows 32 bits.

    A weight is at most the product of its profiles along the three axes, as shares of the largest
    one, plus the share that corners are raised to and the rounding error.
    """
    largest = float(weights.max())
    product, times = 1.0, 1.0
    for axis, (starts, size) in enumerate(zip(windows.starts, windows.size, strict=True)):
        profile = weights.max(axis=tuple(n for n in range(3) if n != axis)) / largest
        total, covered = np.zeros((2, starts[-1] - starts[0] + size))
        for start in starts:
            here = slice(start - starts[0], start - starts[0] + size)
            total[here] += profile
            covered[here] += 1
        product *= float(total.max())
        times *= float(covered.max())
    heaviest = largest * (product + (_LEAST_SHARE + 1 / HEAVIEST) * times)
    return float(2.0 ** np.floor(np.log2((2**31 - 1) / (heaviest * (LARGEST + 1)))))
