"""Images uploaded by a viewer: a full-resolution area, an overview, and background elsewhere."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isoline.domain.request import SegmentRequest
from isoline.errors import Malformed, Unreadable
from isoline.geometry.grid import XY, Box
from isoline.sources.pixel_size import NO_SPACING
from isoline.sources.pyramid import RGB, TileCache, paste, white
from isoline.sources.source import ImageInfo, Level, Source
from isoline.sources.upload_manifest import Part, UploadManifest

MANIFEST = "upload.json"
_MODES = {"uint8": ("L",), "uint16": ("I;16", "I;16B")}


@dataclass(frozen=True)
class UploadLevel:
    """One resolution of an upload."""

    downsample: int
    """Image pixels per pixel of this layer."""
    area: Box
    """The uploaded part, in pixels of this layer."""


@dataclass(frozen=True)
class Manifest(UploadManifest):
    """The metadata of an uploaded picture, without its pixels."""

    noun: ClassVar[str] = "tile"
    file_name: ClassVar[str] = MANIFEST

    size: tuple[int, int]
    """(width, height) of the whole image at full resolution."""
    spacing_um: XY | None
    channels: tuple[str, ...]
    dtype: Literal["uint8", "uint16"]
    kind: Literal["slide", "image"]
    tile_px: int
    layers: tuple[UploadLevel, ...]
    """Full resolution first."""

    @property
    def parts(self) -> Iterator[Part]:
        return iter(self.tiles)

    @property
    def tiles(self) -> Iterator[tuple[int, int, int]]:
        """Yield (level, column, row) of every required tile."""
        side = self.tile_px
        for level, layer in enumerate(self.layers):
            area = layer.area
            for row in range(area.y0 // side, -(-area.y1 // side)):
                for column in range(area.x0 // side, -(-area.x1 // side)):
                    yield level, column, row

    def tile(self, level: int, column: int, row: int) -> Box:
        """Return the box of a tile in pixels of its level: its cell, clipped to the area."""
        x, y, side = column * self.tile_px, row * self.tile_px, self.tile_px
        return self.layers[level].area.intersect(Box(x, y, x + side, y + side))

    def has(self, part: Part) -> bool:
        return len(part) == 3 and part[0] < len(self.layers) and not self.tile(*part).empty

    def decode(self, part: Part, body: bytes) -> NDArray[np.generic]:
        level, column, row = part
        return decode(body, self, self.tile(level, column, row))

    def part_file(self, part: Part) -> str:
        return "{}-{}-{}.png".format(*part)

    @classmethod
    def of_json(cls, text: str) -> Manifest:
        """Parse the output of `to_json`. Raises ValueError, TypeError or KeyError for other
        text."""
        parsed = json.loads(text)
        spacing = parsed.pop("spacing_um")
        layers = parsed.pop("layers")
        return cls(
            size=tuple(parsed.pop("size")),
            spacing_um=None if spacing is None else XY(*spacing),
            channels=tuple(parsed.pop("channels")),
            layers=tuple(
                UploadLevel(each["downsample"], Box(*map(int, each["area"]))) for each in layers
            ),
            **parsed,
        )


class UploadSource(Source):
    """A sealed upload, opened by the path of its manifest."""

    name = "upload"

    def __init__(self, path: Path) -> None:
        try:
            manifest = Manifest.of_json(path.read_text("utf-8"))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Unreadable(f"{path.parent.name}: not an upload: {error}") from error
        self._directory = path.parent
        self._is_closed = False
        self._manifest = manifest
        self._cache = TileCache()
        dtype = np.dtype(manifest.dtype)
        is_rgb = manifest.channels == RGB
        width, height = manifest.size
        self.info = ImageInfo(
            reader=self.name,
            fingerprint=manifest.fingerprint,
            kind=manifest.kind,
            levels=tuple(
                Level(
                    (-(-width // layer.downsample), -(-height // layer.downsample)),
                    XY(float(layer.downsample), float(layer.downsample)),
                )
                for layer in manifest.layers
            ),
            spacing_um=manifest.spacing_um,
            channels=manifest.channels,
            dtype=dtype,
            background=white(dtype) if is_rgb else (0,) * len(manifest.channels),
            covered=manifest.layers[0].area,
            problems=() if manifest.spacing_um else (NO_SPACING,),
        )
        self._background = np.array(self.info.background, dtype)

    @classmethod
    def open(cls, path: Path) -> UploadSource:
        return cls(path)

    def read_level(self, level: int, box: Box, z: int = 0) -> NDArray[np.generic]:
        if self._is_closed:
            raise ValueError("read from a closed image")
        shape = (box.height, box.width, len(self.info.channels))
        out: NDArray[np.generic] = np.empty(shape, self.info.dtype)
        out[:] = self._background
        here = box.intersect(self._manifest.layers[level].area)
        if not here.empty:
            side = self._manifest.tile_px
            part = out[box.slices_of(here)]
            paste(part, here, (side, side), lambda column, row: self._tile(level, column, row))
        return np.moveaxis(out, 2, 0)

    def close(self) -> None:
        self._is_closed = True
        self._cache.clear()

    def _tile(self, level: int, column: int, row: int) -> NDArray[np.generic]:
        return self._cache.get((level, column, row), lambda: self._load(level, column, row))

    def _load(self, level: int, column: int, row: int) -> NDArray[np.generic]:
        """Return (y, x, c) of a whole cell; values outside the area are never used."""
        name, side = self._manifest.part_file((level, column, row)), self._manifest.tile_px
        box = self._manifest.tile(level, column, row)
        try:
            pixels = decode((self._directory / name).read_bytes(), self._manifest, box)
        except (OSError, Malformed) as error:
            raise Unreadable(f"upload {self._directory.name}, {name}: {error}") from error
        cell: NDArray[np.generic] = np.zeros((side, side, pixels.shape[2]), pixels.dtype)
        x, y = column * side, row * side
        cell[Box(x, y, x + side, y + side).slices_of(box)] = pixels
        return cell


def decode(png: bytes, manifest: Manifest, box: Box) -> NDArray[np.generic]:
    """Return (y, x, c) of `box` from a PNG of exactly that size.

    RGB images use an RGB PNG. Others use one grey PNG of their bit depth, with the channels stacked
    from top to bottom. Raises Malformed for anything else, before a pixel is decoded.
    """
    is_rgb, count = manifest.channels == RGB, len(manifest.channels)
    size = (box.width, box.height * (1 if is_rgb else count))
    modes = ("RGB",) if is_rgb else _MODES[manifest.dtype]
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            if (
                image.size != size
                or image.mode not in modes
                or getattr(image, "is_animated", False)
            ):
                raise Malformed(
                    f"got a PNG of {image.size[0]} x {image.size[1]} pixels, mode {image.mode}; "
                    f"expected {size[0]} x {size[1]}, mode {modes[0]}",
                    "send exactly the pixels of the tile, without alpha or palette",
                )
            pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Malformed(f"not a PNG that can be decoded: {error}", "send it again") from error
    if is_rgb:
        return pixels
    stacked = pixels.astype(manifest.dtype).reshape(count, box.height, box.width)
    return np.moveaxis(stacked, 0, 2)


@dataclass(frozen=True)
class UploadRequest:
    """An announcement of pixels that a viewer will send because the server cannot see the file."""

    size: tuple[int, int]
    """(width, height) of the whole image at full resolution."""
    request: SegmentRequest
    """The request that they are for, which determines the required pixels."""
    spacing_um: XY | None = None
    channels: tuple[str, ...] = ("red", "green", "blue")
    dtype: Literal["uint8", "uint16"] = "uint8"
    is_slide: bool = True
    """Whether there is glass around the tissue."""

    @property
    def info(self) -> ImageInfo:
        """The metadata that the image will have once it has been uploaded."""
        dtype = np.dtype(self.dtype)
        return ImageInfo(
            reader="upload",
            fingerprint="",
            kind="slide" if self.is_slide else "image",
            levels=(Level(self.size, XY(1.0, 1.0)),),
            spacing_um=self.spacing_um,
            channels=self.channels,
            dtype=dtype,
            background=(0,) * len(self.channels),
        )
