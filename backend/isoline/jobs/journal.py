"""The journal of a job: an append-only file of batches, and the stream that every reader follows.

    file    = magic  version u32  frame*
    frame   = length u32  crc32 u32  payload     crc32 over the length and the payload
    payload = size u32  JSON  arrays             `size` bytes of JSON; arrays begin at 8 bytes

All numbers are little-endian. A batch is what one tile gave: its public events, and what the
stitcher needs to go on from there. Arrays are raw bytes with type and shape in the JSON; nothing
in a journal is ever executed. A torn tail, which a crash leaves, is ignored by readers and cut off
by the next writer; damage before it is an error.
"""

from __future__ import annotations

import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from isoline.domain.batch import Arrays, Batch
from isoline.domain.events import (
    Cancelled,
    Contours,
    Done,
    Event,
    Failed,
    Label,
    Mask,
    Objects,
    Progress,
    Scope,
    Started,
    Warned,
)
from isoline.errors import Broken
from isoline.geometry.grid import XY, Grid, Rect
from isoline.geometry.polygons import Polygons
from isoline.geometry.volume_grid import LPS, SliceName, VolumeGrid, VolumeInfo

MAGIC, VERSION = b"isoline journal\n", 1
_FRAME = struct.Struct("<II")
_SIZE = struct.Struct("<I")
_HEAD = MAGIC + _SIZE.pack(VERSION)
_ALIGNMENT = 8
_POLL_SECONDS = 0.25


class JournalWriter:
    """Appends batches to one journal. Readers of this process may follow it meanwhile."""

    def __init__(self, path: Path, fsync_ms: int | None = 500) -> None:
        """Go on where the journal at `path` ends, or begin it; a torn tail is cut off.

        `fsync_ms` is how old data may get before an `append` forces it to the disk; None leaves
        that to the system, which loses nothing unless the machine itself goes down.
        Raises Broken when the journal is damaged before its end.
        """
        self.last_seq = -1
        """The number of the last event written, -1 before the first."""
        self.ended = False
        """Whether the last event of the job is written."""
        self.news = threading.Condition()
        """Rung after every batch."""
        self._path = path
        self._fsync_ms = fsync_ms
        self._synced = time.monotonic()
        self._stream = path.open("ab", buffering=0)
        self._end = self._recover()

    def append(self, batch: Batch) -> None:
        """Write `batch`; readers see it, and the death of this process cannot take it back.

        Raises ValueError when its events do not follow the last one written, Broken when the disk
        does not take it; the journal is then as it was.
        """
        if batch.seq != self.last_seq + 1 or self.ended:
            raise ValueError(f"event {batch.seq} after {self.last_seq}, ended: {self.ended}")
        frame = _frame(batch)
        with self.news:
            self._write(frame)
            self.last_seq, self.ended = batch.last_seq, batch.ends
            self.news.notify_all()
        if self._fsync_ms is not None and time.monotonic() - self._synced >= self._fsync_ms / 1e3:
            self._sync()

    def close(self) -> None:
        """Force everything to the disk and give back the file."""
        if not self._stream.closed:
            if self._fsync_ms is not None:
                self._sync()
            self._stream.close()

    def _recover(self) -> int:
        """Learn where the journal stands; return the offset of its end."""
        with self._path.open("rb", buffering=0) as stream:
            for batch in map(_unpack, _payloads(stream, self._path)):
                self.last_seq, self.ended = batch.last_seq, batch.ends
            end = stream.tell()
        self._stream.truncate(end)
        if end == 0:
            self._stream.write(_HEAD)
        return end or len(_HEAD)

    def _write(self, frame: bytes) -> None:
        rest = memoryview(frame)
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
        except OSError as error:
            self._stream.truncate(self._end)
            raise Broken(
                f"the journal {self._path.name} cannot be written: {error.strerror}",
                "free space where jobs are kept",
            ) from error
        self._end += len(frame)

    def _sync(self) -> None:
        os.fsync(self._stream.fileno())
        self._synced = time.monotonic()


