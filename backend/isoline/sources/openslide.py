"""Whole slides through OpenSlide, with each level's own pixels.

OpenSlide positions a read by level-0 coordinates and one scale per level, so that on a level with
scale 4.0004 nearly every origin falls between pixels and OpenSlide interpolates: the same pixel can
differ by up to 11 grey values depending on the origin of the read. But OpenSlide opens more formats
than any other library. Hence there are three ways to read a level; the first possible one is used:

1.  TIFF tiles decoded by tifffile and imagecodecs. Exact at every level and, compared with
    OpenSlide, 3 times as fast on JPEG and 1.3 times on JPEG 2000. Used if the file has exactly one
    tiled page of the level's size, no tile is missing, and its busiest tile looks the same through
    OpenSlide.
2.  OpenSlide itself, if the scale is a whole number: every origin falls on a pixel.
3.  OpenSlide in fixed blocks, if it is not. A block is displaced by at most half a level-0 pixel,
    and since the blocks are fixed, a pixel still depends only on its position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TypeAlias

import numpy as np
import openslide
from numpy.typing import NDArray

from isoline.errors import Unreadable
from isoline.geometry.grid import XY, Box
from isoline.sources.dicom_jpeg import contradiction, to_rgb
from isoline.sources.fingerprint import fingerprint, of_part
from isoline.sources.pixel_size import NO_SPACING, believable, micrometres
from isoline.sources.pyramid import RGB, TileCache, level, paste, scale_problems
from isoline.sources.source import ImageInfo, Level, Remote, Source
from isoline.sources.tiff_file import TiffFile, TiffPage

BLOCK_PX = 512
_MISSTATED = "the file states that its colours are RGB, and they are YCbCr; they are converted"
COARSE = 16.0
"""From this scale on, half a pixel of a level is not seen: it serves overviews."""
SAME_PICTURE = 6.0
"""Largest mean difference in grey values between two decoders of one tile. Rounding (0.4 on JPEG
2000) and a shift of half a level-0 pixel (2 to 3) stay below; another colour space or page is far
above."""

_Pixels: TypeAlias = NDArray[np.generic]
_Reader: TypeAlias = Callable[[Box], _Pixels]
"""Returns the pixels (y, x, 3) of a box of one level."""


class OpenSlideSource(Source):
    """A brightfield slide that OpenSlide can open."""

    name = "openslide"

    def __init__(self, path: Path, *, cropped: bool = False) -> None:
        """Open the slide or, if `cropped`, the part of it that is within its bounds."""
        encoding = contradiction(path)
        if encoding == "RGB":
            raise Unreadable(f"{path.name} states YCbCr and contains RGB, which OpenSlide converts")
        self._slide = _Slide(path, is_ycbcr=encoding == "YCbCr")
        self._tiff = _tiff_beneath(path)
        self._cache = TileCache()
        self._closed = False
        slide = self._slide
        try:
            if slide.vendor == "generic-tiff":
                _refuse_unless_rgb(self._tiff, path)
            sizes = slide.sizes
            levels = tuple(level(sizes[0], size) for size in sizes)
            self._readers = tuple(self._reader(index, part) for index, part in enumerate(levels))
            spacing = slide.spacing_um
            self.info = ImageInfo(
                reader=self.name,
                fingerprint=fingerprint(path),
                kind="slide",
                levels=levels,
                spacing_um=spacing,
                channels=RGB,
                dtype=np.dtype(np.uint8),
                background=slide.background,
                bounds=slide.bounds,
                problems=(
                    *_bounds_problems(slide.bounds),
                    *((_MISSTATED,) if slide.is_ycbcr else ()),
                    *scale_problems(levels),
                    *(() if spacing else (NO_SPACING,)),
                ),
            )
            if cropped:
                self._crop()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path) -> OpenSlideSource:
        return cls(path)

    def read_level(self, level: int, box: Box, z: int = 0) -> NDArray[np.generic]:
        if self._closed:
            raise ValueError("read from a closed image")
        return np.moveaxis(self._readers[level](box), 2, 0)

    def close(self) -> None:
        self._closed = True
        self._cache.clear()
        self._slide.close()
        if self._tiff is not None:
            self._tiff.close()

    def _crop(self) -> None:
        """Show only what is within the bounds, with its corner as the origin."""
        info, bounds = self.info, self.info.bounds
        if bounds is None:
            raise Unreadable(f"{self._slide.name} does not say which part of it was scanned")
        levels, readers = [], []
        for part, reader in zip(info.levels, self._readers, strict=True):
            x, y = bounds.x0 / part.downsample.x, bounds.y0 / part.downsample.y
            is_exact = x.is_integer() and y.is_integer()
            if not is_exact and part.downsample.x < COARSE:
                continue  # its pixels lie between those of the cropped image
            size = (
                max(1, min(int(bounds.width / part.downsample.x), part.size[0] - round(x))),
                max(1, min(int(bounds.height / part.downsample.y), part.size[1] - round(y))),
            )
            levels.append(Level(size, part.downsample))
            readers.append(_shifted(reader, round(x), round(y)))
        self._readers = tuple(readers)
        self.info = replace(
            info,
            levels=tuple(levels),
            fingerprint=of_part(info.fingerprint, "bounds"),
            bounds=None,
            problems=tuple(each for each in info.problems if each not in _bounds_problems(bounds)),
        )

    def _reader(self, index: int, level: Level) -> _Reader:
        """Choose how to read a level: see the top of this file."""
        page = _page_of(self._tiff, level)
        if page is not None and self._slide.shows(page, index):
            return self._tiled(index, page.tile_size, page.tile)
        if self._slide.downsample(index).is_integer():
            return lambda box: self._slide.read(index, box)
        bounds = Box(0, 0, *level.size)

        def block(column: int, row: int) -> _Pixels:
            x, y = column * BLOCK_PX, row * BLOCK_PX
            return self._slide.read(index, Box(x, y, x + BLOCK_PX, y + BLOCK_PX).intersect(bounds))

        return self._tiled(index, (BLOCK_PX, BLOCK_PX), block)

    def _tiled(
        self, index: int, tile_size: tuple[int, int], decode: Callable[[int, int], _Pixels]
    ) -> _Reader:
        def tile(column: int, row: int) -> _Pixels:
            return self._cache.get((index, column, row), lambda: decode(column, row))

        def read(box: Box) -> _Pixels:
            out = np.empty((box.height, box.width, 3), np.uint8)
            paste(out, box, tile_size, tile)
            return out

        return read


def _shifted(reader: _Reader, x: int, y: int) -> _Reader:
    return lambda box: reader(box.shift(x, y))


def _bounds_problems(bounds: Box | None) -> tuple[str, ...]:
    if bounds is None:
        return ()
    return (
        f"the scan covers only {bounds.width} x {bounds.height} pixels from x {bounds.x0}, y "
        f"{bounds.y0}; QuPath shows that part alone, and the format qupath counts from its corner",
    )


@dataclass(frozen=True)
class CroppedSlide(Remote):
    """The scanned part of a local slide, as QuPath shows it."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    def open(self) -> OpenSlideSource:
        return OpenSlideSource(self.path, cropped=True)


