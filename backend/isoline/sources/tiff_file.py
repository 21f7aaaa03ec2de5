"""TIFF files and their pages, decoded tile by tile with tifffile.

Each pixel is exactly what the file's encoder stored, in whatever box it is read. On JPEG tiles this
is several times faster than OpenSlide (tests/benchmarks/readers.py), which is why `OpenSlideSource`
too reads levels through `TiffPage` where it can.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from isoline.errors import Unreadable
from isoline.sources.tiff_colours import colours_of

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MAX_TILE_BYTES = 256 << 20
"""An untiled image larger than this is rejected, since any read would decode all of it."""


class TiffFile:
    """An open TIFF file that several threads may read at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.bytes = path.stat().st_size
            with path.open("rb") as file:
                head = file.read(16)
            if head[:4] not in MAGIC:
                raise Unreadable(f"{path.name} is not a TIFF")
            if _first_page(head) >= self.bytes:
                raise Unreadable(
                    f"{path.name} ends, after {self.bytes} bytes, before its first page",
                    "copy it again: only a part of it has arrived",
                )
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

    @property
    def series(self) -> list[Any]:
        """The tifffile series of the file that are images. Raises Unreadable if there is none."""
        try:
            series = [part for part in self.parsed.series if {"X", "Y"} <= set(part.axes)]
        except Exception as error:  # as above
            raise Unreadable(f"{self.path.name}: {error}") from error
        if not series:
            raise Unreadable(f"{self.path.name} contains no image")
        return series

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


def _first_page(head: bytes) -> int:
    """Return the offset of the first page, by the first 16 bytes (TIFF 6.0, page 13; BigTIFF)."""
    offset = head[8:16] if 43 in head[2:4] else head[4:8]
    return int.from_bytes(offset, "little" if head.startswith(b"II") else "big")


class TiffPage:
    """One image of a TIFF, decoded tile by tile; the strips of an untiled one count as tiles."""

    def __init__(self, file: TiffFile, page: Any) -> None:
        """Prepare to read `page` (a tifffile TiffPage or TiffFrame).

        Raises Unreadable if isoline does not support its type of pixels.
        """
        key = page.keyframe
        name = file.path.name
        self.colours = colours = colours_of(key, name)
        self._file = file
        self.size = (int(key.imagewidth), int(key.imagelength))
        self.samples = colours.channels
        self.dtype = colours.dtype
        self.orientation = int(key.tags.valueof("Orientation", default=1))
        width, height = self.size
        self.tile_size = (
            (int(key.tilewidth), int(key.tilelength))
            if key.is_tiled
            else (width, min(height, int(key.rowsperstrip)))
        )
        self.is_tiled = bool(key.is_tiled)
        stored = int(key.samplesperpixel)
        self._planes = stored if key.planarconfig == 2 else 1
        self._stored = key.dtype.newbyteorder("="), stored // self._planes
        if math.prod(self.tile_size) * stored * key.dtype.itemsize > MAX_TILE_BYTES:
            raise Unreadable(
                f"{name} is {width} x {height} pixels in one piece, not in tiles",
                "convert it to a tiled TIFF",
            )
        # tifffile reads tags lazily; later, other threads may have moved the file position
        self._decode: Callable[..., Any] = key.decode
        self._tables = page.jpegtables
        self._offsets: tuple[int, ...] = page.dataoffsets
        self._lengths: tuple[int, ...] = page.databytecounts
        self._columns = -(-width // self.tile_size[0])
        self._tiles = self._columns * -(-height // self.tile_size[1])
        expected = self._tiles * self._planes
        if len(self._offsets) != expected or len(self._lengths) != expected:
            raise Unreadable(
                f"{name} has {len(self._offsets)} tiles of pixels instead of {expected}"
            )
        nodata = key.nodata if 42113 in key.tags else 0
        self._blank = np.full((1, 1, stored), nodata, self._stored[0])

    @property
    def missing_tiles(self) -> int:
        """The number of tiles that are not stored; some scanners leave out empty ones."""
        return sum(not length for length in self._lengths[: self._tiles])

    @property
    def end(self) -> int:
        """The number of bytes that the file must have for all tiles."""
        return max(map(sum, zip(self._offsets, self._lengths, strict=True)), default=0)

    def has_tile(self, column: int, row: int) -> bool:
        return bool(self._lengths[row * self._columns + column])

    def busiest_tile(self) -> tuple[int, int]:
        """Return (column, row) of the tile with the most encoded bytes."""
        index = int(np.argmax(self._lengths[: self._tiles]))
        return index % self._columns, index // self._columns

    def tile(self, column: int, row: int) -> NDArray[np.generic]:
        """Decode one tile as (y, x, channels); it may extend beyond the image or end at its border.

        Raises Unreadable if it is damaged.
        """
        index = row * self._columns + column
        if not self._lengths[index]:
            return self._missing()
        planes = [
            self._samples(column, row, index + plane * self._tiles) for plane in range(self._planes)
        ]
        samples = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
        return np.asarray(self.colours.convert(samples), self.dtype)

    def _samples(self, column: int, row: int, index: int) -> NDArray[np.generic]:
        """Return the stored samples (y, x, samples) of a tile, or of one plane of it."""
        length = self._lengths[index]
        data = self._file.bytes_at(self._offsets[index], length)
        if len(data) < length or not length:
            raise Unreadable(f"{self._where(column, row)} ends before its last pixel")
        try:
            decoded = self._decode(data, index, jpegtables=self._tables)[0]
        except Exception as error:  # each codec raises its own errors
            raise Unreadable(f"{self._where(column, row)} cannot be decoded: {error}") from error
        tile: NDArray[np.generic] = decoded.reshape(decoded.shape[-3:])
        return tile.astype(self._stored[0], copy=False)

    def _missing(self) -> NDArray[np.generic]:
        """Return a tile that is not stored: of zeros, or of the value that the file names."""
        wide, tall = self.tile_size
        blank = self.colours.convert(self._blank)
        return np.full((tall, wide, self.samples), blank, self.dtype)

    def _where(self, column: int, row: int) -> str:
        wide, tall = self.tile_size
        return f"{self._file.path.name}, the tile at x {column * wide}, y {row * tall}"
