"""Pictures of a part of an image, for a viewer or a report."""

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
    """Pixels of an image and where they lie."""

    pixels: NDArray[np.uint8]
    """(y, x, 3) red, green, blue."""
    rect: Rect
    """What the picture shows, in image coordinates."""


def render(found: Found, rect: Rect, side: int, cap: int) -> Picture:
    """Return a picture of `rect`, in image coordinates, its longer side `side` pixels.

    The picture is moved to whole pixels of its own resolution: `Picture.rect` says where it lies.
    Raises BadRegion when `rect` does not meet the image, TooLarge beyond `cap` pixels, NotSupported
    for an image that has no colours.
    """
    width, height = rect.x1 - rect.x0, rect.y1 - rect.y0
    outside = rect.x1 <= 0 or rect.y1 <= 0 or rect.x0 >= found.info.size[0]
    if width <= 0 or height <= 0 or outside or rect.y0 >= found.info.size[1]:
        raise BadRegion(
            f"the box does not meet {found.name}", "its size is {} x {}".format(*found.info.size)
        )
    if not found.info.is_rgb:
        raise NotSupported(f"{found.name} has no colours to show", "choose an RGB image")
    scale = max(width, height) / side
    grid = Grid(found.info.size, XY(scale, scale))
    box = grid.cover(rect)
    if box.area > cap:
        raise TooLarge(f"{box.width} x {box.height} pixels are too many", f"ask for at most {cap}")
    source = open_image(found.path, found.info.reader)
    try:
        pixels = Sampler(source, grid, choose(found.info, (3,), None, None)).read(box)
    finally:
        source.close()
    return Picture(np.ascontiguousarray(pixels.transpose(1, 2, 0)).astype(np.uint8), grid.rect(box))