class _Slide:
    """An OpenSlide handle, shared by all threads and replaced after an error."""

    def __init__(self, path: Path, *, is_ycbcr: bool = False) -> None:
        """Open the slide; with `is_ycbcr`, its pixels are YCbCr that OpenSlide takes for RGB."""
        self._path = path
        self.is_ycbcr = is_ycbcr
        self._handle = self._open()
        self._lock = Lock()
        properties = self._handle.properties
        self.vendor: str = properties.get(openslide.PROPERTY_NAME_VENDOR, "")
        self.sizes: tuple[tuple[int, int], ...] = self._handle.level_dimensions
        self._downsamples: tuple[float, ...] = self._handle.level_downsamples
        self.bounds = _bounds(properties, self.sizes[0])
        self.background = _colour(properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR))
        self.spacing_um: XY | None = believable(
            micrometres(properties.get(openslide.PROPERTY_NAME_MPP_X), "um"),
            micrometres(properties.get(openslide.PROPERTY_NAME_MPP_Y), "um"),
        )

    @property
    def name(self) -> str:
        return self._path.name

    def _open(self) -> openslide.OpenSlide:
        try:
            return openslide.OpenSlide(self._path)
        except (openslide.OpenSlideError, OSError) as error:
            raise Unreadable(f"{self._path.name}: {error}") from error

    def downsample(self, level: int) -> float:
        """Return the scale by which OpenSlide positions reads, the same for both axes."""
        return self._downsamples[level]

    def shows(self, page: TiffPage, level: int) -> bool:
        """Return whether `page` shows the same picture as OpenSlide, judged by its busiest tile."""
        column, row = page.busiest_tile()
        wide, tall = page.tile_size
        x, y = column * wide, row * tall
        box = Box(x, y, x + wide, y + tall).intersect(Box(0, 0, *page.size))
        try:
            ours = page.tile(column, row)[: box.height, : box.width]
            theirs = self.read(level, box)
        except Unreadable:  # the tile is damaged, which is reported when it is read
            return False
        apart = np.abs(ours.astype(np.int16) - theirs.astype(np.int16))
        return bool(apart.mean() <= SAME_PICTURE)

    def read(self, level: int, box: Box) -> _Pixels:
        """Return (y, x, 3) uint8 of `box`, in pixels of `level`; glass where nothing was scanned.

        Raises Unreadable if the file is damaged there.
        """
        handle = self._handle
        try:
            return self._read(handle, level, box)
        except openslide.OpenSlideError:
            # An error invalidates an OpenSlide handle for good, and this one may have been caused
            # by another thread: replace the shared handle and retry with a private one.
            with self._lock:
                if self._handle is handle:
                    self._handle = self._open()
        own = self._open()
        try:
            return self._read(own, level, box)
        except openslide.OpenSlideError as error:
            where = f"{self._path.name}, level {level} at x {box.x0}, y {box.y0}"
            raise Unreadable(f"{where}: {error}") from error
        finally:
            own.close()

    def _read(self, handle: openslide.OpenSlide, level: int, box: Box) -> _Pixels:
        scale = self._downsamples[level]
        origin = round(box.x0 * scale), round(box.y0 * scale)
        rgba = np.asarray(handle.read_region(origin, level, (box.width, box.height)))
        if self.is_ycbcr:
            rgba = np.concatenate([to_rgb(rgba[..., :3]), rgba[..., 3:]], axis=2)
        return _over(rgba, self.background)

    def close(self) -> None:
        self._handle.close()


