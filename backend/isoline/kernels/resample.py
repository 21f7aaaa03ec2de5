"""Integer weighted sums along both axes: resampling in which each pixel depends only on its place.

Floats would be possible too, if compilers did not change the order in which they are added.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

WEIGHT_BITS = 12
"""Weights along one axis sum to 2**12: 16-bit pixels weighted along one axis fit 32 bits."""


@numba.njit(cache=True, nogil=True)
def resample_axes(
    pixels: NDArray[np.generic],
    row_start: NDArray[np.int64],
    row_weights: NDArray[np.uint32],
    column_start: NDArray[np.int64],
    column_weights: NDArray[np.uint32],
) -> NDArray[np.generic]:
    """Return (h, w, c), C-contiguous, from `pixels` (y, x, c) of the same type.

    Row j is the sum of the rows row_start[j] + t times row_weights[j, t] (h, taps), and columns
    likewise; the weights of each sum to 2**WEIGHT_BITS.
    """
    _, width, channels = pixels.shape
    flat = pixels.reshape(pixels.shape[0], width * channels)
    height_out, width_out = len(row_start), len(column_start)
    out = np.empty((height_out, width_out, channels), pixels.dtype)
    sums = np.empty(width * channels, np.uint32)
    half = np.uint64(1 << (2 * WEIGHT_BITS - 1))
    shift = np.uint64(2 * WEIGHT_BITS)
    for j in range(height_out):
        # rows first: a long loop over contiguous memory, which the compiler vectorises
        sums[:] = 0
        for t in range(row_weights.shape[1]):
            weight = row_weights[j, t]
            if weight:
                row = flat[row_start[j] + t]
                for i in range(len(sums)):
                    sums[i] += weight * np.uint32(row[i])
        for i in range(width_out):
            for channel in range(channels):
                total = half
                at = column_start[i] * channels + channel
                for t in range(column_weights.shape[1]):
                    weight = column_weights[i, t]
                    if weight:
                        total += np.uint64(weight) * np.uint64(sums[at + t * channels])
                out[j, i, channel] = total >> shift
    return out
