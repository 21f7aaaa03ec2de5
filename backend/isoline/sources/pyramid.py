"""Common parts of image pyramids: the scale of a level, and boxes assembled from tiles."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from isoline.geometry.grid import XY, Box
from isoline.sources.byte_cache import ByteCache
from isoline.sources.source import Level

RGB = ("red", "green", "blue")
CACHE_BYTES = 64 << 20
"""Cache for decoded tiles of one open image, which neighbouring reads share."""
_ROUNDING_PX = 2
"""How far the size of a level may be from that of the image divided by one scale."""
_STATED_SHARE = 0.02
"""How far the scale of a level may be from what the resolution tags say, as a share."""


def level(image_size: tuple[int, int], size: tuple[int, int]) -> Level:
    """Return the level of `size`; the scale along an axis is a whole number if that fits the sizes.

    A scanner that reduces 13835 pixels by 4 writes 3458 and drops the rest: the scale is 4, not
    13835 / 3458, which would be off by three pixels at the far side.
    """
    x, y = (_downsample(whole, part) for whole, part in zip(image_size, size, strict=True))
    return Level(size, XY(x, y))


def fitting_level(
    image_size: tuple[int, int],
    size: tuple[int, int],
    tile_size: tuple[int, int],
    stated: float | None = None,
) -> Level | None:
    """Return the level of an image that is stored in `size` pixels, None if it does not fit.

    Some writers pad levels to whole tiles, and the level is then smaller than what is stored.
    `stated` is its scale by the file's resolution tags, which decides where both are possible.
    """
    pairs = tuple(zip(image_size, size, strict=True))
    finest = max(whole / (part + _ROUNDING_PX) for whole, part in pairs)
    coarsest = min(whole / max(part - _ROUNDING_PX, 0.5) for whole, part in pairs)
    plain = level(image_size, size)
    padded = [
        Level((image_size[0] // factor, image_size[1] // factor), XY(float(factor), float(factor)))
        for factor in (2**power for power in range(1, min(image_size).bit_length()))
        if all(
            -(-(whole // factor) // side) * side == part
            for (whole, part), side in zip(pairs, tile_size, strict=True)
        )
    ]
    possible = [plain, *padded] if finest <= coarsest else padded
    if stated is not None:
        near = [each for each in possible if abs(each.downsample.x / stated - 1) <= _STATED_SHARE]
        possible = near or possible
    whole_scale = plain.downsample.x.is_integer() and plain.downsample.y.is_integer()
    if plain in possible and (whole_scale or len(possible) == 1):
        return plain
    return possible[0] if len(possible) == 1 else None


def _downsample(whole: int, part: int) -> float:
    factor = round(whole / part)
    if part in (whole // factor, math.ceil(whole / factor)):
        return float(factor)
    return whole / part


def white(dtype: np.dtype[np.generic]) -> tuple[int, int, int]:
    """Return white in RGB of this unsigned type."""
    brightest = 256**dtype.itemsize - 1
    return brightest, brightest, brightest


def scale_problems(levels: tuple[Level, ...]) -> tuple[str, ...]:
    """Return a warning for every level whose scale is not a whole number."""
    return tuple(
        f"level {index} is scaled by {level.downsample.x:.4f} x {level.downsample.y:.4f}, "
        "which are not whole numbers"
        for index, level in enumerate(levels)
        if not (level.downsample.x.is_integer() and level.downsample.y.is_integer())
    )


class TileCache(ByteCache):
    """The decoded tiles of one image."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        super().__init__(limit)


def paste(
    out: NDArray[np.generic],
    box: Box,
    tile_size: tuple[int, int],
    tile: Callable[[int, int], NDArray[np.generic]],
) -> None:
    """Fill `out` (y, x, ...), the pixels of `box`, from tiles named by column and row.

    Tile (i, j) starts at (i, j) * `tile_size`; pixels beyond its place are dropped.
    """
    wide, tall = tile_size
    for row in range(box.y0 // tall, -(-box.y1 // tall)):
        for column in range(box.x0 // wide, -(-box.x1 // wide)):
            x, y = column * wide, row * tall
            place = Box(x, y, x + wide, y + tall)
            part = box.intersect(place)
            out[box.slices_of(part)] = tile(column, row)[place.slices_of(part)]