class JournalReader:
    """Reads one journal from its beginning, in memory that does not grow with it."""

    def __init__(self, path: Path, writer: JournalWriter | None = None) -> None:
        """Read the journal at `path`; a `writer` in this process tells at once what is new."""
        self._path = path
        self._news = writer.news if writer else threading.Condition()

    def batches(self) -> Iterator[Batch]:
        """Yield what is there now.

        Raises Broken, with the offset, when the journal is damaged before its end.
        """
        with self._path.open("rb", buffering=0) as stream:
            yield from map(_unpack, _payloads(stream, self._path))

    def follow(self, after: int = -1, wait: float | None = None) -> Iterator[Batch | None]:
        """Yield the batches with events after number `after`, to the end of the job.

        The first may hold earlier events as well: see `Batch.numbered`. Whenever nothing was
        written for `wait` seconds it yields None, so that the caller can give a sign of life.
        Raises Broken, with the offset, when the journal is damaged before its end.
        """
        ended = False
        with self._path.open("rb", buffering=0) as stream:
            while not ended:
                size = _size(stream)
                for batch in map(_unpack, _payloads(stream, self._path)):
                    ended = batch.ends
                    if batch.events and batch.last_seq > after:
                        yield batch
                if not ended and not self._grew(stream, size, wait):
                    yield None

    def _grew(self, stream: FileIO, size: int, wait: float | None) -> bool:
        """Wait until the file no longer has `size` bytes; False after `wait` seconds."""
        deadline = None if wait is None else time.monotonic() + wait
        with self._news:
            while _size(stream) == size:
                left = _POLL_SECONDS if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return False
                # a writer in another process rings no bell here: look again now and then
                self._news.wait(min(left, _POLL_SECONDS))
        return True


# Frames


def _payloads(stream: FileIO, path: Path) -> Iterator[bytearray]:
    """Yield the payload of every whole frame from where `stream` stands.

    At the end `stream` stands behind the last whole frame, before a torn tail if there is one.
    What is written meanwhile is left for the next call.
    """
    size = _size(stream)
    if stream.tell() == 0:
        head = stream.read(len(_HEAD))
        if head != _HEAD[: len(head)]:
            raise Broken(f"{path.name} is no journal of version {VERSION}", "delete the job")
        if len(head) < len(_HEAD):
            stream.seek(0)
            return
    while True:
        offset = stream.tell()
        payload = _payload(stream, size)
        if payload is None:
            break
        yield payload
    if not _only_zeros(stream, size):
        raise Broken(f"{path.name} is damaged at byte {offset}", "start the job again")
    stream.seek(offset)


def _payload(stream: FileIO, size: int) -> bytearray | None:
    """Return the payload of the next frame, None when it is not whole; stand behind it."""
    if size - stream.tell() < _FRAME.size:
        stream.seek(size)
        return None
    length, checksum = _FRAME.unpack(stream.read(_FRAME.size))
    payload = bytearray(min(length, size - stream.tell()))
    stream.readinto(payload)
    whole = len(payload) == length and _checksum(payload) == checksum
    return payload if whole else None


def _only_zeros(stream: FileIO, size: int) -> bool:
    """Return whether nothing follows but what a file system may leave after a power cut."""
    while stream.tell() < size:
        if any(stream.read(min(size - stream.tell(), 1 << 20))):
            return False
    return True


def _checksum(payload: bytes | bytearray) -> int:
    # the length is in it, so that a run of zeros is no valid frame
    return zlib.crc32(payload, zlib.crc32(_SIZE.pack(len(payload))))


def _size(stream: FileIO) -> int:
    return os.fstat(stream.fileno()).st_size


# Payloads


class _Columns:
    """The arrays of one batch, on their way to a payload; JSON refers to them by number."""

    def __init__(self) -> None:
        self.arrays: list[NDArray[Any]] = []

    def add(self, array: NDArray[Any]) -> int:
        if array.dtype.kind not in "biuf":
            raise TypeError(f"a journal holds numbers, not {array.dtype}")
        self.arrays.append(array.astype(array.dtype.newbyteorder("<"), copy=False))
        return len(self.arrays) - 1

    def add_all(self, named: Arrays) -> dict[str, int]:
        return {name: self.add(array) for name, array in named.items()}


def _frame(batch: Batch) -> bytes:
    columns = _Columns()
    said = {
        "seq": batch.seq,
        "tile": batch.tile,
        "events": [_say(event, columns) for event in batch.events],
        "carry": None if batch.carry is None else columns.add_all(batch.carry),
        "arrays": [(array.dtype.str, array.shape) for array in columns.arrays],
    }
    text = orjson.dumps(said, default=list)  # default: for XY
    payload = bytearray()
    for piece in [_SIZE.pack(len(text)) + text, *(array.tobytes() for array in columns.arrays)]:
        payload += piece + bytes(-len(piece) % _ALIGNMENT)
    return _FRAME.pack(len(payload), _checksum(payload)) + payload


