"""Reading parts of images for viewers: the pixels themselves, or a picture of them."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from PIL import Image

from isoline.config.settings import Settings
from isoline.errors import BadRegion, NotSupported, TooLarge
from isoline.geometry.grid import XY, Box, Grid, Rect
from isoline.images.catalog import Found
from isoline.inference.sampling import LEVEL_TOLERANCE, ChannelSelection, Sampler, choose
from isoline.protocol.region_query import RegionQuery
from isoline.server import display
from isoline.server.display import Window
from isoline.server.open_sources import OpenSources
from isoline.sources.cached_volume import CachedVolume
from isoline.sources.registry import open_image
from isoline.sources.source import ImageInfo, Source
from isoline.sources.volume import VolumeSource, check_size
from isoline.sources.volume_cache import VolumeCache

PICTURE_PX = 1024
"""Longer side of a picture whose size is not given."""
_REMEMBERED = 4096
_SAMPLE_PX = 256
_SAMPLES = 4
"""A window is estimated from `_SAMPLES` x `_SAMPLES` boxes spread over the coarsest level."""
_SLACK = 1e-6
"""How far, in pixels, a box may extend into another pixel without including it: rounding."""


@dataclass(frozen=True)
class Pixels:
    """Pixels of an image, and their position."""

    values: NDArray[np.generic]
    """(c, y, x) in the type of the image."""
    rect: Rect
    """The part of the image that they cover, in image coordinates."""


@dataclass(frozen=True)
class Picture:
    """A PNG of a part of an image, and its position."""

    png: bytes
    rect: Rect


class Regions:
    """Reads parts of images. Safe for use by several threads."""

    def __init__(self, settings: Settings) -> None:
        """Keep volumes below `settings.volumes`, so that a slice does not cost a volume."""
        self._limits = settings.limits
        self._cache = VolumeCache(settings.volumes, settings.limits.volume_cache_mib << 20)
        self._sources = OpenSources()
        self._lock = threading.Lock()
        self._windows: LRUCache[tuple[str, int], Window] = LRUCache(_REMEMBERED)

    def read(self, found: Found, query: RegionQuery) -> Pixels:
        """Return the pixels of all channels, or of those that `query` names.

        Raises BadRegion if the box does not overlap the image, NotSupported for a channel or plane
        that it does not have, and TooLarge beyond the limit.
        """
        with self._opened(found) as source:
            return self._read(source, found, query, _chosen(found.info, query))

    def picture(self, found: Found, query: RegionQuery) -> Picture:
        """Return a picture: in colour, in shades of grey, or with a colour for each channel.

        Windows depend on the image, not on the box, so that neighbouring pictures match. Raises
        like `read`.
        """
        info = found.info
        shown = _chosen(info, query, most=len(display.COLOURS))
        with self._opened(found) as source:
            pixels = self._read(source, found, query, shown)
            if info.is_rgb and shown.channels == (0, 1, 2):
                image = display.colours(pixels.values)
            else:
                windows = [self._window(source, channel) for channel in shown.channels]
                image = display.shades(pixels.values, windows)
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", compress_level=1)
        return Picture(buffer.getvalue(), pixels.rect)

    @contextlib.contextmanager
    def _opened(self, found: Found) -> Iterator[Source]:
        info = found.info
        opening: Callable[[], Source] = partial(open_image, found.path, info.reader)
        if info.volume is not None:
            check_size(found.name, info.volume.grid, self._limits.volume_mib)
            opening = partial(CachedVolume, info, self._cache, opening)
        with self._sources.reading((found.path, info.reader, info.fingerprint), opening) as source:
            yield source

    def _read(
        self, source: Source, found: Found, query: RegionQuery, chosen: ChannelSelection
    ) -> Pixels:
        grid, box = _place(found, query)
        channels, most = len(chosen.channels), self._limits.region_pixels
        if box.area * max(1.0, channels / 3) > most:
            raise TooLarge(
                f"{box.width} x {box.height} pixels in {channels} channel(s) are too many",
                f"request at most {most} pixels of up to 3 channels, or a smaller size",
            )
        return Pixels(Sampler(source, grid, chosen).read(box), grid.rect(box))

    def _window(self, source: Source, channel: int) -> Window:
        info = source.info
        if info.volume is not None and info.volume.modality == "CT":
            return display.SOFT_TISSUE
        if info.dtype == np.uint8:
            return display.full_range(info.dtype)
        key = info.fingerprint, channel
        with self._lock:
            known = self._windows.get(key)
        if known is not None:
            return known
        window = display.window_of(_sample(source, channel))
        with self._lock:
            self._windows[key] = window
        return window


def _chosen(info: ImageInfo, query: RegionQuery, most: int | None = None) -> ChannelSelection:
    """Return the channels and the plane of `query`: by default the first `most` and the middle.

    Raises NotSupported.
    """
    given: list[str | int] = [*query.channels]
    if most is not None and len(given) > most:
        raise NotSupported(
            f"a picture cannot show {len(given)} channels",
            f"choose at most {most}, or request format=raw",
        )
    given = given or [*range(len(info.channels))][:most]
    z = info.z_planes // 2 if query.z is None else query.z
    return choose(info, (len(given),), given, z)


def _place(found: Found, query: RegionQuery) -> tuple[Grid, Box]:
    """Return the grid of the pixels and the box on it. Raises BadRegion."""
    rect, (width, height) = query.box, found.info.size
    outside = rect.x1 <= 0 or rect.y1 <= 0 or rect.x0 >= width or rect.y0 >= height
    if rect.x0 >= rect.x1 or rect.y0 >= rect.y1 or outside:
        raise BadRegion(
            f"the box does not overlap {found.name}", f"the image has {width} x {height} pixels"
        )
    longer = max(rect.x1 - rect.x0, rect.y1 - rect.y0)
    if query.size is not None:
        grid = _grid(found.info, longer / query.size)
    else:
        grid = _grid(found.info, 1.0 if query.is_raw else longer / PICTURE_PX)
    sx, sy = _SLACK * grid.scale.x, _SLACK * grid.scale.y
    box = grid.cover(Rect(rect.x0 + sx, rect.y0 + sy, rect.x1 - sx, rect.y1 - sy))
    return grid, Box(box.x0, box.y0, max(box.x1, box.x0 + 1), max(box.y1, box.y0 + 1))


def _grid(info: ImageInfo, scale: float) -> Grid:
    """Return the grid of pixels of `scale` image pixels: that of a level if it is close."""
    for level in info.levels:
        x, y = level.downsample
        if abs(x - scale) <= LEVEL_TOLERANCE * scale and abs(y - scale) <= LEVEL_TOLERANCE * scale:
            width, height = level.size
            # rounding must not cost the level its last pixel
            size = (ceil(width * x) + (x > 1), ceil(height * y) + (y > 1))
            return Grid(size, level.downsample)
    return Grid(info.size, XY(scale, scale))


def _sample(source: Source, channel: int) -> NDArray[np.generic]:
    """Return (n,) values of one channel from everywhere in the image, in its middle plane."""
    info = source.info
    if isinstance(source, VolumeSource):
        voxels = source.voxels()
        step = [max(1, n // 64) for n in voxels.shape]
        return voxels[:: step[0], :: step[1], :: step[2]].ravel()
    last, (width, height) = len(info.levels) - 1, info.levels[-1].size
    boxes = {
        Box(x, y, min(x + _SAMPLE_PX, width), min(y + _SAMPLE_PX, height))
        for x in _starts(width)
        for y in _starts(height)
    }
    z = info.z_planes // 2
    return np.concatenate([source.read_level(last, box, z)[channel].ravel() for box in boxes])


def _starts(length: int) -> list[int]:
    last = max(0, length - _SAMPLE_PX)
    return [last * n // (_SAMPLES - 1) for n in range(_SAMPLES)]
