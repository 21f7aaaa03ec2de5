"""What an encoder is: one dialect of JSON for results, as events and as a file.

All coordinates are image coordinates: level-0 pixels, x to the right, y down, the origin at the
corner of the first pixel. Rings keep the order of `Polygons`; with y down the shell has a positive
signed area, which is what RFC 7946 calls counterclockwise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import pairwise, repeat
from typing import BinaryIO, ClassVar, NamedTuple
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray
from orjson import Fragment

from isoline.domain import object_ids
from isoline.domain.events import (
    Cancelled,
    Contours,
    Done,
    End,
    Event,
    Failed,
    Mask,
    Objects,
    Scope,
    Started,
)
from isoline.errors import NotSupported
from isoline.geometry.grid import Grid
from isoline.geometry.polygons import Polygons


class RingStyle(Enum):
    """How a dialect lists the corners of a ring."""

    CLOSED = "[x, y], the first repeated at the end"
    OPEN_3D = "[x, y, 0], the first not repeated"


class Encoder(ABC):
    """One dialect. Stateless: the same result always gives the same text."""

    name: ClassVar[str]
    """As registered, and as `format` in a request."""
    suffix: ClassVar[str]
    """Of a file, with its dot."""
    media_type: ClassVar[str]
    """Of a file."""
    kinds: ClassVar[frozenset[str]] = frozenset(("objects", "regions"))
    """What results it can write: of `objects`, `regions` and `mask`."""

    def mask(self, mask: Mask, started: Started) -> bytes:
        """Return the JSON texts of the slices of `mask`, with commas between, without breaks."""
        raise NotSupported(f"{self.name} writes no masks", "ask for format ohif")

    def id_text(self, raw: bytes) -> str:
        """Return how this dialect writes an id of 16 bytes."""
        return str(UUID(bytes=raw))

    @abstractmethod
    def features(self, objects: Objects, started: Started, provisional: bool) -> bytes:
        """Return the JSON texts of `objects`, with commas between, without line breaks."""

    @abstractmethod
    def header(self, started: Started) -> bytes:
        """Return what a file begins with, up to its first feature."""

    @abstractmethod
    def footer(self, started: Started, end: End | None) -> bytes:
        """Return what a file ends with; `end` is None when the job was cut off."""


class ContourFile:
    """Writes a file of one dialect as results come; valid JSON once closed.

    A context manager. It holds final geometry only: provisional pieces are left out.
    """

    def __init__(self, stream: BinaryIO, encoder: Encoder) -> None:
        self._stream = stream
        self._encoder = encoder
        self._started: Started | None = None
        self._end: End | None = None
        self._separator = b""

    def __enter__(self) -> ContourFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, event: Event) -> None:
        """Take in the next event of the job."""
        if isinstance(event, Started):
            self._started = event
            self._stream.write(self._encoder.header(event))
        elif isinstance(event, Contours) and not event.provisional and len(event.objects):
            if self._started is None:
                raise ValueError("contours before the job has started")
            text = self._encoder.features(event.objects, self._started, provisional=False)
            self._stream.write(self._separator + text)
            self._separator = b",\n"
        elif isinstance(event, End):
            self._end = event

    def close(self) -> None:
        """Complete the text; the stream stays open and is the caller's."""
        if self._started is not None:
            self._stream.write(self._encoder.footer(self._started, self._end))
            self._stream.flush()
            self._started = None


def scope_key(scope: Scope) -> str:
    """Return 16 hex digits that stand for `scope`: equal scopes, equal keys.

    A viewer keeps it with each result, to find what an earlier run of the same scope left there.
    """
    return object_ids.scope_key(scope).hex()[:16]