def _unpack(payload: bytearray) -> Batch:
    (size,) = _SIZE.unpack_from(payload)
    offset = _SIZE.size + size
    said = orjson.loads(payload[_SIZE.size : offset])
    arrays: list[NDArray[Any]] = []
    for dtype, shape in said["arrays"]:
        offset += -offset % _ALIGNMENT
        arrays.append(np.ndarray(shape, dtype, payload, offset))
        offset += arrays[-1].nbytes
    return Batch(
        said["seq"],
        None if said["tile"] is None else (said["tile"][0], said["tile"][1]),
        tuple(_hear(event, arrays) for event in said["events"]),
        said["carry"] and {name: arrays[k] for name, k in said["carry"].items()},
    )


def _say(event: Event, columns: _Columns) -> dict[str, object]:
    """Return `event` for JSON, its arrays put into `columns`."""
    if isinstance(event, Mask):
        arrays = columns.add_all({name: getattr(event, name) for name in _MASK})
        return {"event": "Mask", "provisional": event.provisional, "arrays": arrays}
    if not isinstance(event, Contours):
        return {"event": type(event).__name__, "of": event}
    objects, polygons = event.objects, event.objects.polygons
    return {
        "event": "Contours",
        "provisional": event.provisional,
        "replaces": columns.add(event.replaces),
        "polygons": columns.add_all(vars(polygons)),
        "columns": columns.add_all({name: getattr(objects, name) for name in _COLUMNS}),
        "measurements": columns.add_all(objects.measurements),
        "nuclei": None if objects.nuclei is None else columns.add_all(vars(objects.nuclei)),
    }


_MASK = ("slices", "layers", "code", "start")
_COLUMNS = ("ids", "label", "area_px", "anchor", "incomplete")


def _hear(said: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> Event:
    """Return what `_say` said."""

    def named(numbers: Mapping[str, int]) -> dict[str, NDArray[Any]]:
        return {name: arrays[k] for name, k in numbers.items()}

    match said["event"]:
        case "Contours":
            objects = Objects(
                Polygons(**named(said["polygons"])),
                **named(said["columns"]),
                measurements=named(said["measurements"]),
                nuclei=Polygons(**named(nuclei)) if (nuclei := said.get("nuclei")) else None,
            )
            return Contours(objects, said["provisional"], arrays[said["replaces"]])
        case "Mask":
            return Mask(**named(said["arrays"]), provisional=said["provisional"])
        case "Started":
            return _started(said["of"])
        case "Warned":
            warned = said["of"]
            area = warned["area"] and Rect(**warned["area"])
            return Warned(warned["code"], warned["message"], area)
        case name:
            return _PLAIN[name](**said["of"])


_PLAIN: Mapping[str, type[Progress | Done | Failed | Cancelled]] = {
    kind.__name__: kind for kind in (Progress, Done, Failed, Cancelled)
}


def _started(said: Mapping[str, Any]) -> Started:
    scope, grid, spacing = said["scope"], said["grid"], said["spacing_um"]
    parameters = tuple((name, value) for name, value in scope["parameters"])
    restored = {
        "scope": Scope(scope["image"], scope["model"], scope["version"], parameters),
        "labels": tuple(_label(label) for label in said["labels"]),
        "grid": Grid(tuple(grid["image_size"]), XY(*grid["scale"])),
        "spacing_um": spacing and XY(*spacing),
        "volume": said["volume"] and _volume(said["volume"]),
    }
    return Started(**{**said, **restored})


def _label(said: Mapping[str, Any]) -> Label:
    anatomy = said.get("anatomy")
    return Label(said["name"], tuple(said["color"]), anatomy and tuple(anatomy))


def _volume(said: Mapping[str, Any]) -> VolumeInfo:
    grid = said["grid"]
    points = ("origin_mm", "step_i_mm", "step_j_mm", "step_k_mm")
    lying = {name: LPS(*grid[name]) for name in points}
    grid = VolumeGrid(**{**grid, **lying, "size": tuple(grid["size"])})
    return VolumeInfo(grid, tuple(SliceName(*name) for name in said["slices"]), said["modality"])
