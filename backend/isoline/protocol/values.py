"""The values in requests and responses: the bounds of each, and the wording of its errors."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from isoline.protocol.strict import Expected

MAX_TEXT = 4096
MAX_SIDE = 1 << 24
_FAR = 1e300
"""The bound of all numbers, so that sums of a few and products with a pixel size stay finite."""

Text = Annotated[
    str,
    Field(min_length=1, max_length=MAX_TEXT),
    Expected(f"a string of 1 to {MAX_TEXT} characters"),
]
Flag = Annotated[bool, Expected("true or false")]
Whole = Annotated[int, Field(ge=0), Expected("a whole number of at least 0")]
Shade = Annotated[int, Field(ge=0, le=255), Expected("a whole number from 0 to 255")]
LabelNumber = Annotated[int, Field(ge=1, le=255), Expected("a whole number from 1 to 255")]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE), Expected(f"a whole number from 1 to {MAX_SIDE}")]
Finite = Annotated[float, Field(gt=-_FAR, lt=_FAR), Expected("a number")]
Positive = Annotated[float, Field(gt=0, lt=_FAR), Expected("a number above 0")]
NotNegative = Annotated[float, Field(ge=0, lt=_FAR), Expected("a number of at least 0")]

Pair = Annotated[tuple[Finite, Finite], Expected("[x, y]"), Field(description="x, y.")]
Size = Annotated[
    tuple[Side, Side], Expected("[width, height]"), Field(description="Width, height in pixels.")
]
Position = Annotated[
    tuple[Finite, ...],
    Field(min_length=2, max_length=3),
    Expected("[x, y], or [x, y, z] in a volume"),
]
VoxelBox = Annotated[
    tuple[Whole, Whole, Whole, Whole],
    Expected("[i0, j0, i1, j1] in voxels"),
    Field(description="i0, j0, i1, j1 in voxels, half-open."),
]
Color = Annotated[
    tuple[Shade, Shade, Shade],
    Expected("[red, green, blue]"),
    Field(description="Red, green, blue."),
]
Corners = Annotated[
    tuple[Finite, Finite, Finite, Finite],
    Expected("[x0, y0, x1, y1] or a GeoJSON geometry"),
    Field(description="x0, y0, x1, y1 in image pixels."),
]