class Item(NamedTuple):
    """One object, ready to be written."""

    id: bytes
    """16 bytes."""
    label: int
    """Index into `Started.labels`."""
    parts: list[list[Fragment]]
    """Its polygons, each a shell followed by its holes, each of these a JSON list of corners."""
    area_um2: float | None
    """None where the image has no pixel size."""
    measurements: dict[str, np.float32]
    """Finite ones only."""
    incomplete: bool
    nucleus: list[list[Fragment]]
    """Of a cell, as `parts`; empty where there is none."""
    nucleus_um2: float | None
    """0 for a cell without one; None without cells, and where the image has no pixel size."""


def items(objects: Objects, started: Started, ring: RingStyle) -> Iterator[Item]:
    """Yield the objects one by one."""
    nuclei = objects.nuclei
    return map(
        Item,
        map(bytes, objects.ids),
        objects.label.tolist(),
        _parts(objects.polygons, started.grid, ring),
        _areas_um2(objects.area_px, started),
        _measurements(objects),
        objects.incomplete.tolist(),
        repeat([]) if nuclei is None else _parts(nuclei, started.grid, ring),
        repeat(None) if nuclei is None else _areas_um2(nuclei.areas2() // 2, started),
    )


def image_corners(polygons: Polygons, grid: Grid) -> NDArray[np.generic]:
    """Return (c, 2) x, y in image coordinates: whole where the scale is, else to 3 decimals.

    Equal corners stay equal, so neighbours still share their edges.
    """
    if all(float(s).is_integer() for s in grid.scale):
        return polygons.corners * np.array(grid.scale, np.int64)
    return np.round(grid.to_image(polygons.corners), 3)


def _parts(polygons: Polygons, grid: Grid, style: RingStyle) -> list[list[list[Fragment]]]:
    """Return the parts of every object, each its rings."""
    rings = _rings(polygons, grid, style)
    parts = [rings[a:b] for a, b in pairwise(polygons.part_start.tolist())]
    return [parts[a:b] for a, b in pairwise(polygons.object_start.tolist())]


def _rings(polygons: Polygons, grid: Grid, style: RingStyle) -> list[Fragment]:
    """Return the JSON text of every ring.

    All corners become text in one go and rings are slices of it: lists of lists of numbers would
    cost several times as much.
    """
    corners, start = image_corners(polygons, grid), polygons.ring_start
    if style is RingStyle.CLOSED:
        corners = np.insert(corners, start[1:], corners[start[:-1]], axis=0)
        start = start + np.arange(len(start))
    else:
        corners = np.column_stack([corners, np.zeros(len(corners), corners.dtype)])
    text = orjson.dumps(np.ascontiguousarray(corners), option=orjson.OPT_SERIALIZE_NUMPY)
    corner_ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("]")) + 1
    ends = corner_ends[start[1:] - 1].tolist()
    # between two rings stands a comma, before the first a bracket
    return [Fragment(b"[%b]" % text[a + 1 : b]) for a, b in pairwise([0, *ends])]


def _areas_um2(area_px: NDArray[np.int64], started: Started) -> Iterable[float | None]:
    if started.spacing_um is None:
        return repeat(None, len(area_px))
    pixel = started.grid.pixel_area * started.spacing_um.x * started.spacing_um.y
    areas: list[float] = np.round(area_px * pixel, 4).tolist()
    return areas


def _measurements(objects: Objects) -> Iterator[dict[str, np.float32]]:
    names = tuple(objects.measurements)
    if not names:
        return ({} for _ in range(len(objects)))
    rows = zip(*objects.measurements.values(), strict=True)
    return (
        {name: value for name, value in zip(names, row, strict=True) if math.isfinite(value)}
        for row in rows
    )


def join(features: Sequence[Mapping[str, object]]) -> bytes:
    """Return the JSON texts of `features`, with commas between."""
    # float32 is written as the shortest text that reads back as the same float32
    return orjson.dumps(features, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def outcome(end: End | None) -> str:
    """Return one word for how a job ended, as a file records it."""
    match end:
        case Done():
            return "done"
        case Failed():
            return "failed"
        case Cancelled() | None:
            return "cancelled"
