"""One interface to pictures, volumes and single slices, with features that distinguish voxels.

A picture is a volume of one slice. Features are computed in the blocks of a lattice and depend
only on the surrounding pixels, so they are computed once and are the same for every window.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from isoline.models.promptable import ImageView, Index, Window, overlap

_REACH = 3
"""Radius of the smoothing filter, in voxels."""
_PICTURE_BLOCK, _VOLUME_BLOCK = 64, 32


class Space:
    """An image view with three axes (k, j, i)."""

    def __init__(self, scene: ImageView, only: int | None = None) -> None:
        """Wrap `scene`; if `only` is given, restrict a volume to the slice k = `only`."""
        self._scene, self._only = scene, only
        self.is_flat = len(scene.spacing) == 2 or only is not None
        self.levels = scene.levels
        *first, row, column = scene.spacing
        self._spacing = (1.0 if self.is_flat else first[0], row, column)

    def size(self, level: int) -> Index:
        *first, rows, columns = self._scene.size(level)
        return (1 if self.is_flat else first[0], rows, columns)

    def factor(self, level: int) -> Index:
        """Return how many voxels of level 0 make up one of `level` along each axis."""
        *first, rows, columns = self._scene.factor(level)
        return (1 if self.is_flat else first[0], rows, columns)

    def steps(self, level: int) -> NDArray[np.float32]:
        """Return (3,) lengths of a voxel of `level`, in units of the shortest."""
        length = np.multiply(self._spacing, self.factor(level))[int(self.is_flat) :]
        steps = np.asarray(length / length.min(), np.float32)
        return np.concatenate([np.ones(1, np.float32), steps]) if self.is_flat else steps

    def features(self, window: Window) -> NDArray[np.float32]:
        """Return (c, k, j, i) features of `window`, which lies inside the image."""
        side = _PICTURE_BLOCK if self.is_flat else _VOLUME_BLOCK
        size = self.size(window.level)
        axes = zip(window.low, window.high, strict=True)
        out: NDArray[np.float32] | None = None
        for place in product(*(range(low // side, -(-high // side)) for low, high in axes)):
            low = tuple(side * each for each in place)
            high = tuple(min(each + side, most) for each, most in zip(low, size, strict=True))
            block = Window(window.level, low, high)
            key = "features", self._only, block
            made = self._scene.keep(key, partial(self._make, block))
            if out is None:
                out = np.empty((len(made), *window.shape), np.float32)
            to, of = overlap(window, block), overlap(block, window)
            out[:, to[0], to[1], to[2]] = made[:, of[0], of[1], of[2]]
        assert out is not None, "a window has voxels"
        return out

    def _make(self, block: Window) -> NDArray[np.float32]:
        reach = (0 if self.is_flat else _REACH, _REACH, _REACH)
        low = tuple(a - b for a, b in zip(block.low, reach, strict=True))
        high = tuple(a + b for a, b in zip(block.high, reach, strict=True))
        pixels = self._read(Window(block.level, low, high))
        smooth = _smooth(colours(pixels), self.steps(block.level))
        k, j, i = (slice(by, n - by) for by, n in zip(reach, smooth.shape[1:], strict=True))
        return np.ascontiguousarray(smooth[:, k, j, i])

    def _read(self, window: Window) -> NDArray[np.generic]:
        """Return (c, k, j, i) pixels of `window`, which may reach beyond the image."""
        if not self.is_flat:
            return self._scene.read(window)
        low, high = window.low[1:], window.high[1:]
        if self._only is None:
            return self._scene.read(Window(window.level, low, high))[:, None]
        # levels of a volume mix slices; levels of a single slice are means of its own voxels
        rows, columns = self.factor(window.level)[1:]
        fine = Window(
            0,
            (self._only, low[0] * rows, low[1] * columns),
            (self._only + 1, high[0] * rows, high[1] * columns),
        )
        plane = self._scene.read(fine)[0, 0].astype(np.float32)
        size = high[1] - low[1], high[0] - low[0]
        small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.float32).reshape(1, 1, size[1], size[0])


def colours(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return (c, k, j, i) values whose distances measure how different two pixels look.

    For 8-bit RGB these are CIE Lab and, at half its scale, the optical density in per cent of
    ln 10 / 2.5, which separates dark stains; for all other pixels, the values themselves.
    """
    values = pixels.astype(np.float32)
    if pixels.dtype != np.uint8 or len(pixels) != 3:
        return values
    flat = np.ascontiguousarray(values.reshape(3, -1).T)[None]
    lab = cv2.cvtColor(flat / np.float32(255), cv2.COLOR_RGB2LAB)[0].T.reshape(values.shape)
    density = np.float32(-20) * np.log((values + 1) / np.float32(256))
    return np.concatenate([lab, density])


def _smooth(values: NDArray[np.float32], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `values` (c, k, j, i) smoothed by a Gaussian with sigma the shortest voxel side."""
    weights = []
    for step in steps:
        away = np.arange(-_REACH, _REACH + 1) * step
        each = np.exp(-(away**2) / 2)
        weights.append(np.asarray(each / each.sum(), np.float32))
    channels, slices = values.shape[:2]
    smooth = np.empty_like(values)
    for c, k in product(range(channels), range(slices)):
        cv2.sepFilter2D(values[c, k], -1, weights[2], weights[1], smooth[c, k])
    if slices == 1:
        return smooth
    spread = np.zeros_like(smooth)
    for away, weight in zip(range(-_REACH, _REACH + 1), weights[0], strict=True):
        into = slice(max(0, -away), slices - max(0, away))
        out_of = slice(max(0, away), slices - max(0, -away))
        spread[:, into] += weight * smooth[:, out_of]
    return spread
