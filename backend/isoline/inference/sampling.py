"""Computing grid pixels from level pixels: choosing the level and the channels, and resampling.

A grid pixel depends only on its position: its weights are computed from its global index, in
integers, so that it is the same in whatever box it is read, at any scale.

    coarser than the level    the mean over the area that the grid pixel covers
    the level itself          its pixels as they are
    finer than level 0        linear interpolation between the centres of level pixels
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoline.errors import ChoiceNeeded, NotSupported
from isoline.geometry.grid import Box, Grid
from isoline.sources.source import ImageInfo, Source

LEVEL_TOLERANCE = 1e-3
"""A level may be coarser than the grid by this share and still be read."""
MAX_READ_BYTES = 64 << 20
"""Most level pixels read at once; a larger box is read in parts."""


@dataclass(frozen=True)
class ChannelSelection:
    """The channels and the plane that a request reads."""

    channels: tuple[int, ...]
    z: int


def choose(
    info: ImageInfo,
    wanted_channels: tuple[int, ...],
    channel: str | int | Sequence[str | int] | None = None,
    z: int | None = None,
) -> ChannelSelection:
    """Choose the channels and the plane for a model that takes `wanted_channels` of them.

    `channel` gives them (by case-insensitive name, or else by index from 0) in the model's order;
    names may look like numbers, as those of wavelengths do. Raises
    ChoiceNeeded if the image requires a choice and none was made, and NotSupported if the choice
    does not exist or the image does not suit the model.
    """
    return ChannelSelection(_channels(info, wanted_channels, channel), _plane(info, z))


def _channels(
    info: ImageInfo,
    wanted: tuple[int, ...],
    channel: str | int | Sequence[str | int] | None,
) -> tuple[int, ...]:
    counts = " or ".join(map(str, wanted))
    listed = f"the image has the channels {', '.join(info.channels)}"
    if channel is not None:
        given = [channel] if isinstance(channel, (str, int)) else list(channel)
        found = tuple(_index(info, one) for one in given)
        if len(found) not in wanted:
            raise NotSupported(f"the model takes {counts} channels, not {len(found)}", listed)
        return found
    if info.is_rgb and 3 in wanted:
        return 0, 1, 2
    if len(info.channels) == 1 and 1 in wanted:
        return (0,)
    if len(info.channels) < min(wanted):
        raise NotSupported(f"the model takes {counts} channels", listed)
    raise ChoiceNeeded(
        f"the model takes {counts} channels, and none was chosen", f"{listed}; choose with channel"
    )


def _index(info: ImageInfo, given: str | int) -> int:
    names, text = [name.casefold() for name in info.channels], str(given)
    if text.casefold() in names:
        return names.index(text.casefold())
    if text.isascii() and text.isdigit() and int(text) < len(names):
        return int(text)
    shown = text if text.isdigit() else repr(given)
    raise NotSupported(f"the image has no channel {shown}", f"it has {', '.join(info.channels)}")


def _plane(info: ImageInfo, z: int | None) -> int:
    planes = f"the image has the planes 0 to {info.z_planes - 1}"
    if z is None:
        if info.z_planes > 1:
            raise ChoiceNeeded(f"{planes}, and none was chosen", "choose one with z")
        return 0
    if not 0 <= z < info.z_planes:
        raise NotSupported(f"there is no plane {z}", planes)
    return z


class Sampler:
    """The pixels of one image on one grid. Safe to read from several threads at once."""

    def __init__(
        self, source: Source, grid: Grid, selection: ChannelSelection | None = None
    ) -> None:
        """Read the `selection` of `source`; None means all channels of the first plane."""
        info = source.info
        every = tuple(range(len(info.channels)))
        self.source = source
        self.grid = grid
        self.selection = selection or ChannelSelection(every, 0)
        self.level = coarsest_level(info, grid)
        self._background = np.array(info.background, info.dtype)[list(self.selection.channels)]
        self._bytes_per_pixel = len(info.channels) * info.dtype.itemsize
        level = info.levels[self.level]
        self._x = _Axis(grid.scale.x / level.downsample.x, level.size[0])
        self._y = _Axis(grid.scale.y / level.downsample.y, level.size[1])

    def read(self, box: Box) -> NDArray[np.generic]:
        """Return (c, y, x) of `box` in grid pixels, background outside the grid.

        The caller owns the array; its memory order is unspecified. Raises Unreadable if the file is
        damaged there.
        """
        inside = box.intersect(self.grid.bounds)
        if inside == box and not box.empty:
            return self._inside(box)
        shape = (box.height, box.width, len(self.selection.channels))
        out: NDArray[np.generic] = np.empty(shape, self._background.dtype)
        out[:] = self._background
        out = np.moveaxis(out, 2, 0)
        if not inside.empty:
            rows, columns = box.slices_of(inside)
            out[:, rows, columns] = self._inside(inside)
        return out

    def _inside(self, box: Box) -> NDArray[np.generic]:
        """Read a box that lies on the grid, in parts if it needs many level pixels."""
        native = self._native(box)
        if native.area * self._bytes_per_pixel > MAX_READ_BYTES and box.area > 1:
            first, second = _halves(box)
            axis = 1 if first.width == box.width else 2
            return np.concatenate([self._inside(first), self._inside(second)], axis=axis)
        pixels = self.source.read_level(self.level, native, self.selection.z)
        if self.selection.channels != tuple(range(len(pixels))):
            pixels = pixels[list(self.selection.channels)]
        if self._x.ratio == self._y.ratio == 1.0:
            return pixels
        return self._resample(pixels, box, native)

    def _native(self, box: Box) -> Box:
        """Return the level pixels from which `box`, in grid pixels, is computed."""
        x0, x1 = self._x.span(box.x0, box.x1)
        y0, y1 = self._y.span(box.y0, box.y1)
        return Box(x0, y0, x1, y1)

    def _resample(self, pixels: NDArray[np.generic], box: Box, native: Box) -> NDArray[np.generic]:
        # importing numba takes half a second, and code that only plans never gets here
        from isoline.kernels.resample import resample_axes

        rows, row_weights = self._y.taps(box.y0, box.y1)
        columns, column_weights = self._x.taps(box.x0, box.x1)
        taps = rows - native.y0, row_weights, columns - native.x0, column_weights
        if pixels.dtype.kind != "u":  # the voxels of a volume
            return _weighted(pixels, *taps)
        interleaved = np.moveaxis(pixels, 0, 2)
        if interleaved.flags.c_contiguous:
            return np.moveaxis(resample_axes(interleaved, *taps), 2, 0)
        planes = [np.ascontiguousarray(plane)[..., None] for plane in pixels]
        return np.stack([resample_axes(plane, *taps)[..., 0] for plane in planes])


def _weighted(
    pixels: NDArray[np.generic],
    row_start: NDArray[np.int64],
    row_weights: NDArray[np.uint32],
    column_start: NDArray[np.int64],
    column_weights: NDArray[np.uint32],
) -> NDArray[np.generic]:
    """Return (c, h, w) from signed or real `pixels` (c, y, x), with taps as in `resample_axes`."""
    rows = row_start[:, None] + np.arange(row_weights.shape[1])
    columns = column_start[:, None] + np.arange(column_weights.shape[1])
    by_row = np.einsum("cjtx,jt->cjx", pixels[:, rows].astype(np.float64), row_weights)
    sums = np.einsum("cjit,it->cji", by_row[:, :, columns], column_weights)
    means: NDArray[np.generic] = sums / (row_weights[0].sum() * column_weights[0].sum())
    if pixels.dtype.kind == "i":
        means = np.rint(means)
    values: NDArray[np.generic] = means.astype(pixels.dtype)
    return values


def coarsest_level(info: ImageInfo, grid: Grid) -> int:
    """Return the index of the coarsest level that is as fine as the grid, 0 if none is."""
    limit = 1 + LEVEL_TOLERANCE
    fine_enough = [
        index
        for index, level in enumerate(info.levels)
        if level.downsample.x <= grid.scale.x * limit and level.downsample.y <= grid.scale.y * limit
    ]
    return max(fine_enough, key=lambda index: info.levels[index].downsample.x, default=0)


@dataclass(frozen=True)
class _Axis:
    """Resampling from a level to the grid along one axis."""

    ratio: float
    """Level pixels per grid pixel."""
    length: int
    """Number of level pixels."""

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Return the range of level pixels for the grid pixels [start, stop)."""
        if self.ratio == 1.0:
            return start, stop
        first, _ = self.taps(start, start + 1)
        last, weights = self.taps(stop - 1, stop)
        return int(first[0]), int(last[0]) + weights.shape[1]

    def taps(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Return the first level pixel (n,) and the weights (n, taps) of each grid pixel.

        Positions beyond the level's last pixel, lost when its size was rounded down, have the value
        of that pixel. Every range lies inside the level.
        """
        from isoline.kernels.resample import WEIGHT_BITS

        index = np.arange(start, stop, dtype=np.float64)
        if self.ratio >= 1.0:
            low, high = index * self.ratio, (index + 1) * self.ratio
            count = math.ceil(self.ratio) + (not self.ratio.is_integer())
            first = np.floor(low).astype(np.int64)
            edges = (first[:, None] + np.arange(count + 1)).astype(np.float64)
            # the share of the grid pixel that lies before each edge, from 0 to 1
            share = np.clip((edges - low[:, None]) / (high - low)[:, None], 0.0, 1.0)
        else:
            centre = (index + 0.5) * self.ratio - 0.5
            count = 2
            first = np.floor(centre).astype(np.int64)
            share = np.stack([np.zeros_like(centre), 1 - (centre - first), np.ones_like(centre)], 1)
        # round the cumulative shares, not each weight, so that the sum is always 2**12
        edges_at = np.rint(share * (1 << WEIGHT_BITS)).astype(np.uint32)
        return self._within(first, edges_at[:, 1:] - edges_at[:, :-1])

    def _within(
        self, first: NDArray[np.int64], weights: NDArray[np.uint32]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Move the weights of pixels outside the level to the nearest pixel inside."""
        if first.min() >= 0 and first.max() + weights.shape[1] <= self.length:
            return first, weights
        count = min(weights.shape[1], self.length)
        place = np.clip(first[:, None] + np.arange(weights.shape[1]), 0, self.length - 1)
        inside = np.clip(first, 0, self.length - count)
        moved = np.zeros((len(first), count), np.uint32)
        rows = np.arange(len(first))[:, None]
        np.add.at(moved, (rows, place - inside[:, None]), weights)
        return inside, moved


def _halves(box: Box) -> tuple[Box, Box]:
    """Split a box across its longer side."""
    if box.width >= box.height:
        middle = (box.x0 + box.x1) // 2
        return Box(box.x0, box.y0, middle, box.y1), Box(middle, box.y0, box.x1, box.y1)
    middle = (box.y0 + box.y1) // 2
    return Box(box.x0, box.y0, box.x1, middle), Box(box.x0, middle, box.x1, box.y1)
