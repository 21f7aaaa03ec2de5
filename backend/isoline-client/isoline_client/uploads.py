"""Uploads of images that the server does not have. Requires NumPy.

The server lists the pixels that a request needs, as isoline's protocol describes. Pixels are
(y, x, 3) uint8 for images in colour, and (c, y, x) uint8 or uint16 for named channels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from isoline_client.arrays import Pixels, np
from isoline_client.connection import Connection
from isoline_client.images import Volume
from isoline_client.options import Json, Options, request_body

Box: TypeAlias = tuple[int, int, int, int]
"""Whole pixels [x0, x1) x [y0, y1) of a level, as (x0, y0, x1, y1)."""
Read: TypeAlias = Callable[[int, Box], Pixels]
"""Given a downsample in image pixels per pixel and a box at that resolution, returns its pixels."""

PIXEL_TYPES = ("uint8", "uint16")
VOXEL_TYPES = ("uint8", "int8", "uint16", "int16", "float32")


def upload_region(
    server: Connection,
    read: Read,
    size: Sequence[int],
    model: str,
    options: Options,
    *,
    channels: Sequence[str] | None,
    dtype: str,
    is_slide: bool,
) -> str:
    """Upload the pixels that a request needs, and return the image's name; see `Client`."""
    _check_type(dtype, PIXEL_TYPES if channels else PIXEL_TYPES[:1], "pixels")
    announced: Json = {
        "size": [*size],
        "dtype": dtype,
        "is_slide": is_slide,
        "request": _purpose(model, {**options, "spacing_um": None}),
    }
    if channels is not None:
        announced["channels"] = [*channels]
    if options.get("spacing_um") is not None:
        announced["spacing_um"] = options["spacing_um"]
    wanted = server.ask("POST", "/v1/uploads", announced)
    for level, each in enumerate(wanted["levels"]):
        for column, row, box in _tiles(each["area"], wanted["tile_px"]):
            png = _tile(read(each["downsample"], box), box, channels, dtype)
            path = f"/v1/uploads/{wanted['upload']}/tiles/{level}/{column}/{row}"
            server.exchange("PUT", path, png, {"Content-Type": "image/png"})
    return str(wanted["image"])


def upload_volume(
    server: Connection, voxels: Pixels, volume: Volume, model: str, options: Options
) -> str:
    """Upload the voxels of a volume, and return the image's name; see `Client`."""
    dtype = np.dtype(voxels.dtype).name
    _check_type(dtype, VOXEL_TYPES, "voxels")
    if voxels.shape != volume.shape:
        raise ValueError(
            f"the voxels have the shape {voxels.shape}, the volume has {volume.shape}; "
            "arrays of voxels are (k, j, i)"
        )
    announced: Json = {
        "volume": volume.to_json(),
        "dtype": dtype,
        "request": _purpose(model, options),
    }
    wanted = server.ask("POST", "/v1/uploads", announced)
    little_endian = np.dtype(dtype).newbyteorder("<")
    for k in range(len(voxels)):
        path = f"/v1/uploads/{wanted['upload']}/slices/{k}"
        plane = np.ascontiguousarray(voxels[k], little_endian).tobytes()
        server.exchange("PUT", path, plane, {"Content-Type": "application/octet-stream"})
    return str(wanted["image"])


@dataclass(frozen=True)
class ArrayPixels:
    """An array as an image for `upload_region`: any part of it, at any downsample."""

    pixels: Pixels
    channels: Sequence[str] | None

    def __post_init__(self) -> None:
        if self.channels is None and self.pixels.shape[2:] != (3,):
            raise ValueError(
                f"pixels of shape {self.pixels.shape} are not in colour, (y, x, 3); "
                "name the `channels` of (c, y, x)"
            )
        if self.channels is not None and (
            self.pixels.ndim != 3 or len(self.pixels) != len(self.channels)
        ):
            raise ValueError(
                f"pixels of shape {self.pixels.shape} do not have one plane for each of the "
                f"{len(self.channels)} channels; pass (c, y, x)"
            )

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        height, width = self.pixels.shape[self._y : self._y + 2]
        return width, height

    def read(self, downsample: int, box: Box) -> Pixels:
        """Return the pixels of `box`, each the mean of the array's pixels that it covers."""
        x0, y0, x1, y1 = (edge * downsample for edge in box)
        inside = (slice(None),) * self._y + (slice(y0, y1), slice(x0, x1))
        part = self.pixels[inside]
        if downsample == 1:
            return part
        means = _means(_means(part, self._y, downsample), self._y + 1, downsample)
        return np.rint(means).astype(part.dtype)

    @property
    def _y(self) -> int:
        """The axis of rows; that of columns follows it."""
        return 0 if self.channels is None else 1


def _means(pixels: Pixels, axis: int, count: int) -> Pixels:
    """Return the means of each `count` neighbours along an axis, of fewer at its end."""
    starts = np.arange(0, pixels.shape[axis], count)
    sums = np.add.reduceat(pixels, starts, axis=axis, dtype=np.float64)
    counts = np.diff(starts, append=pixels.shape[axis])
    means: Pixels = sums / np.expand_dims(counts, [n for n in range(pixels.ndim) if n != axis])
    return means


def _purpose(model: str, options: Options) -> Json:
    purpose = request_body("", model, options)
    del purpose["image"]
    return purpose


def _check_type(dtype: str, known: Sequence[str], what: str) -> None:
    if dtype not in known:
        raise ValueError(f"{what} are {dtype}; convert them to {' or '.join(known)}")


def _tiles(area: Sequence[int], side: int) -> Iterator[tuple[int, int, Box]]:
    """Yield the column, the row and the box of each tile of an area."""
    x0, y0, x1, y1 = area
    for row in range(y0 // side, -(-y1 // side)):
        for column in range(x0 // side, -(-x1 // side)):
            x, y = column * side, row * side
            yield column, row, (max(x0, x), max(y0, y), min(x1, x + side), min(y1, y + side))


def _tile(pixels: Pixels, box: Box, channels: Sequence[str] | None, dtype: str) -> bytes:
    """Return the PNG of a tile; named channels are stacked from top to bottom."""
    width, height = box[2] - box[0], box[3] - box[1]
    shape = (height, width, 3) if channels is None else (len(channels), height, width)
    if pixels.shape != shape or pixels.dtype.name != dtype:
        raise ValueError(
            f"the pixels of {box} have shape {pixels.shape} and type {pixels.dtype}; "
            f"expected {shape} and {dtype}"
        )
    return _png(pixels if channels is None else pixels.reshape(-1, width))


def _png(pixels: Pixels) -> bytes:
    """Return (y, x, 3) uint8, or (y, x) uint8 or uint16, as PNG (ISO/IEC 15948)."""
    height, width = pixels.shape[:2]
    lines = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">")).view(np.uint8)
    filtered = np.pad(lines.reshape(height, -1), ((0, 0), (1, 0)))  # 0 before each line: no filter
    color, depth = 2 if pixels.ndim == 3 else 0, 8 * pixels.dtype.itemsize
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(filtered.tobytes(), 1)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))
