"""The levels of a slide as arrays that are read when they are indexed. Requires NumPy."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from isoline_client.arrays import Pixels, np
from isoline_client.images import ImageInfo, Region

READ_PX = 2048
"""The longest side of the parts in which pixels are requested."""

Read = Callable[[tuple[float, float, float, float], int], Region]
"""Returns the region of a box in image coordinates, with this number of pixels along its longer
side."""


class SlideLevel:
    """One level of a slide, as an array for napari and Dask.

    The axes are (y, x, 3) for an image in colour, (c, y, x) for others, and (y, x) for one channel.
    Indexing with integers and slices requests the selected pixels, with the token and the headers
    of the client. Nothing is cached.
    """

    def __init__(self, read: Read, info: ImageInfo, number: int, *, one_channel: bool) -> None:
        """Use `Client.slide_levels`."""
        self._read = read
        self._level = info.levels[number]
        self._axes = "yx" if one_channel else "yxc" if info.is_rgb else "cyx"
        width, height = self._level.size
        self._channels = 1 if one_channel else len(info.channels)
        lengths = {"y": height, "x": width, "c": self._channels}
        self.shape: tuple[int, ...] = tuple(lengths[axis] for axis in self._axes)
        self.dtype = np.dtype(info.dtype)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return self.shape[0]

    def __getitem__(self, key: Any) -> Pixels:
        """Return the selected pixels, as NumPy would. Raises IndexError or ClientError."""
        keys = self._all_keys(key if isinstance(key, tuple) else (key,))
        spans = [_span(each, length) for each, length in zip(keys, self.shape, strict=True)]
        y, x = (spans[self._axes.index(axis)] for axis in "yx")
        pixels = self._pixels(x.start, y.start, x.stop, y.stop)
        if self._axes == "yx":
            pixels = pixels[0]
        elif self._axes == "yxc":
            pixels = np.moveaxis(pixels, 0, 2)
        inside = [
            each if axis == "c" else span.inside
            for axis, each, span in zip(self._axes, keys, spans, strict=True)
        ]
        return pixels[tuple(inside)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        """Return the whole level."""
        pixels = self[...]
        return pixels if dtype is None else pixels.astype(dtype)

    def __repr__(self) -> str:
        return f"SlideLevel(shape={self.shape}, dtype={self.dtype})"

    def _all_keys(self, given: tuple[Any, ...]) -> list[Any]:
        """Return a key for each axis, with `...` and missing keys replaced by slices."""
        place = next((n for n, each in enumerate(given) if each is Ellipsis), len(given))
        before, after = given[:place], given[place + 1 :]
        missing = self.ndim - len(before) - len(after)
        if missing < 0:
            raise IndexError(f"too many indices for {self!r}: {len(before) + len(after)}")
        return [*before, *[slice(None)] * missing, *after]

    def _pixels(self, x0: int, y0: int, x1: int, y1: int) -> Pixels:
        """Return the (c, y, x) pixels of a box in pixels of the level."""
        whole = np.empty((self._channels, y1 - y0, x1 - x0), self.dtype)
        for y in range(y0, y1, READ_PX):
            for x in range(x0, x1, READ_PX):
                end_x, end_y = min(x + READ_PX, x1), min(y + READ_PX, y1)
                whole[:, y - y0 : end_y - y0, x - x0 : end_x - x0] = self._part(x, y, end_x, end_y)
        return whole

    def _part(self, x0: int, y0: int, x1: int, y1: int) -> Pixels:
        dx, dy = self._level.downsample
        region = self._read((x0 * dx, y0 * dy, x1 * dx, y1 * dy), max(x1 - x0, y1 - y0))
        _, height, width = region.pixels.shape
        left, top, right, bottom = region.box
        # the server returns whole, square pixels: its box may begin before ours or end early
        first_x = round((x0 * dx - left) * width / (right - left))
        first_y = round((y0 * dy - top) * height / (bottom - top))
        columns = np.clip(np.arange(first_x, first_x + x1 - x0), 0, width - 1)
        rows = np.clip(np.arange(first_y, first_y + y1 - y0), 0, height - 1)
        return region.pixels[:, rows[:, None], columns]


@dataclass(frozen=True)
class _Span:
    """The part of an axis that has to be read, from `start` to before `stop`."""

    start: int
    stop: int
    inside: int | slice
    """The key within that part."""


def _span(key: Any, length: int) -> _Span:
    if isinstance(key, slice):
        chosen = range(length)[key]
        if not chosen:
            return _Span(0, 0, slice(None))
        start, stop = min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1]) + 1
        return _Span(start, stop, slice(None, None, chosen.step))
    place = range(length)[operator.index(key)]
    return _Span(place, place + 1, 0)
