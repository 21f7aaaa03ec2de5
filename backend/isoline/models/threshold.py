"""The reference model for slides: dark or bright pixels, independent of tiling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from isoline.domain.events import Label
from isoline.domain.request import Value
from isoline.errors import NotSupported
from isoline.models.base import (
    Choice,
    Classes,
    Model,
    ModelSpec,
    Number,
    Output,
    Patch,
    Regions,
    Unbounded,
)


class Threshold(Model):
    """Foreground is every pixel darker than `below` or brighter than `above`."""

    spec: ClassVar[ModelSpec] = ModelSpec(
        name="threshold",
        title="Threshold",
        description="Pixels darker or brighter than given grey levels, as objects or as a mask.",
        version="1",
        labels=(Label("Foreground", (228, 26, 28)),),
        output=Unbounded(),
        channels=(1, 3),
        parameters=(
            Number("below", 128, 0, 255, "Foreground where luminance < below.", integer=True),
            Number("above", 255, 0, 255, "Foreground where luminance > above.", integer=True),
            Choice(
                "output",
                "instances",
                ("instances", "mask"),
                "Each connected component as an object, or all of them as one mask.",
            ),
        ),
    )

    @classmethod
    def output(cls, parameters: Mapping[str, Value]) -> Output:
        return Regions() if parameters["output"] == "mask" else Unbounded()

    def infer(self, patch: Patch) -> Classes:
        level = luminance(patch.pixels)
        below, above = int(patch.parameters["below"]), int(patch.parameters["above"])
        classes = ((level < below) | (level > above)).astype(np.uint8)
        box = patch.image
        inside = np.zeros_like(classes)
        inside[box.y0 : box.y1, box.x0 : box.x1] = 1
        return Classes(classes * inside)


def luminance(pixels: NDArray[np.generic]) -> NDArray[np.int32]:
    """Return (y, x) levels 0 .. 255 of (c, y, x) pixels, in exact integer arithmetic.

    Three channels: ITU-R BT.601 luma, rounded half up. One channel: its value. Of 16-bit pixels,
    only the high byte is used. Raises NotSupported for other types.
    """
    if pixels.dtype == np.uint16:
        levels = pixels.astype(np.int32) >> 8
    elif pixels.dtype == np.uint8:
        levels = pixels.astype(np.int32)
    else:
        raise NotSupported(
            f"threshold works on 8-bit and 16-bit pixels, not {pixels.dtype}",
            "convert the image to 8-bit or 16-bit integers",
        )
    if len(levels) == 1:
        return np.asarray(levels[0])
    red, green, blue = levels
    luma: NDArray[np.int32] = (299 * red + 587 * green + 114 * blue + 500) // 1000
    return luma
