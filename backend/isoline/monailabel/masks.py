"""Results as a mask of an image's pixels, in the files that MONAI Label's clients read."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from isoline.contours import successors
from isoline.errors import NotSupported, TooLarge
from isoline.events import Objects
from isoline.geometry import XY, Grid

_NRRD_TYPES = {"uint8": "uint8", "uint16": "uint16", "int16": "int16", "int32": "int32"}


@dataclass(frozen=True)
class Frame:
    """The pixels of a mask: which part of the image they show and how large they are."""

    origin: XY
    """Image coordinates of the corner of the first pixel."""
    size: tuple[int, int]
    """(width, height) in pixels of the mask."""
    downsample: XY
    """Image pixels per pixel of the mask."""


def draw(found: Iterable[Objects], grid: Grid, frame: Frame, max_pixels: int) -> NDArray[np.int32]:
    """Return (y, x): 0 where there is nothing, else 1 + the index of the label.

    A pixel belongs to an object when its centre lies inside. Raises TooLarge.
    """
    width, height = frame.size
    if width * height > max_pixels:
        raise TooLarge(
            f"a mask of {width} x {height} pixels is too large",
            f"ask for a part with location and size, of at most {max_pixels} pixels",
        )
    # each vertical edge of a ring starts or ends its object in the rows that it spans
    steps = np.zeros((height + 1, width + 1), np.int32)
    for objects in found:
        _add_edges(steps, objects, grid, frame)
    np.cumsum(steps, axis=0, out=steps)
    np.cumsum(steps, axis=1, out=steps)
    return steps[:height, :width]


def _add_edges(steps: NDArray[np.int32], objects: Objects, grid: Grid, frame: Frame) -> None:
    polygons = objects.polygons
    corners = (grid.to_image(polygons.corners) - frame.origin) / frame.downsample
    # the first pixel whose centre is not before the corner
    x, y = np.clip(np.ceil(corners - 0.5), 0, frame.size).astype(np.intp).T
    following = successors(polygons.ring_start)
    value = np.repeat(objects.label.astype(np.int32) + 1, np.diff(polygons.object_corner))
    vertical = polygons.corners[:, 0] == polygons.corners[following, 0]
    x, y0, y1, value = x[vertical], y[vertical], y[following][vertical], value[vertical]
    # shells run clockwise as seen on screen: up on their left side, down on their right
    np.add.at(steps, (y1, x), value)
    np.add.at(steps, (y0, x), -value)


def encode(
    mask: NDArray[np.int32], suffix: str, dtype: str | None, *, compress: bool
) -> tuple[bytes, str]:
    """Return `mask` as a file of the kind `suffix`, and its media type.

    Raises NotSupported for a kind or type that cannot be written.
    """
    kind = dtype or ("uint8" if mask.max(initial=0) < 256 else "uint16")
    if kind not in _NRRD_TYPES:
        raise NotSupported(
            f"a mask cannot have the type {kind!r}", f"choose from {', '.join(_NRRD_TYPES)}"
        )
    pixels = mask.astype(kind)
    if suffix == ".nrrd":
        return _nrrd(pixels, _NRRD_TYPES[kind], compress=compress), "application/octet-stream"
    buffer = io.BytesIO()
    if suffix == ".png" and kind in ("uint8", "uint16"):
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), "image/png"
    if suffix in (".tif", ".tiff"):
        tifffile.imwrite(buffer, pixels, compression="deflate", photometric="minisblack")
        return buffer.getvalue(), "image/tiff"
    raise NotSupported(
        f"a mask of a plane cannot be written as {suffix!r} of {kind}",
        "set result_extension to .png, .nrrd or .tif; volumes are not available yet",
    )


def _nrrd(pixels: NDArray[np.generic], kind: str, *, compress: bool) -> bytes:
    """Return a NRRD file of (y, x) pixels (format definition, section 3: sizes go x first)."""
    height, width = pixels.shape
    header = (
        f"NRRD0004\ntype: {kind}\ndimension: 2\nsizes: {width} {height}\n"
        f"kinds: domain domain\nendian: little\nencoding: {'gzip' if compress else 'raw'}\n\n"
    )
    raw = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    return header.encode() + (gzip.compress(raw, 1) if compress else raw)
