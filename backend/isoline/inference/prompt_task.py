"""What the prompts of a request ask of a model, as it travels to a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray

from isoline.domain import mask_rle
from isoline.domain.prompts import DrawnSlice, Prompt
from isoline.domain.request import Value
from isoline.errors import BadPrompt
from isoline.geometry.grid import XY, Box, Grid, Rect
from isoline.geometry.region import Region
from isoline.models.promptable import Index, Question, Window


@dataclass(frozen=True)
class Asked:
    """What a worker needs to know of a request's prompts, picklable."""

    prompts: tuple[Prompt, ...]
    """In pixels of level 0 and in array order: (y, x) or (k, j, i), the first centre at 0.5."""
    initial: Region | tuple[DrawnSlice, ...] | None
    """In image pixels, or slices named by k."""

    def area(self) -> Box:
        """Return the pixels of a picture between all that the request says."""
        y, x = np.concatenate([prompt.points for prompt in self.prompts]).T
        area = Rect(x.min(), y.min(), x.max(), y.max())
        if isinstance(self.initial, Region):
            also = self.initial.bounds
            area = Rect(
                min(area.x0, also.x0),
                min(area.y0, also.y0),
                max(area.x1, also.x1),
                max(area.y1, also.y1),
            )
        return Box(floor(area.x0), floor(area.y0), floor(area.x1) + 1, floor(area.y1) + 1)

    def question(self, size: Index, parameters: Mapping[str, Value]) -> Question:
        """Return what to ask a model about a scene of `size` pixels at level 0.

        Raises BadPrompt where there is nothing in what the prompts correct.
        """
        if not self.initial:
            return Question(self.prompts, parameters)
        if isinstance(self.initial, Region):
            window, mask = _filled(self.initial, size)
        else:
            window, mask = _stacked(self.initial)
        if not mask.any():
            raise BadPrompt("initial holds no pixel", "leave it out")
        return Question(self.prompts, parameters, (window, mask))


def _whole(size: tuple[int, int]) -> Grid:
    return Grid(size, XY(1.0, 1.0))


def _filled(region: Region, size: Index) -> tuple[Window, NDArray[np.bool_]]:
    """Return the pixels inside `region` and their window, at level 0 of (y, x) `size`."""
    grid = _whole((size[1], size[0]))
    box = grid.cover(region.bounds).intersect(grid.bounds)
    return Window(0, (box.y0, box.x0), (box.y1, box.x1)), region.mask(grid, box)


def _stacked(slices: Sequence[DrawnSlice]) -> tuple[Window, NDArray[np.bool_]]:
    """Return the voxels of drawn `slices`, named by k, and their window."""
    low = tuple(min(corner) for corner in zip(*(_ends(drawn)[0] for drawn in slices), strict=True))
    high = tuple(max(corner) for corner in zip(*(_ends(drawn)[1] for drawn in slices), strict=True))
    window = Window(0, low, high)
    mask = np.zeros(window.shape, np.bool_)
    for drawn in slices:
        (k, j0, i0), (_, j1, i1) = _ends(drawn)
        part = mask[k - low[0], j0 - low[1] : j1 - low[1], i0 - low[2] : i1 - low[2]]
        part |= mask_rle.decode(drawn.runs, drawn.box)
    return window, mask


def _ends(drawn: DrawnSlice) -> tuple[Index, Index]:
    """Return the corners [low, high) of a slice named by its k, (k, j, i)."""
    assert isinstance(drawn.slice, int)
    i0, j0, i1, j1 = drawn.box
    return (drawn.slice, j0, i0), (drawn.slice + 1, j1, i1)
