"""Results as masks, in the file formats that MONAI Label's clients read."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isoline.domain.events import Objects
from isoline.errors import NotSupported, TooLarge
from isoline.exports import nrrd
from isoline.geometry.grid import XY, Grid
from isoline.geometry.polygons import successors

_PNG_TYPES = ("uint8", "uint16")
_TYPES = (*_PNG_TYPES, "int16", "int32")


@dataclass(frozen=True)
class Frame:
    """The position and size of a mask's pixels on the image."""

    origin: XY
    """Image coordinates of the corner of the first pixel."""
    size: tuple[int, int]
    """(width, height) in pixels of the mask."""
    downsample: XY
    """Image pixels per pixel of the mask."""


@dataclass(frozen=True)
class Kind:
    """The file format of a mask."""

    suffix: str
    dtype: str | None
    """None for the smallest type that can represent every label."""
    compress: bool
    """Applies to NRRD; the others are always compressed."""

    @classmethod
    def of(cls, params: Mapping[str, object]) -> Kind:
        """Return the format requested by `result_...` in `params`. Raises NotSupported."""
        suffix = str(params.get("result_extension") or ".png").lower()
        suffix = suffix if suffix.startswith(".") else f".{suffix}"
        if suffix not in (".png", ".nrrd", ".tif", ".tiff"):
            raise NotSupported(
                f"a mask of a plane cannot be written as {suffix!r}",
                "set result_extension to .png, .nrrd or .tif",
            )
        types = _PNG_TYPES if suffix == ".png" else _TYPES
        dtype = params.get("result_dtype")
        if dtype is not None and dtype not in types:
            raise NotSupported(
                f"{suffix} does not support pixels of type {dtype!r}", f"choose {', '.join(types)}"
            )
        compress = bool(params.get("result_compress"))
        return cls(suffix, None if dtype is None else str(dtype), compress)


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Raise TooLarge for a mask with more than `max_pixels`."""
    width, height = size
    if width * height > max_pixels:
        raise TooLarge(
            f"a mask of {width} x {height} pixels is too large",
            f"request a part of at most {max_pixels} pixels, with location and size",
        )


def draw(found: Iterable[Objects], grid: Grid, frame: Frame) -> NDArray[np.int32]:
    """Return (y, x) 0 for background, otherwise 1 + the index of the label.

    A pixel belongs to an object if its centre lies inside.
    """
    width, height = frame.size
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
    # the first pixel whose centre is at or after the corner
    x, y = np.clip(np.ceil(corners - 0.5), 0, frame.size).astype(np.intp).T
    following = successors(polygons.ring_start)
    value = np.repeat(objects.label.astype(np.int32) + 1, np.diff(polygons.object_corner))
    vertical = polygons.corners[:, 0] == polygons.corners[following, 0]
    x, y0, y1, value = x[vertical], y[vertical], y[following][vertical], value[vertical]
    # shells run clockwise as seen on screen: up on the left, down on the right
    np.add.at(steps, (y1, x), value)
    np.add.at(steps, (y0, x), -value)


def encode(mask: NDArray[np.int32], kind: Kind) -> tuple[bytes, str]:
    """Return `mask` as a file, and its media type."""
    dtype = kind.dtype or ("uint8" if mask.max(initial=0) < 256 else "uint16")
    pixels = mask.astype(dtype)
    if kind.suffix == ".nrrd":
        return nrrd.encode(pixels, compress=kind.compress), "application/octet-stream"
    buffer = io.BytesIO()
    if kind.suffix == ".png":
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), "image/png"
    import tifffile  # imported only when requested

    tifffile.imwrite(buffer, pixels, compression="deflate", photometric="minisblack")
    return buffer.getvalue(), "image/tiff"
