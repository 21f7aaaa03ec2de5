"""A straightforward image view of an array in memory, for tests of promptable models."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from isoline.models.promptable import ImageView, Index, Window

T = TypeVar("T")


class ArrayScene(ImageView):
    """An image view of pixels (c, y, x) or (c, k, j, i) that keeps all values and counts them."""

    def __init__(
        self, pixels: NDArray[np.generic], spacing: tuple[float, ...] | None = None
    ) -> None:
        size = pixels.shape[1:]
        self.spacing = spacing or (1.0,) * len(size)
        self._pixels: list[NDArray[np.generic]] = [pixels]
        self._factors = [(1,) * len(size)]
        self._kept: dict[Hashable, object] = {}
        self.made = 0
        while max(self.size(len(self._factors) - 1)) >= 64:
            length = np.multiply(self.spacing, self._factors[-1])
            ratio = tuple(1 if each >= 2 * length.min() else 2 for each in length)
            self._factors.append(tuple(np.multiply(self._factors[-1], ratio).tolist()))
            self._pixels.append(_means(self._pixels[-1], ratio))
        self.levels = len(self._factors)

    def size(self, level: int) -> Index:
        return self._pixels[level].shape[1:]

    def factor(self, level: int) -> Index:
        return self._factors[level]

    def read(self, window: Window) -> NDArray[np.generic]:
        places = [
            np.arange(low, high).clip(0, n - 1)
            for low, high, n in zip(window.low, window.high, self.size(window.level), strict=True)
        ]
        return np.stack([channel[np.ix_(*places)] for channel in self._pixels[window.level]])

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
            self.made += 1
        return cast(T, self._kept[key])

    def forget(self, kind: str) -> None:
        """Drop the values whose keys are tuples that begin with `kind`."""
        for key in list(self._kept):
            if isinstance(key, tuple) and key[0] == kind:
                del self._kept[key]


def _means(pixels: NDArray[np.generic], ratio: Index) -> NDArray[np.generic]:
    """Return the means of blocks of `ratio` pixels, in the same type; edge blocks may be smaller.

    `pixels` is (c, y, x) or (c, k, j, i), and `ratio` has 1 or 2 for each axis but the first.
    """
    for axis, times in enumerate(ratio, 1):
        if times == 2:
            last = np.take(pixels, [-1], axis)
            even = pixels if pixels.shape[axis] % 2 == 0 else np.append(pixels, last, axis)
            first, second = (
                np.take(even, range(start, even.shape[axis], 2), axis).astype(np.float64)
                for start in (0, 1)
            )
            means = (first + second) / 2
            exact = pixels.dtype.kind == "f"
            pixels = (means if exact else np.rint(means)).astype(pixels.dtype)
    return pixels
