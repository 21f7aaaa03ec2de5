"""TIFF, OME-TIFF and DICOM whole slides through large_image.

For files that neither OpenSlide nor tifffile alone understands. Only its sources for TIFF and DICOM
are used, chosen by the first bytes of the file: some of the others open videos, scripts and URLs.

Pixels come from `getTile` on the source's own tile lattice and only from levels that exist in the
file, so that each pixel depends only on its position; this does not hold for large_image's regions
and scaled reads.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import Cache
from numpy.typing import NDArray

from isoline.errors import Unreadable
from isoline.geometry.grid import Box
from isoline.sources.fingerprint import fingerprint
from isoline.sources.pixel_size import NO_SPACING, believable
from isoline.sources.pyramid import RGB, TileCache, level, paste, scale_problems, white
from isoline.sources.source import ImageInfo, Source
from isoline.sources.tiff_file import MAGIC
from isoline.sources.tiff_series import unique_names

_TIFF_KINDS = (
    ("large_image_source_ometiff", "OMETiffFileTileSource"),
    ("large_image_source_tifffile", "TifffileFileTileSource"),
    ("large_image_source_tiff", "TiffFileTileSource"),
)
_DICOM_KINDS = (("large_image_source_dicom", "DICOMFileTileSource"),)


class LargeImageSource(Source):
    """An image that large_image can open: brightfield, or one frame per channel and plane."""

    name = "large_image"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tiles = _open_tiles(path)
        self._cache = TileCache()
        self._closed = False
        try:
            self._describe()
        except Unreadable:
            raise
        except Exception as error:  # large_image and the libraries beneath it may raise anything
            raise Unreadable(f"{path.name}: large_image: {error}") from error

    @classmethod
    def open(cls, path: Path) -> LargeImageSource:
        return cls(path)

    def _describe(self) -> None:
        tiles, name = self._tiles, self._path.name
        about = tiles.getMetadata()
        frames = about.get("frames") or [{"Frame": 0}]
        dtype = np.dtype(about["dtype"])
        if dtype not in (np.uint8, np.uint16):
            raise Unreadable(f"{name} has pixels of type {dtype}, not unsigned 8-bit or 16-bit")
        if len(frames) > 1 and not any({"IndexC", "IndexZ"} & set(frame) for frame in frames):
            raise Unreadable(f"{name} has {len(frames)} images without saying what they are")
        channels = 1 + max(frame.get("IndexC", 0) for frame in frames)
        colour = channels == 1 and about["bandCount"] >= 3
        if not colour and about["bandCount"] > 2:
            raise Unreadable(f"{name} has {channels} colour images in one")
        z_planes = 1 + max(frame.get("IndexZ", 0) for frame in frames)
        self._frames = {
            (frame.get("IndexC", 0), frame.get("IndexZ", 0)): frame["Frame"]
            for frame in reversed(frames)  # of several times or positions, the first is used
        }
        if len(self._frames) != channels * z_planes:
            raise Unreadable(f"{name} has channels with missing planes")
        unread = len(frames) - len(self._frames)
        self._levels = _native_levels(tiles)
        whole = (int(about["sizeX"]), int(about["sizeY"]))
        last = self._levels[0]
        levels = tuple(
            level(whole, (whole[0] >> (last - z), whole[1] >> (last - z))) for z in self._levels
        )
        mm_x, mm_y = about.get("mm_x"), about.get("mm_y")
        spacing = believable(mm_x and mm_x * 1000, mm_y and mm_y * 1000)
        given = about.get("channels") or [""] * channels
        self.info = ImageInfo(
            reader=self.name,
            fingerprint=fingerprint(self._path),
            kind="slide" if colour and len(levels) > 1 else "image",
            levels=levels,
            spacing_um=spacing,
            channels=RGB if colour else unique_names(given),
            dtype=dtype,
            background=white(dtype) if colour else (0,) * channels,
            z_planes=z_planes,
            problems=(
                *((f"{unread} further images in the file are not read",) if unread else ()),
                *scale_problems(levels),
                *(() if spacing else (NO_SPACING,)),
            ),
        )

    def read_level(self, level: int, box: Box, z: int = 0) -> NDArray[np.generic]:
        if self._closed:
            raise ValueError("read from a closed image")
        if self.info.is_rgb:
            rgb: NDArray[np.generic] = self._read(level, self._frames[0, z], box, 3)
            return np.moveaxis(rgb, 2, 0)
        channels = range(len(self.info.channels))
        return np.stack([self._read(level, self._frames[c, z], box, 1)[..., 0] for c in channels])

    def _read(self, level: int, frame: int, box: Box, bands: int) -> NDArray[np.generic]:
        """Return the pixels (y, x, bands) of one frame."""
        out = np.empty((box.height, box.width, bands), self.info.dtype)

        def tile(column: int, row: int) -> NDArray[np.generic]:
            def decode() -> NDArray[np.generic]:
                return self._tile(level, frame, column, row)[..., :bands]

            return self._cache.get((level, frame, column, row), decode)

        paste(out, box, (self._tiles.tileWidth, self._tiles.tileHeight), tile)
        return out

    def _tile(self, level: int, frame: int, column: int, row: int) -> NDArray[np.generic]:
        try:
            tile = self._tiles.getTile(
                column, row, self._levels[level], frame=frame, numpyAllowed="always"
            )
        except Exception as error:  # large_image and the libraries beneath it may raise anything
            where = f"{self._path.name}, level {level}, tile {column}, {row}"
            raise Unreadable(f"{where}: {error}") from error
        return np.asarray(tile)

    def close(self) -> None:
        self._closed = True
        self._cache.clear()
        del self._tiles


def _open_tiles(path: Path) -> Any:
    """Return the first large_image tile source that opens the file."""
    reasons: list[str] = []
    for module, kind in _kinds(path):
        try:
            # imported only here because each of them loads its own libraries
            tiles = getattr(import_module(module), kind)(str(path), noCache=True)
        except Exception as error:  # each of the libraries beneath raises its own errors
            reasons.append(f"{kind}: {error}")
            continue
        # large_image would cache each tile a second time, in a process-wide store
        tiles.cache, tiles.cache_lock = Cache(maxsize=0), None
        return tiles
    raise Unreadable(f"{path.name}: " + "; ".join(reasons))


def _kinds(path: Path) -> tuple[tuple[str, str], ...]:
    """Return (module, class) of the large_image sources that match the file's first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError as error:
        raise Unreadable(f"{path.name}: {error.strerror or error}") from error
    if head[:4] in MAGIC:
        return _TIFF_KINDS
    if head[128:] == b"DICM":
        _refuse_unless_8_bit(path)
        return _DICOM_KINDS
    raise Unreadable(f"{path.name} is neither TIFF nor DICOM")


def _refuse_unless_8_bit(path: Path) -> None:
    """Raise Unreadable for DICOM slides of more than 8 bits, which large_image cuts off at 255."""
    from pydicom import dcmread

    header = dcmread(path, stop_before_pixels=True, specific_tags=["BitsAllocated"])
    bits = header.get("BitsAllocated", 8)
    if bits != 8:
        raise Unreadable(
            f"{path.name} is a DICOM slide of {bits} bits per sample; isoline reads those of 8",
            "convert it to OME-TIFF, for example with bfconvert",
        )


def _native_levels(tiles: Any) -> tuple[int, ...]:
    """Return large_image's numbers of the levels that exist in the file, finest first.

    large_image offers every power of two and synthesises missing levels; only this attribute tells
    which are real, and for DICOM not even that.
    """
    last = tiles.levels - 1
    pyramids = getattr(getattr(tiles, "_dicom", None), "pyramids", None)
    if pyramids is not None:
        width = tiles.sizeX
        steps = {round(np.log2(width / part.size.width)) for part in pyramids[0]}
        return tuple(last - step for step in sorted(steps) if step <= last)
    held = tiles._nonemptyLevelsList(0)
    return tuple(z for z in range(last, -1, -1) if held[z])
