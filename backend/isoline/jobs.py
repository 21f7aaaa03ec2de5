"""Jobs: a queue, a journal each, and as many readers as want to follow.

On disk a job is a directory with three files: `request.json`, the request as it came; `card.json`,
what is known of the job without reading further; and `journal`. That is enough to go on after a
restart: jobs that ended are listed and replayed, the others take up where the journal ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import itertools
import logging
import secrets
import shutil
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import orjson

from isoline import pipeline
from isoline.config import Limits
from isoline.engines.base import Agenda, Engine
from isoline.errors import Broken, Busy, IsolineError, NotSupported, UnknownJob, Unreadable
from isoline.events import Cancelled, Contours, Done, Failed, Progress, Started
from isoline.exclusive import Exclusive
from isoline.geometry import XY
from isoline.journal import Batch, JournalReader, JournalWriter
from isoline.pipeline import Prepared
from isoline.surveys import Surveys
from isoline.volume_geometry import SliceName

log = logging.getLogger(__name__)

REQUEST, CARD, JOURNAL = "request.json", "card.json", "journal"
URGENT_TILES = 4
"""A region of at most so many tiles is a click: somebody sits there and waits."""
LANES = (0, 1, 2)
"""Prompts, small regions, all others: those of a lane start before those of the next."""
FSYNC_MS = 500
"""How old what a lasting job has said may get before it is forced to the disk."""
PARK_SECONDS = 5.0
"""How long a server that ends waits for its jobs to put down what they hold."""


class State(str, Enum):
    """Where a job is in its life."""

    QUEUED = "queued"
    PARKED = "parked"
    """After a restart, until somebody shows again that they may read its image."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self not in (State.QUEUED, State.PARKED, State.RUNNING)


_END = {Done: State.DONE, Failed: State.FAILED, Cancelled: State.CANCELLED}


class QueueFull(Busy):
    """As many jobs wait as may, of all users or of one."""

    def __init__(self, position: int, retry_after: int, whose: str = "") -> None:
        super().__init__(
            f"{position} {whose}jobs wait already and this one would be at position {position}",
            f"try again in {retry_after} s",
        )
        self.position = position
        self.retry_after = retry_after

    @property
    def code(self) -> str:
        return Busy.__name__  # what clients know


@dataclass(frozen=True)
class Card:
    """What is known of a job without reading its journal."""

    owner: str
    share: str
    """Who shows this may do with the job what its owner may."""
    created: float
    """In seconds since 1970, as all times here."""
    image: str
    model: str
    format: str
    tiles: int
    lasting: bool
    """Whether it goes on when nobody listens, and after a restart."""
    urgent: bool
    prompted: bool = False
    """Whether it answers prompts: somebody has clicked and waits."""
    parks: bool = False
    """Whether a restart loses the rights that it was started with: they are never written."""
    state: State = State.QUEUED
    ended: float | None = None
    tiles_done: int = 0
    objects: int = 0
    unsaid: tuple[str, str, str] | None = None
    """Code, message and remedy of the failure that the journal could not take."""

    @property
    def lane(self) -> int:
        """Its place in `LANES`: jobs wait for those of their own alone."""
        return 0 if self.prompted else 1 if self.urgent else 2

    @classmethod
    def read(cls, path: Path) -> Card:
        """Read a card. Raises OSError, ValueError or TypeError when there is none."""
        said = orjson.loads(path.read_bytes())
        said["state"] = State(said["state"])
        said["unsaid"] = said["unsaid"] and tuple(said["unsaid"])
        return cls(**said)

    def write(self, path: Path) -> None:
        """Write the card whole or not at all."""
        temporary = path.with_suffix(".part")
        temporary.write_bytes(orjson.dumps(self))
        temporary.replace(path)


