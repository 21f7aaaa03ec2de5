"""A slow, straightforward tiling of images for models, and the ownership of objects by tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from isoline.domain.request import Value
from isoline.geometry.grid import XY, Box
from isoline.models.model import Bounded, Classes, Instances, Model, Patch, Statistics

Object: TypeAlias = tuple[int, int, bytes]
"""The x0 and y0 of an object's box in the picture, and its packed pixels."""


@dataclass(frozen=True)
class Picture:
    """A whole image in memory, at the working spacing of a model."""

    pixels: NDArray[np.generic]
    """(c, y, x)."""
    spacing_um: XY | None
    parameters: Mapping[str, Value]
    background: int = 255
    statistics: Statistics = field(default_factory=dict)

    @property
    def bounds(self) -> Box:
        return Box(0, 0, self.pixels.shape[2], self.pixels.shape[1])

    def patch(self, read: Box) -> Patch:
        """Return the patch for `read`, padded with background outside the image."""
        seen = read.intersect(self.bounds)
        pixels = np.full((len(self.pixels), read.height, read.width), self.background)
        pixels = pixels.astype(self.pixels.dtype)
        for into, plane in zip(pixels, self.pixels, strict=True):
            into[read.slices_of(seen)] = plane[self.bounds.slices_of(seen)]
        image = seen.shift(-read.x0, -read.y0)
        return Patch(pixels, image, self.spacing_um, self.parameters, self.statistics)

    def tiles(self, area: Box, side: int) -> Iterator[Box]:
        """Yield the tiles of `side` pixels of a lattice anchored at 0, clipped to `area`."""
        for y in range(area.y0 // side * side, area.y1, side):
            for x in range(area.x0 // side * side, area.x1, side):
                yield Box(x, y, x + side, y + side).intersect(area)


def defaults(model: type[Model], **changed: Value) -> dict[str, Value]:
    """Return the parameters of `model` by name: its defaults, replaced by `changed`."""
    return {p.name: p.default for p in model.spec.parameters} | changed


def halo_of(model: type[Model], picture: Picture) -> int:
    """Return the halo in pixels that the pipeline would use.

    For bounded objects it is their largest extent, plus both reaches and 2 pixels.
    """
    output = model.output(picture.parameters)
    if not isinstance(output, Bounded):
        return model.spec.reach_px
    assert picture.spacing_um is not None
    extent = (output.max_extent_um + output.reach_um) / min(picture.spacing_um)
    return int(np.ceil(extent)) + model.spec.reach_px + 2


def classes_by_tile(
    model: Model, picture: Picture, area: Box, side: int, halo: int
) -> NDArray[np.uint8]:
    """Return the classes of `area`, (y, x), assembled from tiles of `side` pixels."""
    whole = np.zeros((area.height, area.width), np.uint8)
    for write in picture.tiles(area, side):
        read = write.grow(halo)
        prediction = model.infer(picture.patch(read))
        assert isinstance(prediction, Classes)
        whole[area.slices_of(write)] = prediction.classes[read.slices_of(write)]
    return whole


def objects_by_tile(
    model: Model, picture: Picture, area: Box, side: int, halo: int
) -> list[Object]:
    """Return the objects whose anchor is in `area`, sorted; computed in tiles of `side` pixels."""
    found: list[Object] = []
    for write in picture.tiles(area, side):
        read = write.grow(halo)
        prediction = model.infer(picture.patch(read))
        assert isinstance(prediction, Instances)
        found += owned(prediction.labels, read, write)
    return sorted(found)


def owned(labels: NDArray[np.int32], read: Box, write: Box) -> Iterator[Object]:
    """Yield the objects in `labels`, (y, x) over `read`, whose anchor is in `write`.

    The anchor is the pixel of the object that is nearest to the centre of its box; of several, it
    is the first in raster order.
    """
    slices: Sequence[tuple[slice, slice] | None] = ndimage.find_objects(labels)
    for number, window in enumerate(slices, 1):
        if window is None:
            continue
        mask = labels[window] == number
        y, x = np.nonzero(mask)
        off_centre = (2 * x - mask.shape[1] + 1) ** 2 + (2 * y - mask.shape[0] + 1) ** 2
        nearest = int(np.argmin(off_centre))
        x0, y0 = read.x0 + window[1].start, read.y0 + window[0].start
        ax, ay = x0 + int(x[nearest]), y0 + int(y[nearest])
        if write.x0 <= ax < write.x1 and write.y0 <= ay < write.y1:
            yield x0, y0, bytes([mask.shape[1]]) + np.packbits(mask).tobytes()
