"""Whose turn it is, what is refused, and what a restart finds again; no server runs here."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isoline.config.settings import Limits
from isoline.domain.events import Cancelled, Done, Progress, Started
from isoline.errors import Broken, Busy, KeyReused, UnknownJob
from isoline.geometry.region import Region
from isoline.jobs import queue
from isoline.jobs.job import CARD, REQUEST, Card, Job, State
from isoline.jobs.queue import QueueFull
from isoline.pipeline.kinds import Lane, Plan
from isoline.pipeline.tiled import TiledPlan
from tests.jobs.held import (
    SPOTS,
    HeldEngine,
    Office,
    picture,
    planned,
    until,
    until_state,
)
from tests.running import SerialEngine


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture(tmp_path_factory.mktemp("pictures") / "spots.png")


@pytest.fixture(scope="module")
def slide(path: Path) -> TiledPlan:
    """All of the picture: work in the background."""
    return planned(path)


@pytest.fixture(scope="module")
def click(path: Path) -> TiledPlan:
    """A small region of it: work that somebody waits for."""
    return planned(path, Region.rectangle(0, 0, 100, 100))


Opening = Callable[..., Office]


@pytest.fixture
def opened(tmp_path: Path, slide: TiledPlan) -> Iterator[Opening]:
    """Open offices that are closed when the test ends."""
    made: list[Office] = []

    def opened(engine: SerialEngine | None = None, work: Plan = slide, **limits: float) -> Office:
        held = engine or HeldEngine(tmp_path)
        made.append(Office(tmp_path, work, Limits(**limits), held))  # type: ignore[arg-type]
        return made[-1]

    yield opened
    for office in made:
        office.close()


def events_of(job: Job) -> list[object]:
    told: list[object] = []
    for batch in job.follow(-1, 5.0):
        assert batch is not None, "the end is missing"
        told += batch.events
    return told


# What a job is


def test_a_job_runs_to_its_end_and_says_so(
    opened: Opening, tmp_path: Path, slide: TiledPlan
) -> None:
    before = time.time()
    office = opened(SerialEngine(tmp_path))
    job = office.submit("ann")
    until_state(job, State.DONE)
    events = events_of(job)
    first, last = events[0], events[-1]
    assert isinstance(first, Started)
    assert (first.job, first.image) == (job.id, "spots.png")
    assert isinstance(last, Done)
    assert (last.objects, last.tiles, last.tiles_failed) == (SPOTS, 20, 0)
    assert job.objects == SPOTS
    until(lambda: office.jobs.running == 0)
    card = Card.read(job.directory / CARD)
    assert (card.owner, card.image, card.model, card.format) == (
        "ann",
        "spots.png",
        "threshold",
        "geojson",
    )
    assert (card.state, card.tiles, card.tiles_done, card.objects) == (State.DONE, 20, 20, SPOTS)
    assert (card.lasting, card.lane, card.parks) == (True, Lane.LARGE, False)
    assert before <= card.created <= (card.ended or 0) <= time.time()
    assert len(card.share) == 24
    assert job.request == (job.directory / REQUEST).read_bytes() == b'{"of":"ann"}'
    assert (office.jobs.waiting, office.jobs.running) == (0, 0)


def test_names_of_jobs_cannot_be_guessed(opened: Opening) -> None:
    office = opened()
    several = [office.submit() for _ in range(5)]
    assert len({job.id for job in several}) == len({job.card.share for job in several}) == 5
    assert all(len(job.id) == 24 and int(job.id, 16) >= 0 for job in several)


@pytest.mark.parametrize(
    ("region", "tiles", "lane"),
    [
        (Region.rectangle(0, 0, 128, 128), 4, Lane.SMALL),
        (Region.rectangle(0, 0, 300, 64), 5, Lane.LARGE),
        (None, 20, Lane.LARGE),
    ],
)
def test_a_region_of_four_tiles_is_small(
    opened: Opening, path: Path, region: Region | None, tiles: int, lane: Lane
) -> None:
    job = opened(work=planned(path, region)).submit()
    assert (job.card.tiles, job.card.lane) == (tiles, lane)
    assert Card.read(job.directory / CARD).lane is lane


def test_an_unknown_job_is_said_to_be(opened: Opening) -> None:
    office = opened()
    job = office.submit()
    assert office.jobs.get(job.id) is job
    with pytest.raises(UnknownJob, match="no job 'nothing'") as caught:
        office.jobs.get("nothing")
    assert caught.value.remedy == "it may have expired: submit the request again"


# Whose turn it is


def test_so_many_run_and_the_others_wait(opened: Opening) -> None:
    office = opened(running_jobs=2)
    several = [office.submit() for _ in range(5)]
    until(lambda: [job.state for job in several].count(State.RUNNING) == 2)
    assert (office.jobs.running, office.jobs.waiting) == (2, 3)
    assert office.jobs.positions() == {job.id: k for k, job in enumerate(several[2:])}
    assert [office.jobs.position(job) for job in several] == [0, 0, 0, 1, 2]
    assert [job.waits_for for job in several] == ["tiles", "tiles", "a place", "a place", "a place"]
    assert isinstance(office.engine, HeldEngine)
    office.engine.go_on.release(1)
    until(lambda: sum(job.state is State.DONE for job in several) == 1)
    until(lambda: (office.jobs.running, office.jobs.waiting) == (2, 2))
    assert office.jobs.all() == several


def test_a_click_passes_those_that_wait_and_has_places_of_its_own(
    opened: Opening, slide: TiledPlan, click: TiledPlan
) -> None:
    office = opened(running_jobs=1, urgent_jobs=2)
    slides = [office.submit() for _ in range(2)]
    office.plan = click
    clicks = [office.submit() for _ in range(3)]
    until(lambda: office.jobs.running == 3)
    assert [office.jobs.position(job) for job in (clicks[2], slides[1])] == [0, 1]
    assert [job.state for job in (*slides, *clicks)] == [
        State.RUNNING,
        State.QUEUED,
        State.RUNNING,
        State.RUNNING,
        State.QUEUED,
    ]


def test_users_take_turns(opened: Opening) -> None:
    office = opened(running_jobs=1)
    of_a = [office.submit("a") for _ in range(4)]
    of_b = [office.submit("b") for _ in range(2)]
    waiting = sorted([*of_a[1:], *of_b], key=office.jobs.position)
    assert "".join(job.card.owner for job in waiting) == "babaa"
    assert isinstance(office.engine, HeldEngine)
    office.engine.go_on.release(6)
    for job in [*of_a, *of_b]:
        until_state(job, State.DONE)
    began = sorted([*of_a, *of_b], key=lambda job: job.began or 0)
    assert "".join(job.card.owner for job in began) == "ababaa"


@pytest.mark.parametrize("running_jobs", [1, 2, 3])
@pytest.mark.parametrize("owners", ["aaabbc", "abcabc", "ccbaab", "aaaaab", "bbacca"])
def test_the_next_turn_is_of_who_has_least_running_or_waited_longest(
    opened: Opening, owners: str, running_jobs: int
) -> None:
    """The rule again, one choice at a time, looking at everybody."""
    office = opened(running_jobs=running_jobs)
    jobs = [office.submit(owner) for owner in owners]
    ahead: Counter[str] = Counter(owners[:running_jobs])
    last_turn = {owner: turn for turn, owner in enumerate(owners[:running_jobs])}
    waiting = list(range(running_jobs, len(owners)))
    expected: list[str] = []
    for turn in itertools.count(len(owners)):
        if not waiting:
            break
        chosen = min(waiting, key=lambda k: (ahead[owners[k]], last_turn.get(owners[k], -1), k))
        waiting.remove(chosen)
        ahead[owners[chosen]] += 1
        last_turn[owners[chosen]] = turn
        expected.append(jobs[chosen].id)
    assert list(office.jobs.positions()) == expected
    assert list(office.jobs.positions().values()) == list(range(len(expected)))
    assert len(expected) == 6 - running_jobs


# What is refused


def test_nobody_fills_the_queue(opened: Opening) -> None:
    office = opened(running_jobs=1, queued_jobs=6, queued_jobs_per_user=2)
    for _ in range(3):  # one runs
        office.submit("greedy")
    with pytest.raises(QueueFull) as full:
        office.submit("greedy")
    assert full.value.what == ("2 of your jobs are waiting, so this one would be at position 2")
    assert full.value.remedy == "try again in 5 s"
    assert (full.value.position, full.value.retry_after, full.value.code) == (2, 5, "Busy")
    for _ in range(4):  # who is unknown has no share
        office.submit()
    with pytest.raises(QueueFull, match=r"^6 jobs are waiting") as full:
        office.submit("late")
    assert full.value.position == 6
    assert office.jobs.waiting == 6


def test_only_those_of_ones_own_lane_or_before_it_count(
    opened: Opening, slide: TiledPlan, click: TiledPlan
) -> None:
    office = opened(running_jobs=1, urgent_jobs=1, queued_jobs=2)
    for _ in range(3):
        office.submit()
    office.plan = click
    office.submit()
    office.submit()
    office.plan = slide
    with pytest.raises(QueueFull, match=r"^3 jobs are waiting"):
        office.submit()
    office.plan = click
    office.submit()
    with pytest.raises(QueueFull, match=r"^2 jobs are waiting"):
        office.submit()


@pytest.mark.parametrize(
    ("left", "seconds"), [(None, 5), (120.4, 120), (0.2, 1), (4000.0, 300), (0.0, 5)]
)
def test_who_is_refused_hears_when_a_place_may_be_free(
    opened: Opening, left: float | None, seconds: int
) -> None:
    office = opened(running_jobs=2, queued_jobs=1)
    running = [office.submit() for _ in range(2)]
    office.submit()
    running[0].progress = Progress(1, 20, None)
    running[1].progress = Progress(1, 20, left)
    with pytest.raises(QueueFull) as full:
        office.submit()
    assert full.value.retry_after == seconds
    if left == 120.4:
        running[0].progress = Progress(1, 20, 60.0)
        with pytest.raises(QueueFull, match="try again in 60 s"):
            office.submit()


def test_a_server_that_ends_takes_no_more(opened: Opening) -> None:
    office = opened(running_jobs=1)
    first, second = office.submit(), office.submit()
    before = office.jobs.closing
    office.jobs.wind_down()
    assert (before, office.jobs.closing) == (False, True)
    with pytest.raises(Busy, match="the server is shutting down"):
        office.submit()
    office.jobs.cancel(first)
    until_state(first, State.CANCELLED)
    until(lambda: office.jobs.running == 0)
    assert second.state is State.QUEUED


def test_a_job_that_cannot_be_stored_leaves_nothing(
    opened: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = opened()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Card, "write", full)
    with pytest.raises(Broken, match="cannot be stored: No space left on device"):
        office.submit()
    assert list((office.folder / "jobs").iterdir()) == []
    assert office.jobs.all() == []


# What is submitted twice


def test_a_key_is_submitted_once_also_over_a_restart(opened: Opening, slide: TiledPlan) -> None:
    office = opened(running_jobs=1)

    def submit(request: bytes, owner: str, key: str) -> Job:
        return office.jobs.submit(request, slide, owner=owner, key=key)

    first = submit(b"{}", "ann", "k1")
    assert submit(b"{}", "ann", "k1") is first
    others = {submit(b"{}", "ann", "k2"), submit(b"{}", "bob", "k1")}
    keyless = {submit(b"{}", "ann", ""), submit(b"{}", "ann", "")}
    assert len(others | keyless | {first}) == 5
    with pytest.raises(KeyReused, match="'k1' has already been used"):
        submit(b'{"other":1}', "ann", "k1")
    assert office.jobs.submitted("ann", "k3", b"{}") is None
    office.restart()
    assert submit(b"{}", "ann", "k1") is office.again(first)
    assert len(office.jobs.all()) == 5


def test_a_key_that_comes_twice_at_once_is_stored_once(opened: Opening, slide: TiledPlan) -> None:
    office = opened(running_jobs=1)
    found: list[Job] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(office.jobs.submit(b"{}", slide, owner="ann", key="k"))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 8
    assert office.jobs.all() == [found[0]] == list(set(found))


# Stopping


def test_a_job_that_waits_is_cancelled_without_its_turn(opened: Opening) -> None:
    office = opened(running_jobs=1)
    first, second, third = (office.submit() for _ in range(3))
    office.jobs.cancel(second)
    until_state(second, State.CANCELLED)
    started, cancelled = events_of(second)
    assert isinstance(started, Started)
    assert started.job == second.id
    assert cancelled == Cancelled(0, 20)
    until(lambda: office.jobs.running == 1)
    assert [first.state, third.state] == [State.RUNNING, State.QUEUED]
    assert office.jobs.positions() == {third.id: 0}


def test_a_job_that_runs_is_cancelled_within_a_tile(opened: Opening, tmp_path: Path) -> None:
    office = opened(engine := HeldEngine(tmp_path, results=3))
    job = office.submit()
    engine.go_on.release()
    until(lambda: job.progress.tiles_done == 3)
    office.jobs.cancel(job)
    until_state(job, State.CANCELLED)
    assert events_of(job)[-1] == Cancelled(3, 20)
    ended = job.ended
    office.jobs.cancel(job)
    time.sleep(0.05)
    assert (job.state, job.ended) == (State.CANCELLED, ended)


def test_an_engine_that_fails_fails_its_job_alone(opened: Opening, tmp_path: Path) -> None:
    class Failing(SerialEngine):
        def run(self, task, agenda):  # type: ignore[no-untyped-def]
            if task.region is None:
                raise RuntimeError("no such luck")
            yield from super().run(task, agenda)

    office = opened(Failing(tmp_path), running_jobs=1)
    job = office.submit()
    until_state(job, State.FAILED)
    last = events_of(job)[-1]
    assert (last.code, last.message) == ("Broken", "RuntimeError: no such luck")  # type: ignore[attr-defined]
    until(lambda: office.jobs.running == 0)
    assert Card.read(job.directory / CARD).state is State.FAILED


# The list


def test_those_that_go_on_are_listed_with_the_last_that_ended(opened: Opening) -> None:
    office = opened(running_jobs=1)
    first, *ended = (office.submit("ann") for _ in range(4))
    for job in ended:  # without their turn
        office.jobs.cancel(job)
        until_state(job, State.CANCELLED)
    waits, of_bob = office.submit("ann"), office.submit("bob")

    def of_ann(job: Job) -> bool:
        return job.card.owner == "ann"

    assert office.jobs.latest(of_ann, 100) == [first, *ended, waits]
    assert office.jobs.latest(of_ann, 2) == [first, *ended[-2:], waits]
    assert office.jobs.latest(lambda _: True, 0) == [first, waits, of_bob]


# After a restart


def test_what_was_cut_off_goes_on_where_it_was(opened: Opening, tmp_path: Path) -> None:
    undisturbed = opened(SerialEngine(tmp_path))
    whole = undisturbed.submit()
    until_state(whole, State.DONE)
    undisturbed.close()

    office = opened(engine := HeldEngine(tmp_path, results=7), running_jobs=1)
    cut, waits = office.submit("ann"), office.submit("bob")
    engine.go_on.release()
    until(lambda: cut.progress.tiles_done == 7)
    office.close()
    assert json.loads((cut.directory / CARD).read_bytes())["state"] == "queued"
    assert not isinstance(events_so_far(cut)[-1], Cancelled)

    office.restart(held := HeldEngine(tmp_path))
    again = office.again(cut)
    assert [job.id for job in office.jobs.all()] == [whole.id, cut.id, waits.id]
    assert (again.card.owner, again.state) == ("ann", State.RUNNING)
    assert office.again(waits).state is State.QUEUED
    held.go_on.release(2)
    until_state(office.again(waits), State.DONE)
    assert office.asked == [b'{"of":"ann"}', b'{"of":"bob"}']
    assert found_by(again) == found_by(office.again(whole)) == found_by(office.again(waits))
    assert again.objects == SPOTS
    numbers = [seq for batch in again.follow(-1, 5.0) if batch for seq, _ in batch.numbered()]
    assert numbers == list(range(len(numbers)))


def test_closing_does_not_wait_for_a_job_that_is_just_taken_up(
    opened: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no agenda yet that could be cancelled."""
    office = opened(running_jobs=1)
    job = office.submit()
    preparing, closing = threading.Event(), threading.Event()

    def slowly(request: bytes) -> Plan:
        preparing.set()
        assert closing.wait(20)
        return office.plan

    monkeypatch.setattr(office, "_prepare", slowly)
    office.restart(SerialEngine(tmp_path))  # whose jobs run on, unless their agenda is cancelled
    assert preparing.wait(20)
    threading.Timer(0.3, closing.set).start()
    office.jobs.close()
    again = office.again(job)
    assert again.progress.tiles_done == 0
    assert not again.state.ended

    monkeypatch.undo()
    office.jobs = office._open()
    until_state(office.again(job), State.DONE)
    assert office.again(job).objects == SPOTS


