"""Tissue detection, shared by glass skipping, stain sampling and the model `tissue`.

A pixel of a brightfield slide is compared with the clear glass of the same slide. Absorption that
differs between the three channels is colour, equal absorption is grey. Tissue is coloured; dust,
bubbles and shadows are grey, and only a dark grey counts as tissue.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from isoline.geometry.grid import XY, Box

MARGIN_CELLS = 2
"""How far `tissue_mask` extends beyond what looks like tissue, in its own pixels."""
SPECK_CELLS = 64
"""`tissue_mask` takes components smaller than this and paler than tissue for dust."""

_EVEN = 10
"""How far, in grey levels, glass is from its own colour."""
_DARKEST_GLASS = 90
_BLACK = 20
"""Darkest level of the brightest channel that a stain leaves."""
_THRESHOLDS = (10, 15)
"""Bounds on the threshold, for slides that are nearly all glass or all tissue."""


@dataclass(frozen=True)
class Glass:
    """The clear glass of one slide, and how much tissue differs from it."""

    white: NDArray[np.uint8]
    """(3,) red, green, blue."""
    threshold: int
    """Smallest evidence that counts as tissue, in grey levels."""

    @classmethod
    def of(cls, rgb: NDArray[np.uint8]) -> Glass:
        """Estimate the glass from (3, n) pixels of one slide, whatever their share of tissue.

        The threshold is that of Otsu (1979) over the evidence, within bounds.
        """
        clear = rgb[:, (rgb.min(axis=0) >= 170) & (np.ptp(rgb, axis=0) <= 30)]
        clear = clear[:, ~_padding(clear)]
        if clear.shape[1] * 100 > rgb.shape[1]:
            white = np.percentile(clear, 75, axis=1, method="nearest").astype(np.uint8)
        else:
            white = _tinted_glass(rgb)
        counts = np.bincount(evidence(rgb, white).ravel(), minlength=256)
        return cls(white, int(np.clip(otsu(counts), *_THRESHOLDS)))


def _tinted_glass(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (3,) the colour of glass among pixels (3, n) that has a tint or is dark.

    Glass is even, and hardly anything is brighter; if nothing in the image is like that, it shows
    tissue alone, and the usual colour of glass is returned.
    """
    usual = np.full(3, 240, np.uint8)
    if not rgb.shape[1]:
        return usual
    cells = (rgb >> 3).astype(np.int64)
    counts = np.bincount((cells[0] << 10) | (cells[1] << 5) | cells[2], minlength=1 << 15)
    peak = int(np.argmax(counts))
    colour = np.array([peak >> 10, peak >> 5 & 31, peak & 31]) * 8 + 4
    even = (np.abs(rgb.astype(np.int16) - colour[:, None]) <= _EVEN).all(axis=0)
    brightness = rgb.mean(axis=0, dtype=np.float32)
    brightest = np.percentile(brightness, 95)
    is_glass = (
        np.count_nonzero(even) * 10 >= rgb.shape[1]
        and brightest - colour.mean() <= 2 * _EVEN
        and colour.min() >= _DARKEST_GLASS
        and colour[1] >= min(colour[0], colour[2]) - _EVEN  # pale eosin absorbs green
    )
    if not is_glass:
        return usual
    return np.asarray(np.percentile(rgb[:, even], 75, axis=1, method="nearest"), np.uint8)


