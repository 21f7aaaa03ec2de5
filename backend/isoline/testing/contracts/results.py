"""Synthetic results: objects, batches and the `Started` event that they belong to."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from isoline.domain.events import Label, Objects, Scope, Started
from isoline.geometry.grid import XY, Grid
from isoline.geometry.polygons import Polygons

Ring: TypeAlias = Sequence[tuple[int, int]]
Shape: TypeAlias = Sequence[Sequence[Ring]]
"""Parts, each a shell followed by its holes."""

LABELS = (Label("nucleus", (200, 30, 60)), Label('tumour "é"', (0, 128, 255)))
SCOPE = Scope("f1" * 16, "nuclei", "1.0", (("sensitivity", 0.5), ("spacing_um", 0.25)))
STARTED = Started(
    job="a1b2c3",
    image="slides/a.svs",
    scope=SCOPE,
    labels=LABELS,
    grid=Grid((31872, 13835), XY(1.0, 1.0)),
    tiles=12,
    spacing_um=XY(0.25, 0.25),
    kind="objects",
)


def started(
    scale: XY = STARTED.grid.scale,
    spacing_um: XY | None = STARTED.spacing_um,
    kind: Literal["objects", "regions"] = "objects",
    z: int = 0,
) -> Started:
    """Return `STARTED` with another scale, pixel size, kind or plane."""
    grid = replace(STARTED.grid, scale=scale)
    return replace(STARTED, grid=grid, spacing_um=spacing_um, kind=kind, z=z)


def rectangle(x0: int, y0: int, x1: int, y1: int) -> Ring:
    """Return a shell as required by `Polygons`: clockwise on screen, from its top left corner."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def hole(x0: int, y0: int, x1: int, y1: int) -> Ring:
    """Return a hole as required by `Polygons`: counterclockwise on screen."""
    return [(x0, y0), (x0, y1), (x1, y1), (x1, y0)]


def objects_of(
    shapes: Sequence[Shape],
    labels: Sequence[int] | None = None,
    measurements: Mapping[str, Sequence[float]] | None = None,
    incomplete: bool = False,
    first: int = 0,
    nuclei: Sequence[Shape] | None = None,
) -> Objects:
    """Return objects of these shapes, in grid pixels; their ids depend only on `first`."""
    columns = {name: np.array(v, np.float32) for name, v in (measurements or {}).items()}
    return Objects(
        polygons=_polygons(shapes),
        ids=ids(first, len(shapes)),
        label=np.array(labels or [0] * len(shapes), np.uint16),
        area_px=np.array([sum(map(area, shape)) for shape in shapes], np.int64),
        anchor=np.array([shape[0][0][0] for shape in shapes], np.int32).reshape(-1, 2),
        incomplete=np.full(len(shapes), incomplete),
        measurements=columns,
        nuclei=None if nuclei is None else _polygons(nuclei),
    )


def _polygons(shapes: Sequence[Shape]) -> Polygons:
    parts = [part for shape in shapes for part in shape]
    rings = [ring for part in parts for ring in part]
    corners = np.array([corner for ring in rings for corner in ring], np.int32).reshape(-1, 2)
    return Polygons(corners, _starts(rings), _starts(parts), _starts(shapes))


def ids(first: int, count: int) -> NDArray[np.uint8]:
    """Return `count` ids, (count, 16), which depend only on their numbers, from `first`."""
    space = uuid.UUID(int=7)
    raw = b"".join(uuid.uuid5(space, str(k)).bytes for k in range(first, first + count))
    return np.frombuffer(raw, np.uint8).reshape(count, 16)


def area(part: Sequence[Ring]) -> int:
    """Return the area of a shell minus its holes, in grid pixels; the sign is by orientation."""
    return sum(
        x0 * y1 - x1 * y0
        for ring in part
        for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True)
    ) // 2  # fmt: skip


def _starts(groups: Sequence[Sequence[object]]) -> NDArray[np.int64]:
    return np.cumsum([0, *map(len, groups)]).astype(np.int64)


def polygon_with_corners(x: int, y: int, corners: int) -> Shape:
    """Return a staircase with an even number of corners, like a traced contour."""
    steps = corners // 2 - 1
    shell = [(x, y), (x + steps, y)]
    for k in range(steps - 1):
        shell += [(x + steps - k, y + k + 1), (x + steps - k - 1, y + k + 1)]
    return [[[*shell, (x + 1, y + steps), (x, y + steps)]]]


@st.composite
def batches(draw: st.DrawFn, most: int = 5) -> Objects:
    """Draw objects of one to three rectangles, each in its own cell of a lattice, some with holes.

    Some batches are of biological cells, some of which have no nucleus.
    """
    count = draw(st.integers(0, most))
    shapes = [
        [draw(_rectangles(20 * part, 20 * k)) for part in range(draw(st.integers(1, 3)))]
        for k in range(count)
    ]
    numbers = st.lists(st.floats(width=32), min_size=count, max_size=count)
    nuclei = [shape[: draw(st.integers(0, len(shape)))] for shape in shapes]
    names = draw(st.lists(st.text(min_size=1, max_size=5), max_size=2, unique=True))
    return objects_of(
        shapes,
        labels=[draw(st.integers(0, 1)) for _ in range(count)],
        measurements={name: draw(numbers) for name in names},
        incomplete=draw(st.booleans()),
        nuclei=draw(st.sampled_from([None, nuclei])),
    )


@st.composite
def _rectangles(draw: st.DrawFn, x: int, y: int) -> list[Ring]:
    width, height = draw(st.integers(1, 19)), draw(st.integers(1, 19))
    part = [rectangle(x, y, x + width, y + height)]
    if width > 2 and height > 2 and draw(st.booleans()):
        part.append(hole(x + 1, y + 1, x + width - 1, y + height - 1))
    return part