def events_so_far(job: Job) -> list[object]:
    told: list[object] = []
    for batch in job.follow(-1, 0.05):
        if batch is None:
            break
        told += batch.events
    return told


def found_by(job: Job) -> list[bytes]:
    return sorted(
        raw.tobytes()
        for event in events_of(job)
        if hasattr(event, "objects") and not isinstance(event, Done)
        for raw in event.objects.ids
    )


def test_what_ends_with_its_server_is_cancelled_by_the_next(opened: Opening) -> None:
    office = opened(running_jobs=1)
    office.submit()
    passing = office.submit(lasting=False)
    office.restart()
    again = office.again(passing)
    until_state(again, State.CANCELLED)
    assert events_of(again)[-1] == Cancelled(0, 20)


def test_what_needs_a_token_waits_for_it(opened: Opening, slide: TiledPlan) -> None:
    office = opened(running_jobs=1)
    parked = office.submit("ann", parks=True)
    until_state(parked, State.RUNNING)
    office.restart(SerialEngine(office.folder))
    again = office.again(parked)
    assert (again.state, again.waits_for) == (State.PARKED, "a token")
    assert (office.jobs.waiting, office.jobs.running) == (0, 0)
    assert office.jobs.latest(lambda _: True, 0) == [again]
    office.jobs.resume(again, slide)
    until_state(again, State.DONE)
    office.jobs.resume(again, slide)
    assert again.state is State.DONE
    assert len(found_by(again)) == SPOTS
    assert office.asked == []  # the rights came with who asked


