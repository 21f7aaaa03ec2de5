"""Linear interpolation of volumes along each axis; the end values continue beyond the ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def linear(values: NDArray[np.generic], axis: int, at: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return float32 samples of `values` at the fractional indices `at` (n,) along `axis`."""
    inside = np.clip(at, 0, values.shape[axis] - 1)
    low = np.floor(inside).astype(np.intp)
    if np.array_equal(low, inside):
        return np.take(values, low, axis).astype(np.float32, copy=False)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = (inside - low).astype(np.float32)
    share = share.reshape([-1 if n == axis % values.ndim else 1 for n in range(values.ndim)])
    sampled = np.take(values, low, axis).astype(np.float32)
    sampled *= 1 - share
    sampled += np.take(values, high, axis) * share
    return sampled


def volume(values: NDArray[np.generic], at: tuple[NDArray[np.float64], ...]) -> NDArray[np.float32]:
    """Return float32 samples of (k, j, i) `values` at every combination of the indices `at`.

    Works plane by plane, so that little more than the result is held in memory.
    """
    sampled = np.empty([len(indices) for indices in at], np.float32)
    for n in range(len(sampled)):
        plane = linear(_between(values, at[0][n]), 0, at[1])
        sampled[n] = linear(plane, 1, at[2])
    return sampled


def _between(values: NDArray[np.generic], k: float) -> NDArray[np.generic]:
    low = int(np.clip(np.floor(k), 0, len(values) - 1))
    around = values[low : low + 2]
    plane: NDArray[np.generic] = linear(around, 0, np.array([k - low]))[0]
    return plane
