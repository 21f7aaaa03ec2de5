"""Mapping a network's output back to the slices of the scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoline.geometry import resampling
from isoline.geometry.reorient import Orientation
from isoline.models.bundles.recipe import Recipe
from isoline.models.bundles.transforms import Input

_HALF = 0.5 + 1e-6


@dataclass(frozen=True)
class Back:
    """Positions of a scan's voxels in a network's input, per axis, as fractional indices."""

    k: NDArray[np.float64]
    j: NDArray[np.float64]
    i: NDArray[np.float64]
    shape: tuple[int, ...]
    """Shape (k, j, i) of the input."""

    @classmethod
    def of(cls, given: Input, shape: tuple[int, int, int], orientation: Orientation) -> Back:
        """Return the mapping from the input `given` back to a scan of `shape` (k, j, i)."""
        flipped = orientation.flipped_axes
        k, j, i = (given.index(axis, shape[axis], axis in flipped) for axis in range(3))
        return cls(k, j, i, given.values.shape)

    def planes(self, k: int) -> tuple[int, ...]:
        """Return the input planes that slice `k` lies between; empty if the slice was cropped
        away."""
        if not _inside(self.k, self.shape[0])[k]:
            return ()
        at = float(np.clip(self.k[k], 0, self.shape[0] - 1))
        return tuple({int(np.floor(at)), int(np.ceil(at))})

    def slice(self, k: int, planes: Mapping[int, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return (classes, j, i) values of slice `k` of the scan from (classes, j, i) input
        `planes`."""
        low, *high = sorted(self.planes(k))
        plane = planes[low]
        if high:
            share = np.float32(self.k[k] - low)
            plane = np.asarray(plane * (1 - share) + planes[high[0]] * share, np.float32)
        return resampling.linear(resampling.linear(plane, 1, self.j), 2, self.i)

    def outside(self) -> NDArray[np.bool_]:
        """Return (j, i) which columns of voxels were cropped away."""
        inside = _inside(self.j, self.shape[1])[:, None] & _inside(self.i, self.shape[2])
        return ~inside


def _inside(index: NDArray[np.float64], extent: int) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (index >= -_HALF) & (index <= extent - 1 + _HALF)
    return inside


def activated(mean: NDArray[np.float32], recipe: Recipe) -> NDArray[np.float32]:
    """Return (classes, j, i) network outputs after the recipe's activation function."""
    if recipe.activation == "none":
        return mean
    if recipe.activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-mean)), np.float32)
    powers = np.exp(mean - mean.max(axis=0))
    softmax: NDArray[np.float32] = powers / powers.sum(axis=0)
    return softmax


def decided(
    values: NDArray[np.float32], recipe: Recipe, labels: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return (j, i) labels: the class with the largest value, if it reaches the threshold."""
    found: NDArray[np.uint8] = labels[np.argmax(values, axis=0)]
    if recipe.threshold is not None:
        found[values.max(axis=0) < recipe.threshold] = 0
    return found