def _over(rgba: NDArray[np.uint8], background: tuple[int, ...]) -> NDArray[np.uint8]:
    """Composite (y, x, 4) over the background; return (y, x, 3)."""
    rgb, alpha = rgba[..., :3], rgba[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return np.ascontiguousarray(rgb)
    mixed = rgb * alpha + np.array(background, np.uint16) * (255 - alpha)
    return np.asarray((mixed + 127) // 255, np.uint8)


def _bounds(properties: Mapping[str, str], size: tuple[int, int]) -> Box | None:
    """Return the scanned part of a slide, None if that is all of it."""
    names = (
        *(openslide.PROPERTY_NAME_BOUNDS_X, openslide.PROPERTY_NAME_BOUNDS_Y),
        *(openslide.PROPERTY_NAME_BOUNDS_WIDTH, openslide.PROPERTY_NAME_BOUNDS_HEIGHT),
    )
    try:
        x, y, width, height = (int(properties[name]) for name in names)
    except (KeyError, ValueError):
        return None
    whole = Box(0, 0, *size)
    bounds = Box(x, y, x + width, y + height).intersect(whole)
    return None if bounds.empty or bounds == whole else bounds


def _colour(written: str | None) -> tuple[int, ...]:
    """Parse a colour such as FFF0E8; white if the slide specifies none."""
    try:
        return tuple(bytes.fromhex(written or "FFFFFF"))
    except ValueError:
        return (255, 255, 255)


def _tiff_beneath(path: Path) -> TiffFile | None:
    try:
        return TiffFile(path)
    except Unreadable:
        return None


def _page_of(tiff: TiffFile | None, level: Level) -> TiffPage | None:
    """Return the only tiled 8-bit RGB page of the level's size, None unless there is exactly
    one."""
    if tiff is None:
        return None
    fitting = [
        page
        for page in tiff.pages
        if page.is_tiled and (page.imagewidth, page.imagelength) == level.size
    ]
    if len(fitting) != 1:
        return None
    try:
        page = TiffPage(tiff, fitting[0])
    except Unreadable:
        return None
    usable = page.colours.is_rgb and page.dtype == np.uint8 and not page.missing_tiles
    return page if usable else None


def _refuse_unless_rgb(tiff: TiffFile | None, path: Path) -> None:
    """Raise Unreadable for images that OpenSlide would flatten to 8-bit RGB: grey, 16-bit,
    stacks."""
    if tiff is None:
        return
    first = tiff.pages[0]
    if first.samplesperpixel < 3 or first.dtype != np.uint8:
        raise Unreadable(f"{path.name} is not 8-bit RGB, the only type that OpenSlide returns")
    if any(set(series.axes) - set("YXS") for series in tiff.series):
        raise Unreadable(f"{path.name} has several planes, and OpenSlide reads only the first")
