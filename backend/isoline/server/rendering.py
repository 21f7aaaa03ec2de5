"""Rendering parts of images for a viewer or a report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoline.errors import BadRegion, NotSupported, TooLarge
from isoline.geometry.grid import XY, Grid, Rect
from isoline.images.catalog import Found
from isoline.inference.sampling import Sampler, choose
from isoline.sources.registry import open_image


@dataclass(frozen=True)
class Picture:
    """Pixels of an image, and their position."""

    pixels: NDArray[np.uint8]
    """(y, x, 3) red, green, blue."""
    rect: Rect
    """The part of the image that is shown, in image coordinates."""


def render(found: Found, rect: Rect, side: int, cap: int) -> Picture:
    """Return a picture of `rect`, in image coordinates, whose longer side has `side` pixels.

    The picture is aligned to whole pixels of its own resolution: `Picture.rect` is its exact
    position. Raises BadRegion if `rect` does not overlap the image, TooLarge beyond `cap` pixels,
    and NotSupported for an image without colours.
    """
    width, height = rect.x1 - rect.x0, rect.y1 - rect.y0
    outside = rect.x1 <= 0 or rect.y1 <= 0 or rect.x0 >= found.info.size[0]
    if width <= 0 or height <= 0 or outside or rect.y0 >= found.info.size[1]:
        raise BadRegion(
            f"the box does not overlap {found.name}",
            "the image has {} x {} pixels".format(*found.info.size),
        )
    if not found.info.is_rgb:
        raise NotSupported(f"{found.name} has no colours to show", "choose an RGB image")
    scale = max(width, height) / side
    grid = Grid(found.info.size, XY(scale, scale))
    box = grid.cover(rect)
    if box.area > cap:
        raise TooLarge(
            f"{box.width} x {box.height} pixels are too many", f"request at most {cap} pixels"
        )
    source = open_image(found.path, found.info.reader)
    try:
        pixels = Sampler(source, grid, choose(found.info, (3,), None, None)).read(box)
    finally:
        source.close()
    return Picture(np.ascontiguousarray(pixels.transpose(1, 2, 0)).astype(np.uint8), grid.rect(box))
