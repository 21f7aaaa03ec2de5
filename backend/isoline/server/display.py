"""Showing values of any type on a screen: a window for each channel, and its colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

COLOURS = (
    *((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    *((0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0)),
)
"""Colours of the channels of a fluorescence image, in their order. The first is usually a nuclear
stain, which is customarily blue."""
_DARKEST, _BRIGHTEST = 0.5, 99.8
"""Percentiles between which values are spread."""


class Window(NamedTuple):
    """The values that are shown as black and as white."""

    low: float
    high: float


SOFT_TISSUE = Window(-160.0, 240.0)
"""The usual window for CT, in HU: width 400, level 40."""


def full_range(dtype: np.dtype[np.generic]) -> Window:
    """Return the window that shows every value of an unsigned integer type."""
    return Window(0.0, float(2 ** (8 * dtype.itemsize) - 1))


def window_of(sample: NDArray[np.generic]) -> Window:
    """Return the window for values of which `sample` (n,) is typical."""
    values = sample[np.isfinite(sample)]
    if not len(values):
        return Window(0.0, 1.0)
    low, high = map(float, np.percentile(values, (_DARKEST, _BRIGHTEST)))
    return Window(low, high if high > low else low + 1.0)


def colours(planes: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return (y, x, 3) from red, green and blue (c, y, x), of an unsigned integer type."""
    if planes.dtype != np.uint8:
        window = full_range(planes.dtype)
        planes = np.stack([_bytes(_brightness(plane, window)) for plane in planes])
    return np.moveaxis(planes, 0, 2).astype(np.uint8)


def shades(planes: NDArray[np.generic], windows: Sequence[Window]) -> NDArray[np.uint8]:
    """Return (y, x) grey from one channel (c, y, x), (y, x, 3) red, green, blue from several.

    There may be `len(COLOURS)` channels. Their light is added, as in a fluorescence microscope;
    undefined values are black.
    """
    if len(planes) == 1:
        return _bytes(_brightness(planes[0], windows[0]))
    light = np.zeros((*planes.shape[1:], 3), np.float32)
    for plane, window, colour in zip(planes, windows, COLOURS, strict=False):
        light += _brightness(plane, window)[..., None] * np.array(colour, np.float32)
    return _bytes(light)


def _brightness(plane: NDArray[np.generic], window: Window) -> NDArray[np.float32]:
    """Return (y, x) from 0 to 1."""
    shares = (plane.astype(np.float32) - window.low) / (window.high - window.low)
    clipped: NDArray[np.float32] = np.clip(np.nan_to_num(shares), 0.0, 1.0)
    return clipped


def _bytes(brightness: NDArray[np.float32]) -> NDArray[np.uint8]:
    scaled: NDArray[np.float32] = np.minimum(brightness, 1.0) * 255
    return np.rint(scaled).astype(np.uint8)