class Job:
    """One request on its way, seen from outside; the runner alone changes it."""

    def __init__(self, directory: Path, card: Card, prepared: Prepared | None = None) -> None:
        """Know the job in `directory`; it is `prepared` when it comes and not after a restart.

        Raises OSError when the journal of a new job cannot be opened.
        """
        self.id = directory.name
        self.directory = directory
        self.card = card
        self.state = card.state
        if not card.state.ended:
            self.state = State.PARKED if card.parks and prepared is None else State.QUEUED
        self.began: float | None = None
        self.ended = card.ended
        self.progress = Progress(card.tiles_done, card.tiles, None)
        self.objects = card.objects
        self._prepared = prepared
        self._agenda: Agenda | None = None
        self._journal: JournalWriter | None = None
        self._cancelled = threading.Event()
        if prepared is not None:
            self._make_agenda(prepared)
            self._journal = self._writer()

    @property
    def request(self) -> bytes:
        """The request as it came. Raises OSError."""
        return (self.directory / REQUEST).read_bytes()

    @property
    def started(self) -> Started:
        """The first event of the job. Raises Broken when it ended before it could start."""
        if self._prepared is not None:
            return self._prepared.started
        for batch in JournalReader(self._path).batches():
            for event in batch.events[:1]:
                if isinstance(event, Started):
                    return event
        raise Broken(f"job {self.id} never started", "submit it again")

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked to stop it."""
        return self._cancelled.is_set()

    @property
    def seconds_waiting(self) -> float:
        """How long it has been waiting, or waited, for its turn."""
        return max(0.0, (self.began or self.ended or time.time()) - self.card.created)

    @property
    def waits_for(self) -> str | None:
        """What keeps it from going on: "a token", "a place" among those that run, "tiles"."""
        if self.state is State.PARKED:
            return "a token"
        if self.state is State.QUEUED:
            return "a place"
        return None if self.state.ended else "tiles"

    def focus(self, look: XY | SliceName | int) -> None:
        """Look at a point, in image coordinates, or at a slice from now on.

        A job that has ended cannot. Raises NotSupported or BadRegion for what it has not.
        """
        if self._prepared is None or self._agenda is None:
            return
        started = self._prepared.started
        if isinstance(look, XY) != (started.volume is None):
            raise NotSupported(
                "a slice says nothing about a picture, and a point nothing about a volume",
                "send focus for a picture, slice for a volume",
            )
        if isinstance(look, XY):
            self._agenda.focus(self._prepared.task.grid.point(look))
        elif started.volume is not None:
            self._agenda.slice = started.volume.k_of(look, started.image)

    def stop(self) -> None:
        """Ask the job to end within one tile."""
        self._cancelled.set()
        self.put_down()

    def put_down(self) -> None:
        """Let go of the tiles that nobody has taken."""
        agenda = self._agenda
        if agenda is not None:
            agenda.cancel()

    def follow(self, after: int, wait: float) -> Iterator[Batch | None]:
        """Yield the batches after event `after` to the end; None whenever `wait` seconds pass.

        Where the journal is damaged, or could not take the end of the job, it ends in Failed.
        """
        heard = after
        try:
            for batch in JournalReader(self._path, self._journal).follow(after, wait):
                if batch is None and self._says_no_more:
                    unsaid = self.card.unsaid or ("Broken", "the end of the journal is lost", "")
                    yield Batch(heard + 1, None, (Failed(*unsaid),))
                    return
                if batch is not None:
                    heard = max(heard, batch.last_seq)
                yield batch
        except Broken as error:
            yield Batch(heard + 1, None, (_failure(error),))
        except FileNotFoundError:
            yield Batch(heard + 1, None, (Failed("UnknownJob", "the job has been deleted"),))

    @property
    def _says_no_more(self) -> bool:
        """Whether nothing will be written to a journal that has no end."""
        return self.card.unsaid is not None or (self.state.ended and self._journal is None)

    # The runner's side

    def prepare(self, prepared: Prepared) -> None:
        """Know again what the job is about, after a restart."""
        started = dataclasses.replace(prepared.started, job=self.id)
        self._prepared = dataclasses.replace(prepared, started=started)
        self._make_agenda(self._prepared)

    def batches(
        self, prepare: Callable[[bytes], Prepared], engine: Engine, surveys: Surveys
    ) -> Iterable[Batch]:
        """Yield what is still to be told.

        Raises Broken when the journal is damaged or cannot be opened, and what `prepare` and the
        pipeline raise.
        """
        journal = self._open()
        if journal.ended or self.cancelled:
            for batch in JournalReader(self._path).batches():
                self._note(batch)
            if not journal.ended:
                progress = self.progress
                cancelled = Cancelled(progress.tiles_done, progress.tiles)
                started = [self.started] if journal.last_seq < 0 and self._prepared else []
                yield Batch(journal.last_seq + 1, None, (*started, cancelled))
            return
        if self._prepared is None:
            self.prepare(prepare(self.request))
        assert self._prepared is not None
        assert self._agenda is not None
        past: Iterable[Batch] = ()
        if journal.last_seq >= 0:
            log.info("job %s goes on after event %d", self.id, journal.last_seq)
            past = self._past(self._prepared)
        yield from pipeline.events(self._prepared, engine, surveys, self._agenda, past)

    def _open(self) -> JournalWriter:
        if self._journal is None:
            try:
                self._journal = self._writer()
            except OSError as error:
                raise Broken(
                    f"the journal of job {self.id} cannot be written: {error.strerror}",
                    "see that the directory of jobs is writable",
                ) from error
        return self._journal

    def _writer(self) -> JournalWriter:
        # what a restart ends anyway need not outlive a power cut
        return JournalWriter(self._path, fsync_ms=FSYNC_MS if self.card.lasting else None)

    def _past(self, prepared: Prepared) -> Iterator[Batch]:
        """Yield what an earlier run gave and take note of it.

        Raises Unreadable when the image or the model is no longer what it was.
        """
        for batch in JournalReader(self._path).batches():
            for event in batch.events[:1]:
                if isinstance(event, Started) and event.scope != prepared.started.scope:
                    raise Unreadable(
                        f"{event.image} or the model changed since the job began",
                        "submit the job again",
                    )
            self._note(batch)
            yield batch

    def record(self, batch: Batch) -> None:
        """Take note of what `batch` says and write it to the journal. Raises Broken."""
        # first the state: who reads the last event must not find the job still running
        self._note(batch)
        self._open().append(batch)

    def fail(self, error: Exception) -> None:
        """End the job, also where the journal cannot be written any more."""
        failed = _failure(error)
        try:
            self.record(Batch(self._open().last_seq + 1, None, (failed,)))
        except (ValueError, OSError, Broken):
            self.state, self.ended = State.FAILED, time.time()
            unsaid = (failed.code, failed.message, failed.remedy)
            self.card = dataclasses.replace(self.card, unsaid=unsaid)

    def close(self) -> None:
        """Force the journal to the disk, and write the card of a job that has ended."""
        if self._journal is not None:
            with contextlib.suppress(OSError):  # nothing more can be done about a full disk
                self._journal.close()
        if not self.state.ended:
            return
        if self._prepared is not None:  # what prompts correct may be large, and is done with
            task = dataclasses.replace(self._prepared.task, asked=None)
            self._prepared = dataclasses.replace(self._prepared, task=task)
        self.card = dataclasses.replace(
            self.card,
            state=self.state,
            ended=self.ended,
            tiles=self.progress.tiles,
            tiles_done=self.progress.tiles_done,
            objects=self.objects,
        )
        try:
            self.card.write(self.directory / CARD)
        except OSError as error:
            log.error("the card of job %s cannot be written: %s", self.id, error)

    @property
    def _path(self) -> Path:
        return self.directory / JOURNAL

    def _make_agenda(self, prepared: Prepared) -> None:
        self._agenda = Agenda(
            prepared.lattice,
            prepared.tiles,
            prepared.focus,
            urgent=self.card.urgent,
            owner=self.card.owner,
        )
        if self.cancelled:
            self._agenda.cancel()

    def _note(self, batch: Batch) -> None:
        for event in batch.events:
            if isinstance(event, Progress):
                self.progress = event
            elif isinstance(event, Contours) and not event.provisional:
                self.objects += len(event.objects)
            elif type(event) in _END:
                self.state, self.ended = _END[type(event)], time.time()


class Jobs:
    """Every job of this server."""

    def __init__(
        self,
        directory: Path,
        engine: Engine,
        surveys: Surveys,
        limits: Limits,
        prepare: Callable[[bytes], Prepared],
    ) -> None:
        """Keep jobs below `directory` and go on with those that are there; `engine` runs tiles.

        `prepare` checks a request that was accepted before a restart. Raises Conflict when another
        server keeps its jobs there.
        """
        self._directory = directory
        self._engine = engine
        self._surveys = surveys
        self._limits = limits
        self._prepare = prepare
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._queue: list[Job] = []
        self._running: set[Job] = set()
        self._parked: set[Job] = set()
        self._turns = itertools.count(1)
        self._last_turn: Counter[str] = Counter()
        """When each owner's latest job began: the larger, the later."""
        self._closing = threading.Event()
        directory.mkdir(parents=True, exist_ok=True)
        self._exclusive = Exclusive(directory.with_name(directory.name + ".lock"))
        self._take_up()

    def submit(
        self,
        request: bytes,
        prepared: Prepared,
        *,
        owner: str = "",
        lasting: bool = True,
        parks: bool = False,
    ) -> Job:
        """Queue `prepared`, which came as `request` from `owner`.

        A job that is not `lasting` ends with this server; one that `parks` waits after a restart
        for `resume`. Raises Busy when the queue or the owner's share of it is full, and Broken when
        the disk is.
        """
        self._sweep()
        started = prepared.started
        prompted = prepared.task.asked is not None
        small = prepared.task.region is not None and len(prepared.tiles) <= URGENT_TILES
        card = Card(
            owner=owner,
            share=secrets.token_urlsafe(18),
            created=time.time(),
            image=started.image,
            model=started.scope.model,
            format=prepared.format,
            tiles=len(prepared.tiles),
            lasting=lasting,
            urgent=small or prompted,
            prompted=prompted,
            parks=parks,
        )
        with self._lock:
            if self._closing.is_set():
                raise Busy("the server is shutting down", "try again in a minute")
            before = [each.card.owner for each in self._queue if each.card.lane <= card.lane]
            if len(before) >= self._limits.queued_jobs:
                raise QueueFull(len(before), self._retry_after())
            own = before.count(owner)
            if owner and own >= self._limits.queued_jobs_per_user:
                raise QueueFull(own, self._retry_after(), whose="of your ")
        job = self._store(request, card, prepared)
        with self._lock:
            self._jobs[job.id] = job
            self._queue.append(job)
            self._start_waiting()
        return job

    def get(self, job_id: str) -> Job:
        """Return a job. Raises UnknownJob."""
        job = self._jobs.get(job_id)
        if job is None:
            raise self.unknown(job_id)
        return job

    @staticmethod
    def unknown(job_id: str) -> UnknownJob:
        """Return what to raise for a job that is not there, or not for the caller."""
        return UnknownJob(f"no job {job_id!r}", "it never was, or has outlived its time to live")

    def all(self) -> list[Job]:
        """Return every job, the oldest first."""
        return list(self._jobs.values())

    def position(self, job: Job) -> int:
        """Return how many jobs wait before `job`."""
        return self.positions().get(job.id, 0)

    def positions(self) -> dict[str, int]:
        """Return how many jobs wait before each one that waits, by id."""
        with self._lock:
            return {job.id: place for place, job in enumerate(self._in_turn())}

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def closing(self) -> bool:
        """Whether the server is about to end: streams end too, and readers come back later."""
        return self._closing.is_set()

    def cancel(self, job: Job) -> None:
        """Stop `job`; what it has found stays. A job that has ended stays as it ended."""
        job.stop()
        with self._lock:
            if job in self._queue or job in self._parked:
                self._queue = [each for each in self._queue if each is not job]
                self._parked.discard(job)
                self._run_in_thread(job)  # to say that it was cancelled

    def resume(self, job: Job, prepared: Prepared) -> None:
        """Go on with a parked `job`; `prepared` is its request with the rights of who asks."""
        with self._lock:
            if job not in self._parked:
                return  # somebody else was faster
            self._parked.remove(job)
            job.prepare(prepared)
            job.state = State.QUEUED
            self._queue.append(job)
            self._start_waiting()

    def wind_down(self) -> None:
        """Take no more jobs and let streams end; safe to call from a signal handler."""
        self._closing.set()

    def close(self) -> None:
        """Park what runs: the next server goes on with it."""
        self.wind_down()
        for job in self.all():
            job.put_down()
        deadline = time.monotonic() + PARK_SECONDS
        for thread in threading.enumerate():
            if thread.name.startswith("job-"):
                thread.join(max(0.0, deadline - time.monotonic()))
        self._exclusive.close()

    # On disk

    def _store(self, request: bytes, card: Card, prepared: Prepared) -> Job:
        directory = self._directory / secrets.token_hex(12)
        started = dataclasses.replace(prepared.started, job=directory.name)
        try:
            directory.mkdir()
            (directory / REQUEST).write_bytes(request)
            card.write(directory / CARD)
            return Job(directory, card, dataclasses.replace(prepared, started=started))
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise Broken(
                f"the job cannot be stored: {error.strerror}", "free space where jobs are kept"
            ) from error

    def _take_up(self) -> None:
        """Know every job on disk again; those that had not ended wait for their turn."""
        found: list[Job] = []
        for directory in self._directory.iterdir():
            try:
                found.append(Job(directory, Card.read(directory / CARD)))
            except (OSError, ValueError, TypeError, KeyError) as error:
                log.warning("%s holds no job: %s", directory, error)
        found.sort(key=lambda job: job.card.created)
        with self._lock:
            for job in found:
                self._jobs[job.id] = job
                if job.state.ended:
                    continue
                if job.state is State.PARKED and job.card.lasting:
                    self._parked.add(job)
                elif job.card.lasting:
                    self._queue.append(job)
                else:
                    job.stop()
                    self._run_in_thread(job)
            self._start_waiting()

    def _sweep(self) -> None:
        """Forget jobs that ended long ago, and those that nobody came back for."""
        oldest = time.time() - self._limits.job_hours * 3600
        with self._lock:
            old = [job for job in self._jobs.values() if job.ended and job.ended < oldest]
            old += [job for job in self._parked if job.card.created < oldest]
            self._parked.difference_update(old)
            for job in old:
                del self._jobs[job.id]
        for job in old:
            shutil.rmtree(job.directory, ignore_errors=True)

    # Whose turn it is; the lock is held

    def _in_turn(self) -> list[Job]:
        """Return those who wait in the order in which they start: by lanes, then by turns.

        The next turn is that of the owner who has least running, or whose last turn is longest ago.
        """
        ahead = Counter(job.card.owner for job in self._running)
        last_turn = Counter(self._last_turn)
        now = itertools.count(max(last_turn.values(), default=0) + 1)
        order: list[Job] = []
        for lane in LANES:
            waiting: defaultdict[str, deque[tuple[int, Job]]] = defaultdict(deque)
            for place, job in enumerate(self._queue):
                if job.card.lane == lane:
                    waiting[job.card.owner].append((place, job))
            # of each owner the job that came first: a queue of a hundred is looked at often
            turns = [(ahead[o], last_turn[o], first[0][0], o) for o, first in waiting.items()]
            heapq.heapify(turns)
            while turns:
                *_, owner = heapq.heappop(turns)
                order.append(waiting[owner].popleft()[1])
                ahead[owner] += 1
                last_turn[owner] = next(now)
                if left := waiting[owner]:
                    heapq.heappush(turns, (ahead[owner], last_turn[owner], left[0][0], owner))
        return order

    def _start_waiting(self) -> None:
        for job in self._in_turn():
            limit = self._limits.urgent_jobs if job.card.urgent else self._limits.running_jobs
            same = sum(each.card.lane == job.card.lane for each in self._running)
            if same < limit and not self._closing.is_set():
                self._queue.remove(job)
                self._run_in_thread(job)

    def _retry_after(self) -> int:
        """Return in how many seconds a place in the queue may be free."""
        left = [job.progress.seconds_left for job in self._running]
        return max(1, min(300, round(min((each for each in left if each), default=5.0))))

    # Running

    def _run_in_thread(self, job: Job) -> None:
        self._running.add(job)
        self._last_turn[job.card.owner] = next(self._turns)
        threading.Thread(target=self._run, args=(job,), name=f"job-{job.id}", daemon=True).start()

    def _run(self, job: Job) -> None:
        job.began, job.state = time.time(), State.RUNNING
        try:
            for batch in job.batches(self._prepare, self._engine, self._surveys):
                parked = self._closing.is_set() and job.card.lasting and not job.cancelled
                if parked and isinstance(batch.events[-1], Cancelled):
                    break
                job.record(batch)
        except Exception as error:
            log.exception("job %s failed", job.id)
            job.fail(error)
        finally:
            job.close()
            with self._lock:
                self._running.discard(job)
                self._start_waiting()


def _failure(error: Exception) -> Failed:
    if isinstance(error, IsolineError):
        return Failed(error.code, error.what, error.remedy)
    return Failed("Broken", f"{type(error).__name__}: {error}", "see the server's log")
