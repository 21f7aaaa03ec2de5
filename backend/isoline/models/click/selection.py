"""The current selection, at any level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoline.models.click.features import Space
from isoline.models.promptable import Window, overlap

Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Selection:
    """The object so far: a mask in a window of any level; nothing is selected outside the
    window."""

    window: Window
    mask: Bool

    def at(self, space: Space, window: Window) -> Bool:
        """Return the voxels of `window`, at any level, at least half of which are selected."""
        own, its = space.factor(self.window.level), space.factor(window.level)
        if window.level < self.window.level:
            ratio = tuple(a // b for a, b in zip(own, its, strict=True))
            places = [
                np.arange(low, high) // times - first
                for low, high, times, first in zip(
                    window.low, window.high, ratio, self.window.low, strict=True
                )
            ]
            return self._picked(places)
        ratio = tuple(a // b for a, b in zip(its, own, strict=True))
        low, high = (
            tuple(a * times for a, times in zip(corner, ratio, strict=True))
            for corner in (window.low, window.high)
        )
        fine = Window(self.window.level, low, high)
        mask = np.zeros(fine.shape, np.bool_)
        mask[overlap(fine, self.window)] = self.mask[overlap(self.window, fine)]
        if max(ratio) == 1:
            return mask
        (a, b, c), (u, v, w) = window.shape, ratio
        share: Bool = mask.reshape(a, u, b, v, c, w).mean(axis=(1, 3, 5), dtype=np.float32) >= 0.5
        return share

    def _picked(self, places: list[NDArray[np.int_]]) -> Bool:
        """Return the mask at `places` along each axis, False outside the window."""
        inside = [(each >= 0) & (each < n) for each, n in zip(places, self.mask.shape, strict=True)]
        picked = np.zeros([len(each) for each in places], np.bool_)
        own = np.ix_(*(each[on] for each, on in zip(places, inside, strict=True)))
        picked[np.ix_(*inside)] = self.mask[own]
        return picked

    def changed(self, space: Space, window: Window, mask: Bool, where: Bool) -> Selection:
        """Return the selection with the voxels of `window` in `where` replaced by `mask`."""
        new = np.where(where, mask, self.at(space, window))
        if not self.mask.any():
            return Selection(window, new)
        ratio = np.divide(space.factor(self.window.level), space.factor(window.level))
        low = np.minimum(window.low, np.floor(self.window.low * ratio)).astype(int)
        high = np.maximum(window.high, np.ceil(self.window.high * ratio)).astype(int)
        high = np.minimum(high, space.size(window.level))
        union = Window(window.level, tuple(map(int, low)), tuple(map(int, high)))
        whole = self.at(space, union)
        whole[overlap(union, window)] = new
        return Selection(union, whole)


def cropped(selection: Selection, window: Window) -> Selection | None:
    """Return the part of `selection` in `window`, which has its level; None if it is empty."""
    part = overlap(selection.window, window)
    mask = selection.mask[part]
    if not mask.any():
        return None
    low = tuple(first + each.start for first, each in zip(selection.window.low, part, strict=True))
    high = tuple(a + n for a, n in zip(low, mask.shape, strict=True))
    return Selection(Window(window.level, low, high), mask)


def box_of(mask: Bool, margin: int) -> tuple[slice, ...]:
    """Return the slices of the bounding box of `mask`, widened by `margin` where possible."""
    box = []
    for axis in range(3):
        across = tuple(each for each in range(3) if each != axis)
        at = np.flatnonzero(mask.any(axis=across))
        box.append(slice(max(0, int(at[0]) - margin), int(at[-1]) + 1 + margin))
    return tuple(box)
