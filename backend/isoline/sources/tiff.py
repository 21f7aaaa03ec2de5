"""TIFF read tile by tile with tifffile: brightfield, fluorescence, OME-TIFF; 8 and 16 bits.

Each pixel is exactly what the file's encoder stored, in whatever box it is read. On JPEG tiles this
is several times faster than OpenSlide (tests/benchmarks/readers.py), which is why `OpenSlideSource`
too reads levels through `TiffPage` where it can.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from isoline.errors import Unreadable
from isoline.geometry.grid import XY, Box
from isoline.sources.base import ImageInfo, Source
from isoline.sources.fingerprint import fingerprint
from isoline.sources.pixel_size import NO_SPACING, believable, micrometres
from isoline.sources.pyramid import RGB, TileCache, level, paste, scale_problems, white

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MAX_TILE_BYTES = 256 << 20
"""An untiled image larger than this is rejected, since any read would decode all of it."""
_GREY, _RGB, _YCBCR = 1, 2, 6


class TiffFile:
    """An open TIFF file that several threads may read at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                if file.read(4) not in MAGIC:
                    raise Unreadable(f"{path.name} is not a TIFF")
            # an OME-TIFF may refer to further files anywhere: read only the requested one
            self.parsed = tifffile.TiffFile(path, _multifile=False)
        except OSError as error:
            raise Unreadable(f"{path.name}: {error.strerror or error}") from error
        except Unreadable:
            raise
        except Exception as error:  # tifffile trusts the file: struct.error, KeyError, ...
            raise Unreadable(f"{path.name}: {error}") from error
        self._lock = Lock()

    @property
    def pages(self) -> list[Any]:
        """The tifffile pages of the file, without those in SubIFDs."""
        try:
            return list(self.parsed.pages)
        except Exception as error:  # as above
            raise Unreadable(f"{self.path.name}: {error}") from error

    def largest_series(self) -> Any:
        """Return the tifffile series with the most pixels: not the label or the macro."""
        try:
            series = [part for part in self.parsed.series if {"X", "Y"} <= set(part.axes)]
        except Exception as error:  # as above
            raise Unreadable(f"{self.path.name}: {error}") from error
        if not series:
            raise Unreadable(f"{self.path.name} contains no image")
        return max(series, key=lambda part: part.size)

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`; fewer if the file ends earlier."""
        file = self.parsed.filehandle
        with self._lock:
            file.seek(offset)
            found: bytes = file.read(length)
        return found

    def close(self) -> None:
        with self._lock:
            self.parsed.close()


class TiffPage:
    """One image of a TIFF, decoded tile by tile; the strips of an untiled one count as tiles."""

    def __init__(self, file: TiffFile, page: Any) -> None:
        """Prepare to read `page` (a tifffile TiffPage or TiffFrame).

        Raises Unreadable if isoline does not support its type of pixels.
        """
        key = page.keyframe
        name = file.path.name
        if key.photometric not in (_GREY, _RGB, _YCBCR) or key.samplesperpixel not in (1, 3):
            raise Unreadable(
                f"{name} has {key.samplesperpixel} samples of photometric {key.photometric} "
                "per pixel, neither grey nor RGB"
            )
        if key.samplesperpixel > 1 and key.planarconfig != 1:
            raise Unreadable(f"{name} stores its colours in separate planes")
        if key.dtype not in (np.dtype("u1"), np.dtype("u2")):
            raise Unreadable(f"{name} has pixels of type {key.dtype}, not unsigned 8-bit or 16-bit")
        self._file = file
        self.size = (int(key.imagewidth), int(key.imagelength))
        self.samples = int(key.samplesperpixel)
        self.dtype: np.dtype[np.generic] = key.dtype.newbyteorder("=")
        width, height = self.size
        self.tile_size = (
            (int(key.tilewidth), int(key.tilelength))
            if key.is_tiled
            else (width, min(height, int(key.rowsperstrip)))
        )
        if math.prod(self.tile_size) * self.samples * self.dtype.itemsize > MAX_TILE_BYTES:
            raise Unreadable(f"{name} is {width} x {height} pixels in one piece, not in tiles")
        # tifffile reads tags lazily; later, other threads may have moved the file position
        self._decode: Callable[..., Any] = key.decode
        self._tables = page.jpegtables
        self._offsets: tuple[int, ...] = page.dataoffsets
        self._lengths: tuple[int, ...] = page.databytecounts
        self._columns = -(-width // self.tile_size[0])
        tiles = self._columns * -(-height // self.tile_size[1])
        if len(self._offsets) != tiles or len(self._lengths) != tiles:
            raise Unreadable(f"{name} has {len(self._offsets)} tiles of pixels instead of {tiles}")

    @property
    def has_every_tile(self) -> bool:
        """Whether no tile is missing; some scanners leave out empty ones."""
        return all(self._lengths)

    def busiest_tile(self) -> tuple[int, int]:
        """Return (column, row) of the tile with the most encoded bytes."""
        index = int(np.argmax(self._lengths))
        return index % self._columns, index // self._columns

    def tile(self, column: int, row: int) -> NDArray[np.generic]:
        """Decode one tile as (y, x, samples); it may extend beyond the image or end at its border.

        Raises Unreadable if it is damaged.
        """
        index = row * self._columns + column
        length = self._lengths[index]
        if not length:
            # TIFF 6.0 does not allow missing tiles; writers of sparse files mean zeros
            wide, tall = self.tile_size
            return np.zeros((tall, wide, self.samples), self.dtype)
        data = self._file.bytes_at(self._offsets[index], length)
        if len(data) < length:
            raise Unreadable(f"{self._where(column, row)} ends before its last pixel")
        try:
            decoded = self._decode(data, index, jpegtables=self._tables)[0]
        except Exception as error:  # each codec raises its own errors
            raise Unreadable(f"{self._where(column, row)} cannot be decoded: {error}") from error
        tile: NDArray[np.generic] = decoded.reshape(decoded.shape[-3:])
        return tile.astype(self.dtype, copy=False)

    def _where(self, column: int, row: int) -> str:
        wide, tall = self.tile_size
        return f"{self._file.path.name}, the tile at x {column * wide}, y {row * tall}"


@dataclass(frozen=True)
class _Stack:
    """How the pages of a series map to channels and planes, slowest axis first."""

    axes: tuple[tuple[str, int], ...]
    """(axis, length); the axis is C or Z, or another of which only the first index is read."""

    def length(self, axis: str) -> int:
        return dict(self.axes).get(axis, 1)

    @property
    def pages(self) -> int:
        return math.prod(length for _, length in self.axes)

    def page(self, channel: int, z: int) -> int:
        """Return the index of the page with this channel of this plane."""
        index = 0
        for axis, length in self.axes:
            index = index * length + {"C": channel, "Z": z}.get(axis, 0)
        return index

    def problems(self) -> tuple[str, ...]:
        return tuple(
            f"the file contains {length} images along its axis {axis}; only the first is read"
            for axis, length in self.axes
            if axis not in "CZ" and length > 1
        )


class TiffSource(Source):
    """A TIFF through tifffile: the largest series of the file with its pyramid."""

    name = "tiff"

    def __init__(self, path: Path) -> None:
        self._file = TiffFile(path)
        self._cache = TileCache()
        self._closed = False
        try:
            series = self._file.largest_series()
            self._stack = _stack(series, path.name)
            self._pages = tuple(
                tuple(TiffPage(self._file, page) for page in part.pages)
                for part in series.levels
                if part.axes == series.axes
            )
            self.info = self._describe(path)
        except BaseException:
            self._file.close()
            raise

    @classmethod
    def open(cls, path: Path) -> TiffSource:
        return cls(path)

    def _describe(self, path: Path) -> ImageInfo:
        stack, first = self._stack, self._pages[0][0]
        if any(len(pages) != stack.pages for pages in self._pages):
            raise Unreadable(f"{path.name} does not store one plane per TIFF page")
        if any(page.size != pages[0].size for pages in self._pages for page in pages):
            raise Unreadable(f"{path.name} has planes of different sizes")
        colour = first.samples == 3
        if colour and stack.length("C") > 1:
            raise Unreadable(f"{path.name} has {stack.length('C')} colour images in one")
        levels = tuple(level(first.size, pages[0].size) for pages in self._pages)
        ome = _ome_pixels(self._file.parsed)
        spacing = _spacing(self._file.parsed, ome)
        return ImageInfo(
            reader=self.name,
            fingerprint=fingerprint(path),
            kind="slide" if colour and len(levels) > 1 else "image",
            levels=levels,
            spacing_um=spacing,
            channels=RGB if colour else _channel_names(ome, stack.length("C")),
            dtype=first.dtype,
            background=white(first.dtype) if colour else (0,) * stack.length("C"),
            z_planes=stack.length("Z"),
            problems=(
                *stack.problems(),
                *scale_problems(levels),
                *(() if spacing else (NO_SPACING,)),
            ),
        )

    def read_level(self, level: int, box: Box, z: int = 0) -> NDArray[np.generic]:
        if self._closed:
            raise ValueError("read from a closed image")
        stack = self._stack
        planes = [self._read(level, stack.page(c, z), box) for c in range(stack.length("C"))]
        if len(planes) == 1:
            return np.moveaxis(planes[0], 2, 0)
        return np.stack([plane[..., 0] for plane in planes])

    def _read(self, level: int, index: int, box: Box) -> NDArray[np.generic]:
        """Return the pixels (y, x, samples) of one page."""
        page = self._pages[level][index]
        out = np.empty((box.height, box.width, page.samples), self.info.dtype)

        def tile(column: int, row: int) -> NDArray[np.generic]:
            key = level, index, column, row
            return self._cache.get(key, lambda: page.tile(column, row))

        paste(out, box, page.tile_size, tile)
        return out

    def close(self) -> None:
        self._closed = True
        self._cache.clear()
        self._file.close()


def _stack(series: Any, name: str) -> _Stack:
    """Parse the axes of a tifffile series, such as TZCYX or YXS."""
    axes = series.axes
    if not axes.rstrip("S").endswith("YX"):
        raise Unreadable(f"{name} has its axes in the order {axes}")
    outer = axes[: axes.index("Y")]
    if "C" not in outer:
        # an unnamed axis: pages of a file that does not say what they are
        outer = outer.replace("I", "C").replace("Q", "C")
    if len(set(outer)) < len(outer):
        raise Unreadable(f"{name} has its axes in the order {axes}")
    return _Stack(tuple(zip(outer, map(int, series.shape), strict=False)))


def _ome_pixels(tiff: Any) -> ElementTree.Element | None:
    """Return the first Pixels element of the file's OME-XML, None if there is none."""
    if not tiff.is_ome:
        return None
    try:
        return ElementTree.fromstring(tiff.ome_metadata).find("{*}Image/{*}Pixels")
    except (ElementTree.ParseError, TypeError):
        return None


def _channel_names(ome: ElementTree.Element | None, count: int) -> tuple[str, ...]:
    """Return the file's channel names, made unique; numbered from 1 if it has none."""
    found = (
        [] if ome is None else [channel.get("Name") or "" for channel in ome.findall("{*}Channel")]
    )
    given = found if len(found) == count else [""] * count
    return unique_names(given)


def unique_names(given: Sequence[str]) -> tuple[str, ...]:
    """Return the names, with "channel n" for empty ones and a number appended to repeated ones."""
    names: list[str] = []
    for number, name in enumerate(given, 1):
        wanted = name.strip() or f"channel {number}"
        names.append(f"{wanted} {number}" if wanted in names else wanted)
    return tuple(names)


def _spacing(tiff: Any, ome: ElementTree.Element | None) -> XY | None:
    """Return the pixel size from OME-XML, Aperio's description or the resolution tags."""
    if ome is not None:
        return believable(
            micrometres(ome.get("PhysicalSizeX"), ome.get("PhysicalSizeXUnit")),
            micrometres(ome.get("PhysicalSizeY"), ome.get("PhysicalSizeYUnit")),
        )
    page = tiff.pages[0]
    if tiff.is_svs:
        stated = re.search(r"\bMPP *= *([0-9.]+)", page.description)
        mpp = micrometres(stated[1], "um") if stated else None
        return believable(mpp, mpp)
    return resolution_spacing(page)


def resolution_spacing(page: Any) -> XY | None:
    """Return the pixel size from the resolution tags of a tifffile page (TIFF 6.0, page 38)."""
    tags = page.tags
    unit_um = {2: 25_400.0, 3: 10_000.0}.get(int(tags.valueof("ResolutionUnit", default=1)))
    x, y = (tags.valueof(f"{axis}Resolution", default=(0, 1)) for axis in "XY")
    if unit_um is None or not (x[0] and x[1] and y[0] and y[1]):
        return None
    return believable(unit_um * x[1] / x[0], unit_um * y[1] / y[0])
