"""The journal of a job: an append-only file of batches, from which every reader streams.

    file    = magic  version u32  frame*
    frame   = length u32  crc32 u32  payload     crc32 over the length and the payload
    payload = size u32  JSON  arrays             `size` bytes of JSON; arrays are aligned to 8 bytes

All numbers are little-endian. A batch is the output of one tile: its public events, and the state
from which merging across seams can resume. Arrays are raw bytes with type and shape in the JSON;
nothing in a journal is ever executed. A torn tail, left by a crash, is ignored by readers and
truncated by the next writer; damage before it is an error.
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
from isoline.geometry.nifti_forms import NiftiForms, rows
from isoline.geometry.polygons import Polygons
from isoline.geometry.volume_grid import LPS, SliceName, VolumeGrid, VolumeInfo

MAGIC, VERSION = b"isoline journal\n", 1
_FRAME = struct.Struct("<II")
_SIZE = struct.Struct("<I")
_HEAD = MAGIC + _SIZE.pack(VERSION)
_ALIGNMENT = 8
_POLL_SECONDS = 0.25


class JournalWriter:
    """Appends batches to one journal. Readers in this process may follow it meanwhile."""

    def __init__(self, path: Path, fsync_ms: int | None = 500) -> None:
        """Continue the journal at `path`, or create it; a torn tail is truncated.

        `fsync_ms` is how old data may get before an `append` forces it to disk; None leaves that to
        the system, which loses nothing unless the machine itself crashes.

        Raises Broken if the journal is damaged before its end.
        """
        self.last_seq = -1
        """The number of the last event written, -1 if there is none."""
        self.ended = False
        """Whether the job's last event has been written."""
        self.news = threading.Condition()
        """Notified after every batch."""
        self._path = path
        self._fsync_ms = fsync_ms
        self._synced = time.monotonic()
        self._stream = path.open("ab", buffering=0)
        self._end = self._recover()

    def append(self, batch: Batch) -> None:
        """Write `batch`; readers see it, and it survives the death of this process.

        Raises ValueError if its events do not follow the last one written, and Broken if it cannot
        be written to disk; the journal is then unchanged.
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
        """Force everything to disk and close the file."""
        if not self._stream.closed:
            if self._fsync_ms is not None:
                self._sync()
            self._stream.close()

    def _recover(self) -> int:
        """Restore the state from the journal; return the offset of its end."""
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
                "free disk space in the data directory",
            ) from error
        self._end += len(frame)

    def _sync(self) -> None:
        os.fsync(self._stream.fileno())
        self._synced = time.monotonic()


class JournalReader:
    """Reads one journal from its beginning, in constant memory."""

    def __init__(self, path: Path, writer: JournalWriter | None = None) -> None:
        """Read the journal at `path`; a `writer` in this process notifies at once of new
        batches."""
        self._path = path
        self._news = writer.news if writer else threading.Condition()

    def batches(self) -> Iterator[Batch]:
        """Yield the batches written so far.

        Raises Broken, stating the offset, if the journal is damaged before its end.
        """
        with self._path.open("rb", buffering=0) as stream:
            yield from map(_unpack, _payloads(stream, self._path))

    def follow(self, after: int = -1, wait: float | None = None) -> Iterator[Batch | None]:
        """Yield the batches with events after number `after`, until the end of the job.

        The first may contain earlier events as well: see `Batch.numbered`. Whenever nothing has
        been written for `wait` seconds, it yields None, so that the caller can send a heartbeat.

        Raises Broken, stating the offset, if the journal is damaged before its end.
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
                # a writer in another process cannot notify this one, so poll
                self._news.wait(min(left, _POLL_SECONDS))
        return True


# Frames


def _payloads(stream: FileIO, path: Path) -> Iterator[bytearray]:
    """Yield the payload of every complete frame from the position of `stream`.

    Finally, `stream` is positioned after the last complete frame, before a torn tail if there is
    one. Data written meanwhile is left for the next call.
    """
    size = _size(stream)
    if stream.tell() == 0:
        head = stream.read(len(_HEAD))
        if head != _HEAD[: len(head)]:
            raise Broken(f"{path.name} is not a journal of version {VERSION}", "delete the job")
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
    """Return the payload of the next frame, None if it is incomplete, and move past it."""
    if size - stream.tell() < _FRAME.size:
        stream.seek(size)
        return None
    length, checksum = _FRAME.unpack(stream.read(_FRAME.size))
    payload = bytearray(min(length, size - stream.tell()))
    stream.readinto(payload)
    whole = len(payload) == length and _checksum(payload) == checksum
    return payload if whole else None


def _only_zeros(stream: FileIO, size: int) -> bool:
    """Return whether only zeros follow, which a file system may leave after a power failure."""
    while stream.tell() < size:
        if any(stream.read(min(size - stream.tell(), 1 << 20))):
            return False
    return True


def _checksum(payload: bytes | bytearray) -> int:
    # it covers the length, so that a run of zeros is not a valid frame
    return zlib.crc32(payload, zlib.crc32(_SIZE.pack(len(payload))))


def _size(stream: FileIO) -> int:
    return os.fstat(stream.fileno()).st_size


