"""Colours of more than 8 bits, such as those of scientific cameras, as 8-bit colours.

Cameras store 10, 12 or 14 bits in pixels of 16, and files seldom say how many. Models and viewers
know brightfield in 8 bits. The bits in use are found in the pixels, so that white stays white.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoline.geometry.grid import Box
from isoline.sources.source import Source

MOST_BITS = 16
_SAMPLES, _SAMPLE_PX = 5, 512
_TOP_PERCENT = 99.9
"""Brighter pixels are glare or defects of the camera."""


def bits_in_use(values: NDArray[np.generic]) -> int:
    """Return how many bits, 8 to 16, the brightest of `values` need, glare left out."""
    flat = values.ravel().astype(np.uint16)
    top = int(np.percentile(flat, _TOP_PERCENT, method="lower")) if flat.size else 0
    return min(max(top.bit_length(), 8), MOST_BITS)


def to_8_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Return the upper 8 of `bits` bits; brighter values become 255."""
    eight: NDArray[np.uint8] = np.minimum(values >> np.uint16(bits - 8), 255).astype(np.uint8)
    return eight


def samples_of(source: Source) -> NDArray[np.generic]:
    """Return (n,) values from everywhere in the coarsest level of an image: all, if it is small."""
    last, (width, height) = len(source.info.levels) - 1, source.info.levels[-1].size
    boxes = {
        Box(x, y, min(x + _SAMPLE_PX, width), min(y + _SAMPLE_PX, height))
        for x in _starts(width)
        for y in _starts(height)
    }
    return np.concatenate([source.read_level(last, box).ravel() for box in sorted(boxes)])


def depth_problem(bits: int) -> str:
    """Return what was done to the colours, for `ImageInfo.problems`."""
    return (
        f"colours are stored in 16 bits, of which {bits} are in use; they are read as 8-bit, "
        f"values divided by {2 ** (bits - 8)}"
    )


def _starts(length: int) -> list[int]:
    last = max(0, length - _SAMPLE_PX)
    count = min(_SAMPLES, -(-length // _SAMPLE_PX))
    return [last * n // max(count - 1, 1) for n in range(count)]