def _padding(clear: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return (n,) which of the pixels (3, n) are white that was added to an image, not glass.

    Overexposed glass is purely white too, but then much of it is nearly so.
    """
    least = clear.min(axis=0)
    pure = least == 255
    nearly = np.count_nonzero((least >= 250) & ~pure)
    is_added = nearly * 50 < np.count_nonzero(pure) and np.count_nonzero(~pure) * 50 > len(pure)
    none: NDArray[np.bool_] = np.zeros(len(pure), np.bool_)
    return pure if is_added else none


def evidence(rgb: NDArray[np.uint8], white: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (...) how much the pixels (3, ...) differ from glass, in grey levels."""
    taken = [white[c] - np.minimum(rgb[c], white[c]) for c in range(3)]
    least = np.minimum(np.minimum(taken[0], taken[1]), taken[2])
    most = np.maximum(np.maximum(taken[0], taken[1]), taken[2])
    unlike: NDArray[np.uint8] = np.maximum(most - least, least // 2)
    return unlike


def ink(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return (...) whether the pixels (3, ...) look like felt pen: green, bright blue or black.

    No common stain makes green the brightest channel; haematoxylin is never as pure a blue.
    """
    red, green, blue = rgb.astype(np.int16)
    greenish = (green > red + 12) & (green > blue + 4)
    bluish = blue > np.maximum(red, green) + 110
    black = rgb.max(axis=0) < 50
    drawn: NDArray[np.bool_] = greenish | bluish | black
    return drawn


def foreign(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return (y, x) what of `rgb` (3, y, x) shows no stain: felt pen, black, and what is near it.

    Single dark pixels, as in nuclei, do not count.
    """
    drawn = ink(rgb) & (rgb.min(axis=0) < 150)  # tinted glass is not ink
    solid = cv2.morphologyEx(drawn.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    near = cv2.dilate(solid, np.ones((13, 13), np.uint8)) > 0
    left_out: NDArray[np.bool_] = near | (rgb.max(axis=0) < _BLACK)
    return left_out


def tissue_mask(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return (y, x) where a whole slide `rgb` (3, y, x), at about 16 um/px, may have tissue.

    The mask is generous: half the evidence that the model `tissue` requires is enough, except in
    specks of dust; pen marks count; and the mask is dilated by MARGIN_CELLS.
    """
    smooth = np.stack([cv2.GaussianBlur(plane, (5, 5), 1.0) for plane in rgb])
    glass = Glass.of(smooth.reshape(3, -1))
    seen = evidence(smooth, glass.white)
    found = (seen >= (glass.threshold + 1) // 2).astype(np.uint8)
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= SPECK_CELLS
    keep[pieces[seen >= glass.threshold]] = True
    keep[0] = False
    side = 2 * MARGIN_CELLS + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    grown: NDArray[np.bool_] = cv2.dilate(keep[pieces].astype(np.uint8), disc) > 0
    return grown


def sample_windows(
    mask: NDArray[np.bool_], cell: XY, bounds: Box, count: int = 24, side: int = 512
) -> list[Box]:
    """Choose windows that sample the tissue of a whole image, deterministically.

    `mask` (y, x) has cells of `cell` grid pixels; `bounds` is the grid. The windows lie inside the
    grid and are `side` pixels square, or as large as the grid allows. At most `count` are chosen,
    spread evenly over those with the most tissue, in raster order.
    """
    width, height = min(side, bounds.width), min(side, bounds.height)
    candidates = [
        Box(x, y, x + width, y + height)
        for y in _starts(bounds.y0, bounds.y1, height)
        for x in _starts(bounds.x0, bounds.x1, width)
    ]
    share = np.array([_share(mask, cell, box) for box in candidates])
    full = np.flatnonzero(share >= 0.75 * share.max())
    if len(full) < count:
        # too few full windows: sample a small biopsy piece by piece
        full = np.sort(np.argsort(-share, kind="stable")[: min(count, np.count_nonzero(share))])
    chosen = full[np.linspace(0, len(full) - 1, min(count, len(full))).round().astype(int)]
    return [candidates[i] for i in chosen] or candidates[:count]


def otsu(counts: NDArray[np.int64]) -> int:
    """Return the first level of the upper class of a histogram (Otsu, 1979)."""
    below = np.cumsum(counts, dtype=np.float64)
    weighted = np.cumsum(counts * np.arange(len(counts), dtype=np.float64))
    above = below[-1] - below
    between = (weighted[-1] * below - weighted * below[-1]) ** 2 / np.maximum(below * above, 1)
    return int(np.argmax(between)) + 1


def _starts(first: int, last: int, side: int) -> list[int]:
    """Return where windows of `side` that cover [first, last) start; the last one overlaps."""
    return [*range(first, last - side, side), last - side]


def _share(mask: NDArray[np.bool_], cell: XY, box: Box) -> float:
    """Return the share of `box` that is tissue, from the cells that it covers."""
    x0, x1 = int(box.x0 / cell.x), max(int(box.x1 / cell.x), int(box.x0 / cell.x) + 1)
    y0, y1 = int(box.y0 / cell.y), max(int(box.y1 / cell.y), int(box.y0 / cell.y) + 1)
    part = mask[y0:y1, x0:x1]
    return float(part.mean()) if part.size else 0.0