# Payloads


class _Columns:
    """The arrays of one batch to be written to a payload; the JSON refers to them by number."""

    def __init__(self) -> None:
        self.arrays: list[NDArray[Any]] = []

    def add(self, array: NDArray[Any]) -> int:
        if array.dtype.kind not in "biuf":
            raise TypeError(f"a journal can contain only numbers, not {array.dtype}")
        self.arrays.append(array.astype(array.dtype.newbyteorder("<"), copy=False))
        return len(self.arrays) - 1

    def add_all(self, named: Arrays) -> dict[str, int]:
        return {name: self.add(array) for name, array in named.items()}


def _frame(batch: Batch) -> bytes:
    columns = _Columns()
    record = {
        "seq": batch.seq,
        "tile": batch.tile,
        "events": [_event_json(event, columns) for event in batch.events],
        "carry": None if batch.carry is None else columns.add_all(batch.carry),
        "arrays": [(array.dtype.str, array.shape) for array in columns.arrays],
    }
    text = orjson.dumps(record, default=list)  # default: for XY
    payload = bytearray()
    for piece in [_SIZE.pack(len(text)) + text, *(array.tobytes() for array in columns.arrays)]:
        payload += piece + bytes(-len(piece) % _ALIGNMENT)
    return _FRAME.pack(len(payload), _checksum(payload)) + payload


def _unpack(payload: bytearray) -> Batch:
    (size,) = _SIZE.unpack_from(payload)
    offset = _SIZE.size + size
    record = orjson.loads(payload[_SIZE.size : offset])
    arrays: list[NDArray[Any]] = []
    for dtype, shape in record["arrays"]:
        offset += -offset % _ALIGNMENT
        arrays.append(np.ndarray(shape, dtype, payload, offset))
        offset += arrays[-1].nbytes
    return Batch(
        record["seq"],
        None if record["tile"] is None else (record["tile"][0], record["tile"][1]),
        tuple(_event_of(event, arrays) for event in record["events"]),
        record["carry"] and {name: arrays[k] for name, k in record["carry"].items()},
    )


def _event_json(event: Event, columns: _Columns) -> dict[str, object]:
    """Return `event` for JSON, with its arrays added to `columns`."""
    if isinstance(event, Mask):
        arrays = columns.add_all({name: getattr(event, name) for name in _MASK})
        is_ = {"provisional": event.provisional, "whole": event.whole}
        return {"event": "Mask", **is_, "arrays": arrays}
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


def _event_of(record: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> Event:
    """Return the event that `_event_json` converted."""

    def named(numbers: Mapping[str, int]) -> dict[str, NDArray[Any]]:
        return {name: arrays[k] for name, k in numbers.items()}

    match record["event"]:
        case "Contours":
            objects = Objects(
                Polygons(**named(record["polygons"])),
                **named(record["columns"]),
                measurements=named(record["measurements"]),
                nuclei=Polygons(**named(nuclei)) if (nuclei := record.get("nuclei")) else None,
            )
            return Contours(objects, record["provisional"], arrays[record["replaces"]])
        case "Mask":
            whole = record.get("whole", False)
            return Mask(**named(record["arrays"]), provisional=record["provisional"], whole=whole)
        case "Started":
            return _started(record["of"])
        case "Warned":
            warned = record["of"]
            area = warned["area"] and Rect(**warned["area"])
            return Warned(warned["code"], warned["message"], area)
        case name:
            return _PLAIN[name](**record["of"])


_PLAIN: Mapping[str, type[Progress | Done | Failed | Cancelled]] = {
    kind.__name__: kind for kind in (Progress, Done, Failed, Cancelled)
}


def _started(record: Mapping[str, Any]) -> Started:
    scope, grid, spacing = record["scope"], record["grid"], record["spacing_um"]
    parameters = tuple((name, value) for name, value in scope["parameters"])
    restored = {
        "scope": Scope(scope["image"], scope["model"], scope["version"], parameters),
        "labels": tuple(_label(label) for label in record["labels"]),
        "grid": Grid(tuple(grid["image_size"]), XY(*grid["scale"])),
        "spacing_um": spacing and XY(*spacing),
        "volume": record["volume"] and _volume(record["volume"]),
    }
    return Started(**{**record, **restored})


def _label(record: Mapping[str, Any]) -> Label:
    anatomy = record.get("anatomy")
    return Label(record["name"], tuple(record["color"]), anatomy and tuple(anatomy))


def _volume(record: Mapping[str, Any]) -> VolumeInfo:
    grid = record["grid"]
    points = ("origin_mm", "step_i_mm", "step_j_mm", "step_k_mm")
    lying = {name: LPS(*grid[name]) for name in points}
    grid = VolumeGrid(**{**grid, **lying, "size": tuple(grid["size"])})
    names = tuple(SliceName(*name) for name in record["slices"])
    return VolumeInfo(grid, names, record["modality"], _forms(record.get("forms")))


def _forms(record: Mapping[str, Any] | None) -> NiftiForms | None:
    if record is None:
        return None
    affines = {name: rows(np.array(record[name])) for name in ("qform", "sform")}
    return NiftiForms(**{**record, **affines})
