"""One job: its card, what its readers hear when the disk fails, and where it takes up again."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from isoline.domain.batch import Batch
from isoline.domain.events import Cancelled, Contours, Done, Event, Failed, Progress, Started
from isoline.errors import BadRegion, Broken, NotSupported, TooLarge, Unreadable
from isoline.geometry.grid import XY
from isoline.geometry.volume_grid import LPS, VolumeGrid, VolumeInfo
from isoline.jobs import job as module
from isoline.jobs.job import CARD, JOURNAL, REQUEST, Card, Job, State
from isoline.jobs.journal import JournalReader, JournalWriter
from isoline.pipeline.kinds import Lane, Plan
from isoline.pipeline.tiled import TiledPlan
from isoline.testing.contracts import results
from tests.jobs.held import SPOTS, picture, planned
from tests.running import SerialEngine

CARD_ = Card(
    owner="ann",
    share="s",
    created=1000.0,
    image="spots.png",
    model="threshold",
    format="geojson",
    tiles=20,
    lasting=True,
    lane=Lane.LARGE,
)
ENDED = (State.DONE, State.FAILED, State.CANCELLED)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> TiledPlan:
    return planned(picture(tmp_path_factory.mktemp("pictures") / "spots.png"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "0123456789abcdef"
    folder.mkdir()
    (folder / REQUEST).write_bytes(b"{}")
    return folder


def journal(folder: Path, *batches: tuple[Event, ...], tile: tuple[int, int] | None = None) -> None:
    """Write what an earlier run said."""
    writer = JournalWriter(folder / JOURNAL)
    for events in batches:
        writer.append(Batch(writer.last_seq + 1, tile, events))
    writer.close()


def told(job: Job, after: int = -1) -> Iterator[tuple[int, Event]]:
    """Yield (number, event) to the end, which has to be there."""
    for batch in job.follow(after, 1.0):
        assert batch is not None, "the end is missing"
        yield from batch.numbered(after)


def no_plan(_: bytes) -> Plan:
    pytest.fail("the request was prepared again")


# The card


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("unsaid", [None, ("Broken", "the disk is full", "free space")])
def test_a_card_is_read_as_it_was_written(
    tmp_path: Path, state: State, unsaid: tuple[str, str, str] | None
) -> None:
    card = dataclasses.replace(
        CARD_, lane=Lane.SMALL, parks=True, state=state, ended=1200.5, tiles_done=3, objects=7,
        key="k", unsaid=unsaid,
    )  # fmt: skip
    card.write(tmp_path / CARD)
    assert Card.read(tmp_path / CARD) == card
    assert [path.name for path in tmp_path.iterdir()] == [CARD]
    assert state.ended is (state in ENDED)


def test_a_new_card_says_that_nothing_was_done() -> None:
    assert (CARD_.state, CARD_.ended, CARD_.tiles_done, CARD_.objects) == (State.QUEUED, None, 0, 0)
    assert (CARD_.parks, CARD_.key, CARD_.unsaid) == (False, "", None)


def test_what_is_waited_for_follows_the_state(folder: Path) -> None:
    job = Job(folder, CARD_)
    said = {}
    for state in State:
        job.state = state
        said[state] = job.waits_for
    assert said == {
        State.QUEUED: "a place",
        State.PARKED: "a token",
        State.RUNNING: "tiles",
        State.DONE: None,
        State.FAILED: None,
        State.CANCELLED: None,
    }


def test_a_job_is_known_by_its_card_after_a_restart(folder: Path, plan: TiledPlan) -> None:
    parks = dataclasses.replace(CARD_, parks=True)
    assert Job(folder, CARD_).state is State.QUEUED
    assert Job(folder, parks).state is State.PARKED
    assert Job(folder, parks, plan).state is State.QUEUED
    done = dataclasses.replace(parks, state=State.DONE, ended=1003.0, tiles_done=20, objects=4)
    job = Job(folder, done)
    assert (job.id, job.state, job.ended, job.objects) == (folder.name, State.DONE, 1003.0, 4)
    assert job.progress == Progress(20, 20, None)
    assert job.request == b"{}"


def test_how_long_a_job_waited_for_its_turn(folder: Path) -> None:
    job = Job(folder, CARD_)
    assert job.seconds_waiting == pytest.approx(time.time() - 1000.0, abs=5)
    job.ended = 1010.0
    assert job.seconds_waiting == 10.0
    job.began = 1004.0
    assert job.seconds_waiting == 4.0
    job.began = 990.0  # clocks are set
    assert job.seconds_waiting == 0.0


@pytest.mark.parametrize(("is_lasting", "fsync_ms"), [(True, 500), (False, None)])
def test_what_lasts_is_forced_to_the_disk(
    folder: Path, plan: TiledPlan, monkeypatch: pytest.MonkeyPatch, is_lasting: bool, fsync_ms: int
) -> None:
    asked: list[int | None] = []

    class Writer(JournalWriter):
        def __init__(self, path: Path, fsync_ms: int | None = 0) -> None:
            asked.append(fsync_ms)
            super().__init__(path, fsync_ms)

    monkeypatch.setattr(module, "JournalWriter", Writer)
    Job(folder, dataclasses.replace(CARD_, lasting=is_lasting), plan).close()
    assert asked == [fsync_ms]


# Looking elsewhere, and stopping


def test_a_job_looks_at_a_point_of_its_image(folder: Path, plan: TiledPlan) -> None:
    job = Job(folder, CARD_, plan)
    agenda = job._agenda
    assert agenda is not None
    job.focus(XY(200.0, 190.0))
    first = agenda.take()
    assert first is not None
    assert first.place == (3, 2)
    with pytest.raises(NotSupported, match="slice does not apply to a picture"):
        job.focus(3)
    job.stop()
    assert job.cancelled
    assert agenda.cancelled
    Job(folder, CARD_).focus(XY(1.0, 1.0))  # not prepared: nothing to look at yet
    Job(folder, CARD_).stop()


def test_what_was_stopped_before_it_was_prepared_takes_no_tile(
    folder: Path, plan: TiledPlan
) -> None:
    job = Job(folder, CARD_)
    job.stop()
    job.prepare(plan)
    assert job._agenda is not None
    assert job._agenda.take() is None
    assert job.started.job == folder.name


# What is noted


def test_only_what_is_final_counts(folder: Path, plan: TiledPlan) -> None:
    job = Job(folder, CARD_, plan)
    shape = [[results.rectangle(0, 0, 3, 3)]]
    objects = results.objects_of([shape, shape])
    job.record(Batch(0, None, (results.STARTED, Contours(objects, provisional=True))))
    job.record(Batch(2, (1, 0), (Contours(objects), Progress(1, 20, 9.5))))
    assert (job.objects, job.progress, job.state) == (2, Progress(1, 20, 9.5), State.QUEUED)
    before = time.time()
    job.record(Batch(4, None, (Done(2, 20, 0, 0, 1.0),)))
    assert (job.state, job.objects) == (State.DONE, 2)
    assert before <= (job.ended or 0) <= time.time()
    job.close()
    card = Card.read(folder / CARD)
    assert (card.state, card.tiles_done, card.objects, card.ended) == (State.DONE, 1, 2, job.ended)
    job.focus(XY(0.0, 0.0))  # of no use, and no error


@pytest.mark.parametrize("is_over", [True, False])
def test_what_the_image_does_not_have_is_refused_whether_the_job_runs_or_not(
    folder: Path, is_over: bool
) -> None:
    """The plan is gone at the end and after a restart; what the job has said remains."""
    grid = VolumeGrid(
        (24, 20, 9), LPS(0, 0, 0), LPS(1.0, 0, 0), LPS(0, 1.0, 0), LPS(0, 0, 1.0), "1.2"
    )
    scan = dataclasses.replace(results.STARTED, kind="mask", volume=VolumeInfo(grid))
    end: tuple[Event, ...] = (Done(2, 20, 0, 0, 1.0),) if is_over else ()
    journal(folder, (results.STARTED, *end))
    with pytest.raises(NotSupported, match="slice does not apply to a picture"):
        Job(folder, CARD_).focus(3)
    Job(folder, CARD_).focus(XY(1.0, 1.0))

    (folder / JOURNAL).unlink()
    journal(folder, (scan, *end))
    volume = Job(folder, CARD_)
    with pytest.raises(NotSupported, match="focus does not apply to a volume"):
        volume.focus(XY(1.0, 1.0))
    with pytest.raises(BadRegion, match="has no slice 9"):
        volume.focus(9)
    volume.focus(8)


def test_a_job_that_goes_on_keeps_its_card(folder: Path, plan: TiledPlan) -> None:
    job = Job(folder, CARD_, plan)
    job.record(Batch(0, None, (results.STARTED,)))
    job.close()
    assert not (folder / CARD).exists()
    assert job.started.scope == plan.started.scope


# What readers hear


def test_a_reader_of_a_deleted_job_hears_it(folder: Path) -> None:
    assert list(told(Job(folder, CARD_))) == [(0, Failed("UnknownJob", "the job has been deleted"))]


def test_a_reader_of_a_damaged_journal_hears_all_before(folder: Path) -> None:
    journal(
        folder,
        (results.STARTED, Progress(0, 2, None)),
        (Progress(1, 2, None),),
        (Done(0, 2, 0, 0, 1.0),),
    )
    content = bytearray((folder / JOURNAL).read_bytes())
    content[-100] ^= 1
    content += b"\1"
    (folder / JOURNAL).write_bytes(content)
    job = Job(folder, dataclasses.replace(CARD_, state=State.DONE))
    *before, (number, last) = told(job)
    assert [seq for seq, _ in before] == list(range(len(before)))
    assert number == len(before) > 0
    assert isinstance(last, Failed)
    assert "is damaged at byte" in last.message
    assert [seq for seq, _ in told(job, after=number)] == [number + 1]


@pytest.mark.parametrize("unsaid", [None, ("Broken", "the disk is full", "free space")])
def test_a_reader_of_a_journal_without_an_end_hears_why(
    folder: Path, unsaid: tuple[str, str, str] | None
) -> None:
    journal(folder, (results.STARTED, Progress(0, 2, None)))
    card = dataclasses.replace(CARD_, state=State.FAILED, unsaid=unsaid)
    *_, (number, last) = told(Job(folder, card))
    assert number == 2
    assert last == Failed(*(unsaid or ("Broken", "the end of the journal is lost", "")))


# Failing


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (TooLarge("too large", "ask for less"), Failed("TooLarge", "too large", "ask for less")),
        (KeyError("x"), Failed("Broken", "KeyError: 'x'", "see the server's log")),
    ],
)
def test_a_job_that_fails_says_why(
    folder: Path, plan: TiledPlan, error: Exception, failed: Failed
) -> None:
    job = Job(folder, CARD_, plan)
    job.record(Batch(0, None, (results.STARTED,)))
    job.fail(error)
    job.close()
    assert list(told(job))[1:] == [(1, failed)]
    card = Card.read(folder / CARD)
    assert (card.state, card.unsaid) == (State.FAILED, None)
    assert job._journal is not None
    assert job._journal._stream.closed


def test_what_the_journal_cannot_take_is_on_the_card(folder: Path, plan: TiledPlan) -> None:
    job = Job(folder, CARD_, plan)
    job.record(Batch(0, None, (results.STARTED,)))
    assert job._journal is not None
    job._journal._stream.close()
    job.fail(TooLarge("too large", "ask for less"))
    assert job.state is State.FAILED
    assert job.card.unsaid == ("TooLarge", "too large", "ask for less")
    assert list(told(job))[1:] == [(1, Failed("TooLarge", "too large", "ask for less"))]
    job.close()
    again = Card.read(folder / CARD)
    assert (again.state, again.unsaid) == (State.FAILED, job.card.unsaid)


def test_a_card_that_cannot_be_written_fails_nothing(folder: Path, plan: TiledPlan) -> None:
    job = Job(folder, CARD_, plan)
    job.record(Batch(0, None, (results.STARTED, Done(0, 20, 0, 0, 1.0))))
    (folder / CARD).mkdir()
    job.close()
    assert job.state is State.DONE


# Going on


def batches_of(job: Job, plan: TiledPlan, tmp_path: Path) -> list[Batch]:
    return list(job.batches(lambda _: plan, SerialEngine(tmp_path), nullcontext()))


def test_a_job_goes_on_after_the_last_event_of_its_journal(
    folder: Path, plan: TiledPlan, tmp_path: Path
) -> None:
    whole = batches_of(Job(folder, CARD_, plan), plan, tmp_path)
    writer = JournalWriter(folder / JOURNAL)
    for batch in whole[:6]:
        writer.append(batch)
    writer.close()
    job = Job(folder, CARD_)
    rest = batches_of(job, plan, tmp_path)
    assert rest[0].seq == whole[5].last_seq + 1
    done = {batch.tile for batch in whole[:6]} - {None}
    assert {batch.tile for batch in rest} - {None} == {
        tile.place for tile in plan.tiles if tile.place not in done
    }
    for batch in rest:
        job.record(batch)
    assert (job.objects, job.progress.tiles_done, job.state) == (SPOTS, 20, State.DONE)


def test_a_job_whose_image_has_changed_is_unreadable(
    folder: Path, plan: TiledPlan, tmp_path: Path
) -> None:
    journal(folder, (dataclasses.replace(results.STARTED, job=folder.name), Progress(0, 20, None)))
    with pytest.raises(Unreadable, match="or the model has changed since the job started"):
        batches_of(Job(folder, CARD_), plan, tmp_path)


def test_an_ended_journal_is_only_noted(folder: Path, tmp_path: Path) -> None:
    """The server was killed between the last event and the card."""
    journal(folder, (results.STARTED, Progress(3, 20, None), Cancelled(3, 20)))
    job = Job(folder, CARD_)
    assert list(job.batches(no_plan, SerialEngine(tmp_path), nullcontext())) == []
    assert (job.state, job.progress.tiles_done) == (State.CANCELLED, 3)
    assert job.started.scope == results.SCOPE


def test_a_job_that_was_cut_off_and_then_stopped_says_how_far_it_came(
    folder: Path, tmp_path: Path
) -> None:
    journal(folder, (results.STARTED, Progress(7, 20, None)))
    job = Job(folder, CARD_)
    job.stop()
    (batch,) = job.batches(no_plan, SerialEngine(tmp_path), nullcontext())
    assert (batch.seq, batch.events) == (2, (Cancelled(7, 20),))


def test_a_job_that_was_stopped_before_it_began_says_what_it_was(
    folder: Path, plan: TiledPlan, tmp_path: Path
) -> None:
    job = Job(folder, CARD_, plan.named(folder.name))
    job.stop()
    (batch,) = job.batches(no_plan, SerialEngine(tmp_path), nullcontext())
    started, cancelled = batch.events
    assert isinstance(started, Started)
    assert (batch.seq, started.job, cancelled) == (0, folder.name, Cancelled(0, 20))


def test_a_job_that_never_started_says_so(folder: Path) -> None:
    journal(folder)
    with pytest.raises(Broken, match=r"never started; submit it again"):
        _ = Job(folder, CARD_).started
    assert list(JournalReader(folder / JOURNAL).batches()) == []


def test_a_journal_that_cannot_be_opened_is_told(
    folder: Path, plan: TiledPlan, tmp_path: Path
) -> None:
    (folder / JOURNAL).mkdir()
    with pytest.raises(Broken, match="cannot be written: Is a directory"):
        batches_of(Job(folder, CARD_), plan, tmp_path)


@pytest.mark.parametrize(("lane", "turns"), [(Lane.LARGE, True), (Lane.SMALL, False)])
def test_only_large_work_waits_for_its_turn(
    folder: Path, plan: TiledPlan, tmp_path: Path, lane: Lane, turns: bool
) -> None:
    class Turn:
        taken = 0

        def __enter__(self) -> None:
            self.taken += 1

        def __exit__(self, *_: object) -> None:
            pass

    turn = Turn()
    job = Job(folder, dataclasses.replace(CARD_, lane=lane), plan)
    list(job.batches(no_plan, SerialEngine(tmp_path), turn))
    assert turn.taken == (20 if turns else 0)
