"""The journal: what is written comes back, whatever happens to the file or its readers."""

from __future__ import annotations

import os
import struct
import threading
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoline.domain.batch import Batch
from isoline.domain.events import (
    Cancelled,
    Contours,
    Done,
    Event,
    Failed,
    Objects,
    Progress,
    Warned,
)
from isoline.errors import Broken
from isoline.geometry.grid import XY, Rect
from isoline.jobs import journal
from isoline.jobs.journal import JournalReader, JournalWriter
from isoline.testing.contracts import results

END = Done(3, 12, 0, 0, 1.5)


def plain(value: Any) -> Any:
    """Arrays as (type, shape, items), so that values can be compared."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(map(plain, value))
    if isinstance(value, Batch | Contours | Objects) or type(value).__name__ == "Polygons":
        return type(value), plain(vars(value))
    return value


def contours(first: int = 0, count: int = 3) -> Contours:
    shapes = [[[results.rectangle(10 * k, 0, 10 * k + 5, 5)]] for k in range(count)]
    return Contours(results.objects_of(shapes, first=first))


def write(path: Path, batches: int, ended: bool = True) -> list[Batch]:
    """Write a journal of a `Started`, so many batches of contours and progress, and an end."""
    said: list[Batch] = [Batch(0, None, (results.STARTED,))]
    for k in range(batches):
        events = (contours(10 * k), Progress(k + 1, batches, 0.5))
        said.append(Batch(said[-1].last_seq + 1, (k, 0), events, {"edge": np.arange(k)}))
    if ended:
        said.append(Batch(said[-1].last_seq + 1, None, (END,)))
    writer = JournalWriter(path)
    for batch in said:
        writer.append(batch)
    writer.close()
    return said


numbers = st.floats(allow_nan=False, allow_infinity=False)
plain_events = st.one_of(
    st.builds(Progress, st.integers(0, 99), st.integers(0, 99), st.none() | numbers),
    st.builds(Warned, st.text(), st.text(), st.none() | st.builds(Rect, *[numbers] * 4)),
    st.builds(Contours, results.batches(), st.booleans(), st.just(results.ids(50, 2))),
)
ends = st.one_of(
    st.just(END), st.builds(Failed, st.text(), st.text(), st.text()), st.just(Cancelled(1, 2))
)
arrays = st.sampled_from(
    [
        np.zeros((0, 2), np.int32),
        np.arange(6, dtype=np.uint8).reshape(2, 3)[:, ::2],
        np.array([True, False]),
        np.array([[0.5, np.nan]]),
        np.arange(3, dtype=">i8"),
        np.array(7, np.int64),
    ]
)


@given(
    events=st.lists(plain_events, max_size=4),
    end=ends,
    carry=st.none() | st.dictionaries(st.text(max_size=3), arrays),
)
def test_what_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[Event],
    end: Event,
    carry: dict[str, np.ndarray[Any, Any]] | None,
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    started = results.started(XY(4.0004, 3.5), spacing_um=None, kind="regions", z=3)
    said = [Batch(0, None, (started,)), Batch(1, (4, 7), (*events, end), carry)]
    writer = JournalWriter(path, fsync_ms=None)
    for batch in said:
        writer.append(batch)
    heard = list(JournalReader(path).batches())
    if carry is not None:  # bytes on disk are little-endian, whatever they were
        little = {name: a.astype(a.dtype.newbyteorder("<")) for name, a in carry.items()}
        said[1] = Batch(1, (4, 7), said[1].events, little)
    assert str(plain(tuple(heard))) == str(plain(tuple(said)))  # as texts: NaN is not NaN
    assert writer.last_seq == heard[-1].last_seq == len(events) + 1
    assert writer.ended


def test_what_comes_back_may_be_changed(tmp_path: Path) -> None:
    write(tmp_path / "j", 2)
    _, first, *_ = JournalReader(tmp_path / "j").batches()
    event = first.events[0]
    assert isinstance(event, Contours)
    event.objects.polygons.corners[0] = 9


def test_an_object_is_no_number(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j")
    with pytest.raises(TypeError):
        writer.append(Batch(0, None, (results.STARTED,), {"x": np.array([object()])}))
    assert list(JournalReader(tmp_path / "j").batches()) == []


def test_events_are_numbered_without_gaps(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j")
    writer.append(Batch(0, None, (results.STARTED, Progress(0, 1, None))))
    for wrong in (0, 1, 3):
        with pytest.raises(ValueError, match="event"):
            writer.append(Batch(wrong, None, (END,)))
    writer.append(Batch(2, (0, 0), ()))  # a tile with nothing to say is a tile done
    writer.append(Batch(2, None, (END,)))
    with pytest.raises(ValueError, match="ended"):
        writer.append(Batch(3, None, (Progress(1, 1, None),)))
    assert [b.tile for b in JournalReader(tmp_path / "j").batches()] == [None, (0, 0), None]


@pytest.mark.parametrize("after", [-1, 0, 1, 2, 3, 6, 7])
def test_following_starts_behind_any_event(tmp_path: Path, after: int) -> None:
    write(tmp_path / "j", 3)
    numbers = [
        seq
        for batch in JournalReader(tmp_path / "j").follow(after)
        if batch is not None
        for seq, _ in batch.numbered(after)
    ]
    assert numbers == list(range(after + 1, 8))


def test_every_torn_tail_is_dropped_by_readers_and_cut_off_by_the_writer(tmp_path: Path) -> None:
    said = write(tmp_path / "whole", 3)
    whole = (tmp_path / "whole").read_bytes()
    before_end = len(whole) - frame_sizes(whole)[-1]
    path = tmp_path / "torn"
    for cut in range(before_end, len(whole)):
        path.write_bytes(whole[:cut])
        assert len(list(JournalReader(path).batches())) == len(said) - 1
    for cut in (*range(25), before_end, len(whole) - 1):
        path.write_bytes(whole[:cut])
        writer = JournalWriter(path)
        assert not writer.ended
        for batch in said:
            if batch.seq > writer.last_seq:
                writer.append(batch)
        writer.close()
        assert path.read_bytes() == whole


@pytest.mark.parametrize("tail", [bytes(5), bytes(8), bytes(5000), b"\x10\0\0\0" + bytes(20)])
def test_what_a_power_cut_leaves_is_a_torn_tail(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "j"
    said = write(path, 2, ended=False)
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert len(list(JournalReader(path).batches())) == len(said)
    JournalWriter(path).close()
    assert path.read_bytes() == whole


def test_damage_in_the_middle_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    write(tmp_path / "j", 3)
    whole = bytearray((tmp_path / "j").read_bytes())
    second = 20 + frame_sizes(bytes(whole))[0]
    whole[second + 60] ^= 1
    (tmp_path / "j").write_bytes(whole)
    reader = JournalReader(tmp_path / "j").batches()
    assert next(reader).seq == 0
    with pytest.raises(Broken, match=f"byte {second}"):
        next(reader)
    with pytest.raises(Broken, match=f"byte {second}"):
        JournalWriter(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == whole


def test_another_file_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"event":"started"}\n')
    with pytest.raises(Broken, match="not a journal"):
        list(JournalReader(tmp_path / "j").batches())
    with pytest.raises(Broken, match="not a journal"):
        JournalWriter(tmp_path / "j")


def test_a_full_disk_leaves_the_journal_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = JournalWriter(tmp_path / "j")
    writer.append(Batch(0, None, (results.STARTED,)))
    size = (tmp_path / "j").stat().st_size

    class Full:
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def write(self, data: memoryview) -> int:
            if len(data) > 20:
                return int(self.stream.write(data[:20]))  # a short write, then none
            raise OSError(28, "No space left on device")

        def truncate(self, size: int) -> int:
            return int(self.stream.truncate(size))

    working = writer._stream
    monkeypatch.setattr(writer, "_stream", Full(working))
    long = Batch(1, None, (Warned("x", "y" * 100),))
    monkeypatch.setattr("isoline.jobs.journal._frame", lambda _: bytes(25))
    with pytest.raises(Broken, match="No space left"):
        writer.append(long)
    monkeypatch.undo()
    assert (tmp_path / "j").stat().st_size == size
    writer.append(long)
    assert writer.last_seq == 1


def test_several_readers_follow_a_writer_at_their_own_pace(tmp_path: Path) -> None:
    count = 40
    writer = JournalWriter(tmp_path / "j")
    heard: dict[float, list[int]] = {0.0: [], 0.002: [], 0.004: []}

    def follow(pause: float, own: JournalWriter | None) -> None:
        for batch in JournalReader(tmp_path / "j", own).follow(-1, wait=5):
            assert batch is not None
            heard[pause] += [seq for seq, _ in batch.numbered()]
            time.sleep(pause)

    threads = [
        # the last one reads as another process would, by looking now and then
        threading.Thread(target=follow, args=(pause, None if pause == 0.004 else writer))
        for pause in heard
    ]
    for thread in threads:
        thread.start()
    writer.append(Batch(0, None, (results.STARTED,)))
    for k in range(count):
        writer.append(Batch(writer.last_seq + 1, (k, 0), (contours(), Progress(k, count, None))))
    writer.append(Batch(writer.last_seq + 1, None, (END,)))
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert list(heard.values()) == 3 * [list(range(2 * count + 2))]


def test_a_reader_hears_news_at_once_and_silence_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_POLL_SECONDS", 60)  # so that nothing but the bell is quick
    writer = JournalWriter(tmp_path / "j")
    follower = JournalReader(tmp_path / "j", writer).follow(wait=0.05)
    began = time.monotonic()
    assert next(follower) is None
    assert 0.04 < time.monotonic() - began < 1
    follower = JournalReader(tmp_path / "j", writer).follow(wait=30)
    threading.Timer(0.1, writer.append, (Batch(0, None, (results.STARTED,)),)).start()
    began = time.monotonic()
    batch = next(follower)
    assert batch is not None
    assert batch.seq == 0
    assert time.monotonic() - began < 10


def test_a_reader_does_not_spin_before_a_torn_tail(tmp_path: Path) -> None:
    write(tmp_path / "j", 1, ended=False)
    with (tmp_path / "j").open("ab") as stream:
        stream.write(b"\xff\0\0\0torn")
    follower = JournalReader(tmp_path / "j").follow(wait=0.3)
    assert [next(follower) is None for _ in range(2)] == [False, False]
    spent = time.process_time()
    assert next(follower) is None
    assert time.process_time() - spent < 0.1


def test_memory_does_not_grow_with_the_journal(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j", fsync_ms=None)
    writer.append(Batch(0, None, (results.STARTED,)))
    ballast = {"x": np.zeros(1 << 17, np.uint8)}
    for k in range(100):
        writer.append(Batch(k + 1, (k, 0), (Progress(k, 100, None),), ballast))
    tracemalloc.start()
    assert sum(1 for _ in JournalReader(tmp_path / "j").batches()) == 101
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert (tmp_path / "j").stat().st_size > 100 << 17


def test_fsync_comes_as_often_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for fsync_ms, times in ((0, 3), (3_600_000, 1), (None, 0)):
        synced.clear()
        writer = JournalWriter(tmp_path / f"j{fsync_ms}", fsync_ms)
        writer.append(Batch(0, None, (results.STARTED,)))
        writer.append(Batch(1, None, (END,)))
        writer.close()
        assert len(synced) == times


def frame_sizes(journal: bytes) -> list[int]:
    """Read the frames as the format is written down, without the code under test."""
    assert journal[:20] == b"isoline journal\n" + struct.pack("<I", 1)
    sizes, offset = [], 20
    while offset < len(journal):
        length, checksum = struct.unpack_from("<II", journal, offset)
        payload = journal[offset + 8 : offset + 8 + length]
        assert zlib.crc32(struct.pack("<I", length) + payload) == checksum
        sizes.append(8 + length)
        offset += 8 + length
    return sizes
