"""Servers that are killed, workers that hang or grow, disks that are full, images that go away."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import random
import resource
import shutil
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from isoline import client as api
from isoline.client import Client, Options
from isoline.config.settings import Limits
from isoline.domain.request import SegmentRequest
from isoline.errors import UnknownJob
from isoline.geometry.region import Region
from isoline.images.catalog import Images
from isoline.jobs.job import CARD, JOURNAL, Card, Job, State
from isoline.jobs.queue import Jobs, QueueFull
from isoline.pipeline.tiled import TiledPlan
from tests.killable import Server, digest, features, running
from tests.planning import tiled_plan
from tests.running import SerialEngine
from tests.slides import Shapes, disks
from tests.stalled import Stalled, noise

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="kills and limits as on Linux"),
    pytest.mark.slow,
]

SLIDE = "slides/disks.tif"
KILLS = 5
WORK: Options = {"region": [0, 0, 2048, 2048], "parameters": {"seconds": 0.06}}
"""64 tiles of some 60 ms whose regions are united over every seam."""


@pytest.fixture(scope="module")
def images(disk_slide: Shapes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    shutil.copy(disk_slide.path, folder / "disks.tif")
    return folder


@pytest.fixture(scope="module")
def server(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = "[engine]\nworkers = 2\ntile_seconds = 6\nmemory_mib = 900\n"
    with running(images, tmp_path_factory.mktemp("data"), more=limits) as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(server: Server) -> str:
    events = list(server.client.submit(SLIDE, "slow", **WORK).events())
    assert isinstance(events[-1], api.Done)
    assert len(features(events)) > 5
    return digest(events)


def test_killed_at_random_moments_the_result_is_the_same(
    images: Path, undisturbed: str, tmp_path: Path
) -> None:
    """The reader stays: it hears every event once, over all restarts."""
    moments = random.Random(5)
    with running(images, tmp_path, more="[engine]\nworkers = 2\n") as server:
        job = server.client.submit(SLIDE, "slow", **WORK)
        events: list[api.Event] = []
        reader = threading.Thread(target=lambda: events.extend(patiently(server, job)), daemon=True)
        reader.start()
        for kill in range(KILLS):
            time.sleep(moments.uniform(0.05, 0.5))
            if kill % 2:
                for worker in server.workers:
                    worker.kill()
            workers = server.kill()
            assert not psutil.wait_procs(workers, timeout=5)[1]
            server.start()
        reader.join(60)
        assert isinstance(events[-1], api.Done)
        assert [event.seq for event in events] == list(range(len(events)))
        assert digest(events) == undisturbed
        assert digest(list(job.events())) == undisturbed


def patiently(server: Server, job: api.Job) -> Iterator[api.Event]:
    after = -1
    while True:
        try:
            for event in job.events(after):
                after = event.seq
                yield event
            return
        except api.ClientError as error:
            if error.status != 0:  # nobody answers until the server is back
                raise


def test_killed_workers_are_replaced_and_nothing_is_lost(server: Server, undisturbed: str) -> None:
    job = server.client.submit(SLIDE, "slow", **WORK)
    for event in (stream := job.events()):
        if isinstance(event, api.Progress) and event.tiles_done in (4, 30):
            for worker in server.workers:
                worker.kill()
    assert list(stream) == []
    events = list(job.events())
    assert isinstance(events[-1], api.Done)
    assert events[-1].tiles_failed == 0
    assert digest(events) == undisturbed


def test_workers_end_with_their_server_in_the_middle_of_a_tile(
    images: Path, tmp_path: Path
) -> None:
    with running(images, tmp_path, more="[engine]\nworkers = 2\n") as server:
        job = server.client.submit(SLIDE, "slow", parameters={"seconds": 60})
        next(job.events())
        time.sleep(0.5)
        workers = server.kill()
        assert len(workers) >= 2
        assert not psutil.wait_procs(workers, timeout=5)[1]


def test_the_port_is_free_as_soon_as_the_command_is_killed(
    images: Path, undisturbed: str, tmp_path: Path
) -> None:
    """Only the process that a user sees is killed, in the middle of a stream."""
    with running(images, tmp_path, more="[engine]\nworkers = 2\n") as server:
        job = server.client.submit(SLIDE, "slow", **WORK)
        events: list[api.Event] = []
        reader = threading.Thread(target=lambda: events.extend(patiently(server, job)), daemon=True)
        reader.start()
        while not events:
            time.sleep(0.02)
        left = [server.main, *server.workers]
        assert server.process is not None
        server.process.kill()
        began = time.monotonic()
        server.process.wait(10)
        while not is_free(server.port):
            assert time.monotonic() - began < 5
            time.sleep(0.01)
        assert time.monotonic() - began < 1
        server.launch()  # at once, as a supervisor does
        assert not psutil.wait_procs(left, timeout=5)[1]
        server.wait_until("ready")
        reader.join(60)
        assert [event.seq for event in events] == list(range(len(events)))
        assert digest(events) == undisturbed


def is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


def test_workers_that_still_start_end_with_their_server(images: Path, tmp_path: Path) -> None:
    server = Server(images, tmp_path, more="[engine]\nworkers = 2\n")
    server.launch()
    server.wait_until("starting")
    workers = server.kill()
    assert len(workers) >= 2
    assert not psutil.wait_procs(workers, timeout=5)[1]


def test_a_server_that_is_stopped_parks_its_jobs(
    images: Path, undisturbed: str, tmp_path: Path
) -> None:
    with running(images, tmp_path, more="[engine]\nworkers = 2\n") as server:
        job = server.client.submit(SLIDE, "slow", **WORK)
        stream = job.events()
        before = list(itertools.islice(stream, 20))
        with requests.get(f"{server.url}/v1/jobs/{job.id}/events", stream=True, timeout=20):
            began = time.monotonic()
            server.stop()
            assert time.monotonic() - began < 8
        server.start()
        after = list(job.events(before[-1].seq))
        assert digest(before + after) == undisturbed
        assert isinstance(after[-1], api.Done)


def test_ten_readers_hear_the_same(server: Server) -> None:
    job = server.client.submit(SLIDE, "slow", **WORK)
    heard: list[list[api.Event]] = []
    readers = [threading.Thread(target=lambda: heard.append(list(job.events()))) for _ in range(10)]
    for reader in readers:
        reader.start()
        time.sleep(0.05)
    for reader in readers:
        reader.join(60)
    assert len(heard) == 10
    assert all(events == heard[0] for events in heard)
    assert isinstance(heard[0][-1], api.Done)


def test_a_reader_that_stops_reading_holds_up_nobody(server: Server) -> None:
    noise(server.images / "noise.png")
    noisy: Options = {"parameters": {"below": 128}, "tile": 256}
    job = server.client.submit("slides/noise.png", "threshold", **noisy)
    with requests.get(f"{server.url}/v1/jobs/{job.id}/events", timeout=60, stream=True) as stream:
        size = sum(map(len, stream.iter_content(1 << 20)))
    assert size > 10 << 20, "it fits into the buffers of a connection"
    before = server.main.memory_info().rss

    job = server.client.submit("slides/noise.png", "threshold", **noisy)
    with Stalled(server.port, job.id) as stalled:
        numbers = [event.seq for event in job.events()]
        assert job.state()["state"] == "done"
        assert server.main.memory_info().rss < before + (60 << 20)
        assert isinstance(greedy(server, "raise", 4096)[-1], api.Done)
        assert [event["seq"] for event in stalled.read_on()] == numbers


# Workers that hang or grow

TILE: Options = {"region": [520, 520, 760, 760], "tile": 256}


def greedy(server: Server, how: str, widest: float, **options: object) -> list[api.Event]:
    given: Options = {**TILE, "parameters": {"how": how, "widest": widest}}
    given.update(options)  # type: ignore[typeddict-item]
    return list(server.client.submit(SLIDE, "greedy", **given).events())


@pytest.mark.parametrize("how", ["raise", "grow"])
def test_a_tile_that_needs_too_much_memory_is_done_in_quarters(server: Server, how: str) -> None:
    whole = greedy(server, how, 4096)
    parts = greedy(server, how, 256)  # a tile with its halo is wider, a quarter is not
    end = parts[-1]
    assert isinstance(end, api.Done)
    assert end.tiles_failed == 0
    # the parameters are part of the scope, and the scope is part of the ids
    assert shapes_of(whole) == shapes_of(parts)
    assert len(features(whole)) > 3


def shapes_of(events: list[api.Event]) -> list[str]:
    return sorted(json.dumps(each["geometry"]) for each in features(events))


@pytest.mark.parametrize(("how", "said"), [("grow", "900 MiB"), ("hang", "within 6 s")])
def test_a_tile_that_cannot_be_done_is_reported(server: Server, how: str, said: str) -> None:
    events = greedy(server, how, 10)
    end = events[-1]
    assert isinstance(end, api.Done)
    assert end.tiles_failed == end.tiles == 1
    (warned,) = (event for event in events if isinstance(event, api.Warned))
    assert "two workers" in warned.message
    assert said in warned.message
    assert isinstance(greedy(server, "raise", 4096)[-1], api.Done)


def test_a_look_at_the_whole_image_can_be_cancelled(server: Server) -> None:
    region = [0, 0, 1200, 1200]
    job = server.client.submit(SLIDE, "thorough", region=region, parameters={"seconds": 50})
    while job.state()["state"] != "running":
        time.sleep(0.05)
    time.sleep(0.5)
    before = {worker.pid for worker in server.workers}
    began = time.monotonic()
    job.cancel()
    assert isinstance(list(job.events())[-1], api.Cancelled)
    assert time.monotonic() - began < 2
    # the worker that was at it is free for the next
    deadline = time.monotonic() + 20
    while {worker.pid for worker in server.workers} == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    again = server.client.submit(SLIDE, "thorough", region=region)
    assert isinstance(list(again.events())[-1], api.Done)


# Disks and images


def test_a_full_disk_fails_the_job_and_not_the_server(server: Server) -> None:
    main = server.main
    unlimited = main.rlimit(resource.RLIMIT_FSIZE)
    main.rlimit(resource.RLIMIT_FSIZE, (20_000, unlimited[1]))
    try:
        job = server.client.submit(SLIDE, "threshold", parameters={"below": 180}, tile=256)
        end = list(job.events())[-1]
        assert isinstance(end, api.Failed)
        assert "cannot be written" in end.message
        assert job.state()["state"] == "failed"
    finally:
        main.rlimit(resource.RLIMIT_FSIZE, unlimited)
    assert isinstance(greedy(server, "raise", 4096)[-1], api.Done)


def test_a_damaged_journal_ends_in_failed(server: Server) -> None:
    job = server.client.submit(SLIDE, "slow", **WORK)
    events = list(job.events())
    path = server.data / "jobs" / job.id / JOURNAL
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    again = list(job.events())
    assert isinstance(again[-1], api.Failed)
    assert "damaged" in again[-1].message
    assert again[:-1] == events[: len(again) - 1]
    assert server.client.health()["status"] == "ready"


@pytest.mark.parametrize(
    ("how", "end"), [("deleted", api.Done), ("replaced", api.Failed), ("cut", api.Failed)]
)
def test_an_image_that_goes_away_in_the_middle(
    server: Server, how: str, end: type[api.Event]
) -> None:
    """One that is gone costs its remaining tiles; another one in its place ends the job."""
    path = server.images / f"{how}.tif"
    disks(path, (1500, 1200))
    job = server.client.submit(f"slides/{how}.tif", "slow", parameters={"seconds": 0.1})
    events: list[api.Event] = []
    for event in job.events():
        events.append(event)
        if isinstance(event, api.Progress) and event.tiles_done == 2:
            if how == "cut":
                with path.open("r+b") as file:
                    file.truncate(path.stat().st_size // 2)
            else:
                path.unlink()
            if how == "replaced":
                disks(path, (1500, 1200), seed=2)
            for worker in server.workers:  # new ones have to open the image again
                worker.kill()
    path.unlink(missing_ok=True)
    last = events[-1]
    assert isinstance(last, end)
    if isinstance(last, api.Done):
        assert last.tiles_failed > 0
    if isinstance(last, api.Failed):
        assert last.code == "ImageChanged"
        assert f"{how}.tif changed after the job was accepted" in last.message
    assert len(features(events)) >= 1  # of the two tiles that were read
    assert isinstance(greedy(server, "raise", 4096)[-1], api.Done)


# Who goes first


def test_a_click_does_not_wait_behind_a_slide(images: Path, tmp_path: Path) -> None:
    with running(images, tmp_path, more="[engine]\nworkers = 1\n") as server:
        slide = server.client.submit(SLIDE, "slow", parameters={"seconds": 8.0})
        list(itertools.islice(slide.events(), 1))
        click: Options = {"region": [600, 600, 700, 700], "parameters": {"below": 180}}
        list(server.client.submit(SLIDE, "threshold", **click).events())  # loads the model
        began = time.monotonic()
        events = list(server.client.submit(SLIDE, "threshold", **click).events())
        assert isinstance(events[-1], api.Done)
        assert time.monotonic() - began < 4.0  # half a tile
        slide.cancel()


class Patient(SerialEngine):
    """Holds every job until it is told to go on, and notes in which order they came."""

    def __init__(self, weights: Path) -> None:
        super().__init__(weights)
        self.go_on = threading.Semaphore(0)

    def run(self, task, agenda):  # type: ignore[no-untyped-def]
        self.go_on.acquire()
        yield from super().run(task, agenda)


def test_users_take_turns(disk_slide: Shapes, tmp_path: Path) -> None:
    engine = Patient(tmp_path)
    limits = Limits(running_jobs=1)
    jobs = Jobs(tmp_path / "jobs", engine, limits, lambda _: prepared)
    prepared = small_job(disk_slide, tmp_path)
    of_a = [jobs.submit(b"{}", prepared, owner="a") for _ in range(4)]
    of_b = [jobs.submit(b"{}", prepared, owner="b") for _ in range(2)]
    waiting = sorted([*of_a[1:], *of_b], key=jobs.position)
    assert "".join(job.card.owner for job in waiting) == "babaa"
    engine.go_on.release(6)
    for job in [*of_a, *of_b]:
        wait_for(job, State.DONE)
    began = sorted([*of_a, *of_b], key=lambda job: job.began or 0)
    assert "".join(job.card.owner for job in began) == "ababaa"
    jobs.close()


def test_nobody_fills_the_queue(disk_slide: Shapes, tmp_path: Path) -> None:
    engine = Patient(tmp_path)
    limits = Limits(running_jobs=1, queued_jobs=6, queued_jobs_per_user=2)
    prepared = small_job(disk_slide, tmp_path)
    jobs = Jobs(tmp_path / "jobs", engine, limits, lambda _: prepared)
    for _ in range(3):  # one runs
        jobs.submit(b"{}", prepared, owner="greedy")
    with pytest.raises(QueueFull, match="2 of your jobs are waiting") as full:
        jobs.submit(b"{}", prepared, owner="greedy")
    assert full.value.position == 2
    for _ in range(4):  # who is unknown has no share
        jobs.submit(b"{}", prepared)
    with pytest.raises(QueueFull, match="6 jobs are waiting"):
        jobs.submit(b"{}", prepared, owner="late")
    engine.go_on.release(7)
    for job in jobs.all():
        wait_for(job, State.DONE)
    jobs.close()


def small_job(slide: Shapes, data: Path) -> TiledPlan:
    region = Region.rectangle(0, 0, 300, 300)
    request = SegmentRequest(
        slide.path.name, "threshold", region, tile=64, parameters={"below": 180}
    )
    return tiled_plan(request, Images.of_file(slide.path), data)


def wait_for(job: object, state: State) -> None:
    deadline = time.monotonic() + 20
    while job.state is not state:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_those_that_go_on_are_listed_with_the_last_that_ended(
    disk_slide: Shapes, tmp_path: Path
) -> None:
    engine = Patient(tmp_path)
    prepared = small_job(disk_slide, tmp_path)
    limits = Limits(running_jobs=1)
    jobs = Jobs(tmp_path / "jobs", engine, limits, lambda _: prepared)
    first, *ended = (jobs.submit(b"{}", prepared, owner="ann") for _ in range(4))
    for job in ended:  # without their turn
        jobs.cancel(job)
        wait_for(job, State.CANCELLED)
    waits = jobs.submit(b"{}", prepared, owner="ann")
    of_bob = jobs.submit(b"{}", prepared, owner="bob")

    def of_ann(job: Job) -> bool:
        return job.card.owner == "ann"

    assert jobs.latest(of_ann, 100) == [first, *ended, waits]
    assert jobs.latest(of_ann, 2) == [first, *ended[-2:], waits]
    assert jobs.latest(lambda _: True, 0) == [first, waits, of_bob]
    engine.go_on.release(3)
    jobs.close()


def test_a_job_that_has_ended_keeps_its_request_on_disk_alone(
    disk_slide: Shapes, tmp_path: Path
) -> None:
    engine = SerialEngine(tmp_path)
    prepared: TiledPlan | None = small_job(disk_slide, tmp_path)
    jobs = Jobs(tmp_path / "jobs", engine, Limits(), lambda _: pytest.fail("asked again"))
    assert prepared is not None
    region = weakref.ref(prepared.task.region)
    jobs.submit(b"{}", prepared)
    jobs.cancel(cancelled := jobs.submit(b"{}", prepared))
    prepared = None
    deadline = time.monotonic() + 20
    while region() is not None:
        assert time.monotonic() < deadline, "a day's jobs would fill the memory with their tiles"
        time.sleep(0.01)
    assert [job.state.ended for job in jobs.all()] == [True, True]
    assert cancelled.started.image == disk_slide.path.name
    jobs.close()


def test_old_jobs_are_forgotten_and_deleted(disk_slide: Shapes, tmp_path: Path) -> None:
    limits = Limits(job_hours=1)
    prepared = small_job(disk_slide, tmp_path)
    engine = SerialEngine(tmp_path)
    jobs = Jobs(tmp_path / "jobs", engine, limits, lambda _: prepared)
    old, young = (jobs.submit(b"{}", prepared) for _ in range(2))
    for job in (old, young):
        wait_for(job, State.DONE)
    jobs.close()

    card = Card.read(old.directory / CARD)
    assert card.ended is not None
    dataclasses.replace(card, ended=card.ended - 2 * 3600).write(old.directory / CARD)
    jobs = Jobs(tmp_path / "jobs", engine, limits, lambda _: prepared)
    assert len(jobs.all()) == 2
    another = jobs.submit(b"{}", prepared)
    deadline = time.monotonic() + 20
    while old.directory.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [job.id for job in jobs.all()] == [young.id, another.id]
    with pytest.raises(UnknownJob):
        jobs.get(old.id)
    jobs.close()


# After a restart


def test_a_thousand_finished_jobs_are_known_at_once(disk_slide: Shapes, tmp_path: Path) -> None:
    engine = SerialEngine(tmp_path)

    def opened() -> Jobs:
        return Jobs(tmp_path / "jobs", engine, Limits(), lambda _: prepared)

    prepared = small_job(disk_slide, tmp_path)
    jobs = opened()
    job = jobs.submit(b"{}", prepared)
    wait_for(job, State.DONE)
    told = [batch for batch in job.follow(-1, 1.0) if batch is not None]
    jobs.close()
    for number in range(999):
        shutil.copytree(job.directory, tmp_path / "jobs" / f"{number:024x}")

    began = time.monotonic()
    jobs = opened()
    assert time.monotonic() - began < 2.0
    assert len(jobs.all()) == 1000
    again = jobs.get(f"{7:024x}")
    assert again.state is State.DONE
    assert again.objects == job.objects > 0
    replayed = [batch for batch in again.follow(-1, 1.0) if batch is not None]
    assert [batch.seq for batch in replayed] == [batch.seq for batch in told]
    assert again.started.image == job.started.image
    jobs.close()


def test_a_job_whose_image_has_changed_fails_after_a_restart(
    disk_slide: Shapes, tmp_path: Path
) -> None:
    class Cut(SerialEngine):
        def run(self, task, agenda):  # type: ignore[no-untyped-def]
            yield from itertools.islice(super().run(task, agenda), 3)
            stopped.set()
            while not agenda.cancelled:
                time.sleep(0.01)

    stopped = threading.Event()
    folder = tmp_path / "jobs"
    prepared = small_job(disk_slide, tmp_path)
    jobs = Jobs(folder, Cut(tmp_path), Limits(), lambda _: prepared)
    job = jobs.submit(b"{}", prepared)
    assert stopped.wait(20)
    jobs.close()
    assert json.loads((job.directory / CARD).read_bytes())["state"] == "queued"

    path = disks(tmp_path / disk_slide.path.name, (700, 600), seed=9)
    other = small_job(path, tmp_path)
    jobs = Jobs(folder, SerialEngine(tmp_path), Limits(), lambda _: other)
    wait_for(jobs.get(job.id), State.FAILED)
    assert "changed" in str(list(jobs.get(job.id).follow(-1, 1.0))[-1])
    jobs.close()


def test_a_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    from isoline.config.file_lock import Exclusive
    from isoline.errors import Conflict

    first = Exclusive(tmp_path / "lock")
    with pytest.raises(Conflict, match="another server"):
        Exclusive(tmp_path / "lock", wait_seconds=0.2)
    first.close()
    Exclusive(tmp_path / "lock", wait_seconds=0.2).close()


def test_the_queue_says_who_waits_for_what(images: Path, tmp_path: Path) -> None:
    limits = "[engine]\nworkers = 1\n[limits]\nrunning_jobs = 1\nqueued_jobs = 2\n"
    with running(images, tmp_path, more=limits) as server:
        client = Client(server.url)
        first, second, third = (client.submit(SLIDE, "slow") for _ in range(3))
        body = json.dumps({"image": SLIDE, "model": "slow"})
        refused = requests.post(
            f"{server.url}/v1/jobs",
            data=body,
            headers={"Content-Type": "application/json"},
            timeout=20,
        )
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 300
        assert refused.json()["position"] == 2
        time.sleep(0.5)
        listed = {
            job["job"]: job
            for job in requests.get(f"{server.url}/v1/jobs", timeout=20).json()["jobs"]
        }
        assert [listed[job.id]["position"] for job in (first, second, third)] == [0, 0, 1]
        waits = [listed[job.id]["waits_for"] for job in (first, second, third)]
        assert waits == ["tiles", "a place", "a place"]
        assert listed[third.id]["seconds_waiting"] >= 0.4
        for job in (third, second, first):
            job.cancel()
