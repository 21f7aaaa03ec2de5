"""Images as promptable models see them: blocks of pixels at any level, each read once.

Blocks lie on a lattice anchored at the image's origin, so that further clicks near the first one
find them in the cache, whatever window the model requests.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from itertools import product
from math import ceil
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from isoline.geometry.grid import XY, Box, Grid
from isoline.inference.results import WorkingPlane
from isoline.inference.sampling import Sampler
from isoline.models.promptable import ImageView, Index, Window
from isoline.sources.byte_cache import ByteCache
from isoline.sources.source import Source
from isoline.sources.volume import VolumeSource

T = TypeVar("T")

COARSEST_PX = 32
"""Smallest length of the longest side of the coarsest level."""
_PICTURE_BLOCK, _VOLUME_BLOCK = 256, 64


class _Blocks(ImageView):
    """A view in square or cubic blocks of one size at every level, cached and shared by views."""

    def __init__(
        self,
        image: Hashable,
        model: str,
        size: Index,
        spacing: tuple[float, ...],
        side: int,
        cache: ByteCache,
    ) -> None:
        self.spacing = spacing
        self._factors = tuple(_factors(size, spacing))
        self.levels = len(self._factors)
        self._sizes = [
            tuple(-(-whole // part) for whole, part in zip(size, factor, strict=True))
            for factor in self._factors
        ]
        self._side = side
        self._cache = cache
        self._image = image
        self._model = model

    def size(self, level: int) -> Index:
        return self._sizes[level]

    def factor(self, level: int) -> Index:
        return self._factors[level]

    def read(self, window: Window) -> NDArray[np.generic]:
        places = [
            np.arange(low, high).clip(0, size - 1)
            for low, high, size in zip(
                window.low, window.high, self._sizes[window.level], strict=True
            )
        ]
        low = tuple(int(place[0]) for place in places)
        inside = Window(window.level, low, tuple(int(place[-1]) + 1 for place in places))
        pixels = self._inside(inside)
        if inside == window:
            return pixels
        at = np.ix_(*(place - first for place, first in zip(places, low, strict=True)))
        return np.stack([channel[at] for channel in pixels])

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        return self._cache.get((self._image, self._model, "kept", key), make)

    @abstractmethod
    def _block(self, window: Window) -> NDArray[np.generic]:
        """Compute the pixels of `window`, which lies inside the image."""

    def _inside(self, window: Window) -> NDArray[np.generic]:
        """Assemble the pixels of `window`, which lies inside the image, from blocks."""
        out: NDArray[np.generic] | None = None
        for block in self._blocks(window):
            pixels = self._cache.get((self._image, block), partial(self._block, block))
            if out is None:
                out = np.empty((len(pixels), *window.shape), pixels.dtype)
            low = tuple(map(max, block.low, window.low))
            high = tuple(map(min, block.high, window.high))
            out[_part(window, low, high)] = pixels[_part(block, low, high)]
        assert out is not None, "a window has pixels"
        return out

    def _blocks(self, window: Window) -> Iterator[Window]:
        """Yield the blocks that overlap `window`, clipped to the image."""
        side, size = self._side, self._sizes[window.level]
        axes = zip(window.low, window.high, strict=True)
        for place in product(*(range(low // side, -(-high // side)) for low, high in axes)):
            low = tuple(each * side for each in place)
            high = tuple(min(each + side, most) for each, most in zip(low, size, strict=True))
            yield Window(window.level, low, high)


class FlatView(_Blocks):
    """A slide or a picture, (y, x), with levels resampled from those of its pyramid."""

    def __init__(
        self,
        fingerprint: str,
        model: str,
        plane: WorkingPlane,
        source: Callable[[], Source],
        cache: ByteCache,
    ) -> None:
        """View `plane` of the image with that fingerprint; `source` opens it when it must be read.

        Results of `keep` are cached per `model`.
        """
        (width, height), spacing = plane.grid.image_size, plane.spacing_um or XY(1.0, 1.0)
        image, size = (fingerprint, plane.selection), (height, width)
        super().__init__(image, model, size, (spacing.y, spacing.x), _PICTURE_BLOCK, cache)
        self._source = source
        self._selection = plane.selection

    def _block(self, window: Window) -> NDArray[np.generic]:
        (rows, columns), (y, x) = self._sizes[window.level], self._factors[window.level]
        # whole pixels only: positions beyond the image have the value of its last pixel
        grid = Grid((columns * x, rows * y), XY(float(x), float(y)))
        sampler = Sampler(self._source(), grid, self._selection)
        (y0, x0), (y1, x1) = window.low, window.high
        right, bottom = _readable(sampler)
        box = Box(min(x0, right - 1), min(y0, bottom - 1), min(x1, right), min(y1, bottom))
        pixels = sampler.read(box)
        missing = y1 - y0 - pixels.shape[1], x1 - x0 - pixels.shape[2]
        if any(missing):
            pixels = np.pad(pixels, ((0, 0), (0, missing[0]), (0, missing[1])), "edge")
        return pixels


class VolumeView(_Blocks):
    """A volume, (k, j, i): level 0 has the voxels themselves, further levels means of blocks."""

    def __init__(
        self, fingerprint: str, model: str, source: VolumeSource, cache: ByteCache
    ) -> None:
        """View the whole volume of `source`, whose content is identified by `fingerprint`."""
        grid = source.volume.grid
        di, dj, dk = grid.spacing_mm
        super().__init__(fingerprint, model, grid.shape, (dk, dj, di), _VOLUME_BLOCK, cache)
        self._voxels = source.voxels()

    def _inside(self, window: Window) -> NDArray[np.generic]:
        if window.level:
            return super()._inside(window)
        voxels: NDArray[np.generic] = self._voxels[_part(None, window.low, window.high)[1:]]
        return voxels[np.newaxis]

    def _block(self, window: Window) -> NDArray[np.generic]:
        finer = self._factors[window.level - 1]
        ratio = tuple(
            now // before for now, before in zip(self._factors[window.level], finer, strict=True)
        )
        low, high = (
            tuple(a * b for a, b in zip(corner, ratio, strict=True))
            for corner in (window.low, window.high)
        )
        (voxels,) = self.read(Window(window.level - 1, low, high))
        return _means(voxels, ratio)[np.newaxis]


def _readable(sampler: Sampler) -> tuple[int, int]:
    """Return the numbers of readable columns and rows: an unresampled level may lack one."""
    grid, level = sampler.grid, sampler.source.info.levels[sampler.level]
    axes = zip(grid.size, grid.scale, level.size, level.downsample, strict=True)
    columns, rows = (min(n, has) if scale == its else n for n, scale, has, its in axes)
    return columns, rows


def _factors(size: Index, spacing: tuple[float, ...]) -> Iterator[Index]:
    """Yield, for each level from 0, how many level-0 pixels make up a pixel along each axis."""
    factor = (1,) * len(size)
    while all(whole >= part for whole, part in zip(size, factor, strict=True)):
        if max(factor) > 1 and max(map(ceil, np.divide(size, factor))) < COARSEST_PX:
            return
        yield factor
        length = [one * count for one, count in zip(spacing, factor, strict=True)]
        factor = tuple(
            count if long >= 2 * min(length) else 2 * count
            for count, long in zip(factor, length, strict=True)
        )


def _means(voxels: NDArray[np.generic], ratio: Index) -> NDArray[np.float32]:
    """Return float32 means of `voxels` (k, j, i) over blocks of `ratio`, 1 or 2 along each axis."""
    _, rows, columns = voxels.shape
    size = columns // ratio[2], rows // ratio[1]
    planes = np.stack(
        [
            # for integer ratios, this is the mean of the pixels in each block
            cv2.resize(plane.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            for plane in voxels
        ]
    )
    return planes if ratio[0] == 1 else (planes[::2] + planes[1::2]) / np.float32(2)


def _part(window: Window | None, low: Index, high: Index) -> tuple[slice, ...]:
    """Return the slices for [low, high) in (c, ...) pixels of `window`, or of all of level 0."""
    origin = window.low if window is not None else (0,) * len(low)
    axes = zip(low, high, origin, strict=True)
    return (slice(None), *(slice(a - start, b - start) for a, b, start in axes))
