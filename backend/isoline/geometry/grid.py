"""All conversions between coordinate frames; no other module does any.

Two frames exist for a slide, both with x to the right, y down and the origin at the *corner* of
the first pixel, so that pixel n spans [n, n + 1) and its centre is at n + 0.5:

    image   level-0 pixels, floats: used by viewers and in the protocol
    grid    pixels of the working resolution, integers: used by models and contours

    image = grid * scale     (scale: image pixels per grid pixel, per axis, seldom a whole number)

Pyramid levels are a third frame, private to the sources; only `Level.downsample` refers to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class XY(NamedTuple):
    """A pair of numbers for two axes: a point, a scale or a spacing, as its variable's name
    tells."""

    x: float
    y: float


class Box(NamedTuple):
    """Whole pixels [x0, x1) x [y0, y1) of one frame; empty if either side is not positive."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        return max(0, self.x1 - self.x0)

    @property
    def height(self) -> int:
        return max(0, self.y1 - self.y0)

    @property
    def area(self) -> int:
        return self.width * self.height

    @property
    def empty(self) -> bool:
        return self.area == 0

    def grow(self, margin: int) -> Box:
        return Box(self.x0 - margin, self.y0 - margin, self.x1 + margin, self.y1 + margin)

    def shift(self, dx: int, dy: int) -> Box:
        return Box(self.x0 + dx, self.y0 + dy, self.x1 + dx, self.y1 + dy)

    def intersect(self, other: Box) -> Box:
        return Box(
            max(self.x0, other.x0),
            max(self.y0, other.y0),
            min(self.x1, other.x1),
            min(self.y1, other.y1),
        )

    def meets(self, other: Box) -> bool:
        return not self.intersect(other).empty

    def contains(self, other: Box) -> bool:
        return self.intersect(other) == other

    def slices_of(self, inner: Box) -> tuple[slice, slice]:
        """Return the (y, x) slices that select `inner` from an array that covers this box."""
        return (
            slice(inner.y0 - self.y0, inner.y1 - self.y0),
            slice(inner.x0 - self.x0, inner.x1 - self.x0),
        )


@dataclass(frozen=True)
class Rect:
    """Real numbers [x0, x1) x [y0, y1), in image coordinates unless stated otherwise."""

    x0: float
    y0: float
    x1: float
    y1: float


class Overlap(Enum):
    """How much of one area lies in another."""

    NONE = "none"
    """Definitely no point."""
    SOME = "some"
    """Part of it, all or nothing: an edge is close."""
    ALL = "all"
    """Definitely every point."""


@dataclass(frozen=True)
class Grid:
    """The lattice of pixels that a model works on: one image at one spacing.

    The grid has floor(size / scale) pixels, so that each of them lies entirely on the image.
    """

    image_size: tuple[int, int]
    """(width, height) in image pixels."""
    scale: XY
    """Image pixels per grid pixel."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in grid pixels."""
        width, height = self.image_size
        return math.floor(width / self.scale.x), math.floor(height / self.scale.y)

    @property
    def bounds(self) -> Box:
        return Box(0, 0, *self.size)

    @property
    def pixel_area(self) -> float:
        """The area of one grid pixel in image pixels."""
        return self.scale.x * self.scale.y

    def to_image(self, xy: NDArray[np.generic]) -> NDArray[np.float64]:
        """Convert (..., 2) grid coordinates (x, y) to image coordinates."""
        image: NDArray[np.float64] = np.multiply(xy, self.scale, dtype=np.float64)
        return image

    def point(self, xy: XY) -> XY:
        """Convert an image point to fractional grid coordinates."""
        return XY(xy.x / self.scale.x, xy.y / self.scale.y)

    def rect(self, box: Box) -> Rect:
        """Return the image rectangle that `box`, in grid pixels, covers."""
        sx, sy = self.scale
        return Rect(box.x0 * sx, box.y0 * sy, box.x1 * sx, box.y1 * sy)

    def cover(self, rect: Rect) -> Box:
        """Return the smallest box of grid pixels that contains the image rectangle `rect`."""
        sx, sy = self.scale
        return Box(
            math.floor(rect.x0 / sx),
            math.floor(rect.y0 / sy),
            math.ceil(rect.x1 / sx),
            math.ceil(rect.y1 / sy),
        )
