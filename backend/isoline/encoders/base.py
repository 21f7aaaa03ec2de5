"""What an encoder is: one dialect of JSON for results, as events and as a file.

All coordinates are image coordinates: level-0 pixels, x to the right, y down, the origin at the
corner of the first pixel. Rings keep the order of `Polygons`; with y down the shell has a positive
signed area, which is what RFC 7946 calls counterclockwise.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, repeat
from typing import BinaryIO, ClassVar, NamedTuple, TypeAlias
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray

from isoline.events import Cancelled, Contours, Done, End, Event, Failed, Objects, Scope, Started

Ring: TypeAlias = list[list[float]]
"""Corners [x, y] in image coordinates; the first is not repeated."""


class Encoder(ABC):
    """One dialect. Stateless: the same result always gives the same text."""

    name: ClassVar[str]
    """As registered, and as `format` in a request."""
    suffix: ClassVar[str]
    """Of a file, with its dot."""
    media_type: ClassVar[str]
    """Of a file."""

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
    text = orjson.dumps([scope.image, scope.model, scope.version, scope.parameters])
    return hashlib.sha256(text).hexdigest()[:16]


class Item(NamedTuple):
    """One object, ready to be written."""

    id: bytes
    """16 bytes."""
    label: int
    """Index into `Started.labels`."""
    parts: list[list[Ring]]
    """Its polygons, each a shell followed by its holes."""
    area_um2: float | None
    """None where the image has no pixel size."""
    measurements: dict[str, np.float32]
    """Finite ones only."""
    incomplete: bool


def items(objects: Objects, started: Started) -> Iterator[Item]:
    """Yield the objects one by one."""
    polygons = objects.polygons
    points: list[list[float]] = image_corners(objects, started).tolist()
    rings = [points[a:b] for a, b in pairwise(polygons.ring_start.tolist())]
    parts = [rings[a:b] for a, b in pairwise(polygons.part_start.tolist())]
    return map(
        Item,
        map(bytes, objects.ids),
        objects.label.tolist(),
        [parts[a:b] for a, b in pairwise(polygons.object_start.tolist())],
        _areas_um2(objects, started),
        _measurements(objects),
        objects.incomplete.tolist(),
    )


def image_corners(objects: Objects, started: Started) -> NDArray[np.generic]:
    """Return (c, 2) x, y in image coordinates: whole where the scale is, else to 3 decimals.

    Equal corners stay equal, so neighbours still share their edges.
    """
    corners, scale = objects.polygons.corners, started.grid.scale
    if all(float(s).is_integer() for s in scale):
        return corners * np.array(scale, np.int64)
    return np.round(started.grid.to_image(corners), 3)


def _areas_um2(objects: Objects, started: Started) -> Iterable[float | None]:
    if started.spacing_um is None:
        return repeat(None, len(objects))
    pixel = started.grid.pixel_area * started.spacing_um.x * started.spacing_um.y
    areas: list[float] = np.round(objects.area_px * pixel, 4).tolist()
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
