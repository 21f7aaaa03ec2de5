"""The interface of an encoder: one JSON dialect for results, as events and as a file.

All coordinates are image coordinates: level-0 pixels, x to the right, y down, the origin at the
corner of the first pixel. Rings keep the order of `Polygons`; with y pointing down, a shell has a
positive signed area, which RFC 7946 calls counterclockwise.
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
    """One dialect. Stateless: equal results give equal text."""

    name: ClassVar[str]
    """The registered name, and the value of `format` in a request."""
    suffix: ClassVar[str]
    """The file name suffix, with its dot."""
    media_type: ClassVar[str]
    """The media type of a file."""
    kinds: ClassVar[frozenset[str]] = frozenset(("objects", "regions"))
    """The kinds of result that it can write: any of `objects`, `regions` and `mask`."""

    def mask(self, mask: Mask, started: Started) -> bytes:
        """Return the JSON of the slices of `mask`, separated by commas, without line breaks."""
        raise NotSupported(f"{self.name} does not support masks", "use format ohif")

    def id_text(self, raw: bytes) -> str:
        """Return an id of 16 bytes in the notation of this dialect."""
        return str(UUID(bytes=raw))

    @staticmethod
    def id_bytes(text: str) -> bytes:
        """Return the 16 bytes of an id; those that a dialect leaves out are 0."""
        return bytes.fromhex(text.replace("-", "")).ljust(16, b"\0")

    @abstractmethod
    def features(self, objects: Objects, started: Started, provisional: bool) -> bytes:
        """Return the JSON of `objects`, separated by commas, without line breaks."""

    @abstractmethod
    def header(self, started: Started) -> bytes:
        """Return the beginning of a file, up to its first feature."""

    @abstractmethod
    def footer(self, started: Started, end: End | None) -> bytes:
        """Return the end of a file; `end` is None if the job was cut short."""


class ContourFile:
    """Writes a file in one dialect as results arrive; valid JSON once closed.

    A context manager. The file contains final geometry only: provisional pieces are left out.
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
        """Write the next event of the job."""
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
        """Complete the text; the stream stays open and remains the caller's."""
        if self._started is not None:
            self._stream.write(self._encoder.footer(self._started, self._end))
            self._stream.flush()
            self._started = None


def scope_key(scope: Scope) -> str:
    """Return 16 hex digits that identify `scope`: equal scopes have equal keys.

    A viewer stores the key with each result, to find the results of earlier runs of the same scope.
    """
    return object_ids.scope_key(scope).hex()[:16]


class Item(NamedTuple):
    """One object, ready to write."""

    id: bytes
    """16 bytes."""
    label: int
    """Index into `Started.labels`."""
    parts: list[list[Fragment]]
    """Its polygons: each a shell followed by its holes, and each ring a JSON list of corners."""
    area_um2: float | None
    """None if the image has no pixel size."""
    measurements: dict[str, np.float32]
    """Finite ones only."""
    incomplete: bool
    nucleus: list[list[Fragment]]
    """The nucleus of a cell, in the form of `parts`; empty if there is none."""
    nucleus_um2: float | None
    """0 for a cell without a nucleus; None if there are no cells or the image has no pixel size."""


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
    """Return (c, 2) x, y in image coordinates: integers if the scale is one, else to 3 decimals.

    Equal corners stay equal, so neighbours keep their shared edges.
    """
    if all(float(s).is_integer() for s in grid.scale):
        return polygons.corners * np.array(grid.scale, np.int64)
    return np.round(grid.to_image(polygons.corners), 3)


def _parts(polygons: Polygons, grid: Grid, style: RingStyle) -> list[list[list[Fragment]]]:
    """Return the parts of every object, each as a list of rings."""
    rings = _rings(polygons, grid, style)
    parts = [rings[a:b] for a, b in pairwise(polygons.part_start.tolist())]
    return [parts[a:b] for a, b in pairwise(polygons.object_start.tolist())]


def _rings(polygons: Polygons, grid: Grid, style: RingStyle) -> list[Fragment]:
    """Return the JSON text of every ring.

    All corners are converted to text at once and rings are slices of it: lists of lists of numbers
    would cost several times as much.
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
    # rings are separated by commas, and a bracket precedes the first
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
    """Return the JSON of `features`, separated by commas."""
    # float32 is written as the shortest text that parses to the same float32
    return orjson.dumps(features, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def outcome(end: End | None) -> str:
    """Return how a job ended, in the one word that a file records."""
    match end:
        case Done(tiles_failed=failed):
            return "incomplete" if failed else "done"
        case Failed():
            return "failed"
        case Cancelled() | None:
            return "cancelled"