def test_what_needs_a_token_can_be_cancelled_without(opened: Opening) -> None:
    office = opened(running_jobs=1)
    parked = office.submit(parks=True)
    office.restart()
    again = office.again(parked)
    office.jobs.cancel(again)
    until_state(again, State.CANCELLED)
    assert office.jobs.latest(lambda _: True, 0) == []


def test_what_is_no_job_is_passed_over(opened: Opening) -> None:
    office = opened(running_jobs=1)
    job = office.submit()
    folder = office.folder / "jobs"
    (folder / "empty").mkdir()
    (folder / "stray").write_text("x")
    for name, card in (("text", "no JSON"), ("other", "{}"), ("state", '{"state": "odd"}')):
        (folder / name).mkdir()
        (folder / name / CARD).write_text(card)
    office.restart()
    assert [each.id for each in office.jobs.all()] == [job.id]


def test_old_jobs_are_forgotten_and_deleted(opened: Opening, tmp_path: Path) -> None:
    office = opened(SerialEngine(tmp_path), job_hours=1)
    old, young, parked, waits = (office.submit(parks=k >= 2) for k in range(4))
    for job in (old, young):
        until_state(job, State.DONE)
    office.close()
    aged(old, ended=3601)
    aged(young, ended=3500)
    aged(parked, created=3601, state=State.QUEUED, ended=None)
    aged(waits, created=3500, state=State.QUEUED, ended=None)
    office.restart(SerialEngine(tmp_path))
    assert len(office.jobs.all()) == 4
    another = office.submit()
    until(lambda: not old.directory.exists() and not parked.directory.exists())
    assert {job.id for job in office.jobs.all()} == {young.id, waits.id, another.id}
    with pytest.raises(UnknownJob):
        office.jobs.get(old.id)
    until_state(another, State.DONE)


@pytest.mark.parametrize(("seconds", "is_deleted"), [(0.0, True), (60.0, False)])
def test_old_jobs_are_looked_for_now_and_then(
    opened: Opening,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    is_deleted: bool,
) -> None:
    monkeypatch.setattr(queue, "SWEEP_SECONDS", seconds)
    office = opened(SerialEngine(tmp_path), job_hours=1)
    first = office.submit()
    until_state(first, State.DONE)
    until(lambda: office.jobs.running == 0 and not sweeping())
    first.ended = time.time() - 3601
    office.submit()
    until(lambda: not sweeping())
    assert first.directory.exists() is not is_deleted


def test_an_old_job_is_kept_until_the_one_that_replaces_it_has_ended(
    opened: Opening, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(queue, "SWEEP_SECONDS", 0.0)
    engine = HeldEngine(tmp_path)
    office = opened(engine, job_hours=1)
    old = office.submit()
    engine.go_on.release()
    until_state(old, State.DONE)
    until(lambda: not sweeping())
    old.ended = time.time() - 3601
    second = office.jobs.submit(b"{}", office.plan, replaces=old.id)
    until(lambda: not sweeping())
    assert office.jobs.get(old.id) is old
    engine.go_on.release()
    until_state(second, State.DONE)
    until(lambda: office.jobs.running == 0)
    office.submit()
    until(lambda: not old.directory.exists())


@pytest.mark.parametrize("parks", [False, True])
def test_a_job_that_was_replaced_before_a_crash_does_not_continue(
    opened: Opening, tmp_path: Path, parks: bool
) -> None:
    office = opened(running_jobs=1)
    first, second = office.submit(parks=parks), office.submit()
    office.close()
    aged(second, replaces=first.id)  # the server had no time to cancel the first
    office.restart(SerialEngine(tmp_path))
    until_state(office.again(second), State.DONE)
    assert office.again(first).state is State.CANCELLED


def test_a_job_that_was_cancelled_before_a_crash_does_not_continue(
    opened: Opening, tmp_path: Path
) -> None:
    office = opened()
    job = office.submit()
    until_state(job, State.RUNNING)
    office.close()  # it has not ended, as after a crash
    job.stop()
    office.restart(SerialEngine(tmp_path))
    until_state(office.again(job), State.CANCELLED)


def test_a_job_that_is_not_there_cannot_be_replaced(opened: Opening) -> None:
    office = opened()
    with pytest.raises(UnknownJob):
        office.jobs.submit(b"{}", office.plan, replaces="gone")
    assert office.jobs.all() == []


def sweeping() -> bool:
    return "sweep" in {thread.name for thread in threading.enumerate()}


def aged(job: Job, **changes: float | str | None) -> None:
    """Write the card of a job anew; times are given in seconds before now."""
    past = {
        key: time.time() - value if isinstance(value, int | float) else value
        for key, value in changes.items()
    }
    card = Card.read(job.directory / CARD)
    dataclasses.replace(card, **past).write(job.directory / CARD)  # type: ignore[arg-type]


def test_threads_end_with_their_jobs(opened: Opening, tmp_path: Path) -> None:
    office = opened(SerialEngine(tmp_path))
    job = office.submit()
    until_state(job, State.DONE)
    until(lambda: f"job-{job.id}" not in {thread.name for thread in threading.enumerate()})
    assert office.jobs.running == 0
