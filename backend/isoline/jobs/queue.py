"""All jobs of a server: which ones wait, which ones run, and which one is next.

After a restart, jobs that have ended are listed again and the others continue.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import secrets
import shutil
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from isoline.config.file_lock import Exclusive
from isoline.config.settings import Limits
from isoline.domain.events import Cancelled
from isoline.engines.engine import Engine
from isoline.errors import Broken, Busy, KeyReused, UnknownJob
from isoline.jobs.answer import Answer
from isoline.jobs.job import CARD, REQUEST, Card, Job, State
from isoline.pipeline.kinds import Lane, Plan
from isoline.pipeline.succession import NOTHING, Shown

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
"""Shortest interval between searches for old jobs."""
PARK_SECONDS = 5.0
"""How long a server that is shutting down waits for its jobs to park."""


CLOSING_SECONDS = 0.25
"""How often a job that waits for another one looks whether the server is shutting down."""


class QueueFull(Busy):
    """The queue, or one user's share of it, is full."""

    def __init__(self, position: int, retry_after: int, whose: str = "") -> None:
        super().__init__(
            f"{position} {whose}jobs are waiting, so this one would be at position {position}",
            f"try again in {retry_after} s",
        )
        self.position = position
        self.retry_after = retry_after

    @property
    def code(self) -> str:
        return Busy.__name__  # the code that clients know


class Jobs:
    """All jobs of this server."""

    def __init__(
        self,
        directory: Path,
        engine: Engine,
        limits: Limits,
        prepare: Callable[[bytes], Plan],
    ) -> None:
        """Store jobs below `directory` and continue those that exist; `engine` runs tiles.

        `prepare` plans a request that was accepted before a restart. Raises Conflict if another
        server is using the directory.
        """
        self._directory = directory
        self._engine = engine
        self._limits = limits
        self._prepare = prepare
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._submitting = threading.Lock()
        """Held while a request with a key is stored, so that concurrent duplicates are stored
        once."""
        self._by_key: dict[tuple[str, str], Job] = {}
        self._queue: list[Job] = []
        self._running: set[Job] = set()
        self._parked: set[Job] = set()
        self._turns = itertools.count(1)
        self._last_turn: Counter[str] = Counter()
        """The turn in which each owner's latest job started."""
        self._assembling = threading.Lock()
        """Held by the job that is merging a tile. Several at once would have to share the
        interpreter, and a short request would wait for each of them in turn."""
        self._next_sweep = -math.inf
        self._closing = threading.Event()
        directory.mkdir(parents=True, exist_ok=True)
        self._exclusive = Exclusive(directory.with_name(directory.name + ".lock"))
        self._take_up()

    def submit(
        self,
        request: bytes,
        plan: Plan,
        *,
        owner: str = "",
        lasting: bool = True,
        parks: bool = False,
        key: str = "",
        replaces: str = "",
    ) -> Job:
        """Queue `plan`, which is for the `request` of `owner`.

        A job that is not `lasting` ends with this server; one that `parks` waits for `resume` after
        a restart. The results take the place of those of the job with the id `replaces`, which is
        cancelled if it has not ended. A request that was submitted before with the same `key` is
        not queued again: its job is returned. Raises KeyReused if the key was used with another
        request, UnknownJob if there is no job `replaces`, Busy if the queue or the owner's share of
        it is full, Broken if the disk is full.
        """
        with self._submitting if key else nullcontext():
            earlier = self.submitted(owner, key, request)
            if earlier is not None:
                return earlier
            card = Card.of(
                plan, owner=owner, lasting=lasting, parks=parks, key=key, replaces=replaces
            )
            replaced = self.get(replaces) if replaces else None
            job = self._queue_up(request, plan, card)
        if replaced is not None:
            self.cancel(replaced)
        self._sweep_if_due()  # only now, so that it keeps what this job replaces
        return job

    def _queue_up(self, request: bytes, plan: Plan, card: Card) -> Job:
        with self._lock:
            if self._closing.is_set():
                raise Busy("the server is shutting down", "try again in a minute")
            before = [each.card.owner for each in self._queue if each.card.lane <= card.lane]
            if len(before) >= self._limits.queued_jobs:
                raise QueueFull(len(before), self._retry_after())
            own = before.count(card.owner)
            if card.owner and own >= self._limits.queued_jobs_per_user:
                raise QueueFull(own, self._retry_after(), whose="of your ")
        job = self._store(request, card, plan)
        with self._lock:
            self._know(job)
            self._queue.append(job)
            self._start_waiting()
        return job

    def _know(self, job: Job) -> None:
        self._jobs[job.id] = job
        if job.card.key:
            self._by_key[job.card.owner, job.card.key] = job

    def answer(self, plan: Plan, owner: str = "") -> Answer:
        """Run a transient plan in memory. Raises Busy while the server is shutting down."""
        if self._closing.is_set():
            raise Busy("the server is shutting down", "try again in a minute")
        return Answer(plan, self._engine, owner)

    def submitted(self, owner: str, key: str, request: bytes) -> Job | None:
        """Return the job that `owner` submitted with `key` before, None if there is none.

        Raises KeyReused if the key was used with another request.
        """
        if not key:
            return None
        with self._lock:
            job = self._by_key.get((owner, key))
        if job is None or job.id not in self._jobs:
            return None
        if job.request != request:
            raise KeyReused(
                f"the Idempotency-Key {key!r} has already been used with another request",
                "generate a new key for each request",
            )
        return job

    def get(self, job_id: str) -> Job:
        """Return a job. Raises UnknownJob."""
        job = self._jobs.get(job_id)
        if job is None:
            raise self.unknown(job_id)
        return job

    @staticmethod
    def unknown(job_id: str) -> UnknownJob:
        """Return the error for a job that does not exist, or not for the caller."""
        return UnknownJob(
            f"there is no job {job_id!r}", "it may have expired: submit the request again"
        )

    def all(self) -> list[Job]:
        """Return all jobs, oldest first."""
        return list(self._jobs.values())

    def latest(self, owns: Callable[[Job], bool], ended: int) -> list[Job]:
        """Return the jobs that have not ended and the last `ended` of those that have.

        Only jobs that `owns` accepts are included, oldest first. A busy server stores many
        thousands of jobs for a day.
        """
        with self._lock:
            going = [*self._queue, *self._running, *self._parked]
        found = {job for job in going if not job.state.ended and owns(job)}
        past = (job for job in reversed(self.all()) if job.state.ended and owns(job))
        found.update(itertools.islice(past, ended))
        return sorted(found, key=lambda job: job.card.created)

    def position(self, job: Job) -> int:
        """Return the number of jobs that wait ahead of `job`."""
        return self.positions().get(job.id, 0)

    def positions(self) -> dict[str, int]:
        """Return the number of jobs ahead of each waiting job, by id."""
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
        """Whether the server is shutting down: streams end too, and readers reconnect later."""
        return self._closing.is_set()

    def cancel(self, job: Job) -> None:
        """Cancel `job`, keeping its results. Has no effect on a job that has ended."""
        job.stop()
        with self._lock:
            if job in self._queue or job in self._parked:
                self._queue = [each for each in self._queue if each is not job]
                self._parked.discard(job)
                self._run_in_thread(job)  # to write its last event, Cancelled

    def resume(self, job: Job, plan: Plan) -> None:
        """Continue a parked `job` with `plan`, which has the caller's credentials."""
        with self._lock:
            if job not in self._parked:
                return  # another caller was faster
            self._parked.remove(job)
            job.prepare(plan)
            job.state = State.QUEUED
            self._queue.append(job)
            self._start_waiting()

    def wind_down(self) -> None:
        """Accept no more jobs and end streams; safe to call from a signal handler."""
        self._closing.set()

    def close(self) -> None:
        """Park running jobs, which the next server continues."""
        self.wind_down()
        for job in self.all():
            job.put_down()
        deadline = time.monotonic() + PARK_SECONDS
        for thread in threading.enumerate():
            if thread.name.startswith("job-"):
                thread.join(max(0.0, deadline - time.monotonic()))
        self._exclusive.close()

    # On disk

    def _store(self, request: bytes, card: Card, plan: Plan) -> Job:
        directory = self._directory / secrets.token_hex(12)
        try:
            directory.mkdir()
            (directory / REQUEST).write_bytes(request)
            card.write(directory / CARD)
            return Job(directory, card, plan.named(directory.name))
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise Broken(
                f"the job cannot be stored: {error.strerror}",
                "free disk space in the data directory",
            ) from error

    def _take_up(self) -> None:
        """Load all jobs from disk; those that had not ended are queued again, unless cancelled."""
        found: list[Job] = []
        for directory in self._directory.iterdir():
            try:
                found.append(Job(directory, Card.read(directory / CARD)))
            except (OSError, ValueError, TypeError, KeyError) as error:
                log.warning("%s does not contain a job: %s", directory, error)
        found.sort(key=lambda job: job.card.created)
        replaced = {job.card.replaces for job in found}
        with self._lock:
            for job in found:
                self._know(job)
                if job.state.ended:
                    continue
                if not job.card.lasting or job.cancelled or job.id in replaced:
                    job.stop()
                    self._run_in_thread(job)
                elif job.state is State.PARKED:
                    self._parked.add(job)
                else:
                    self._queue.append(job)
            self._start_waiting()

    def _sweep_if_due(self) -> None:
        with self._lock:
            if time.monotonic() < self._next_sweep:
                return
            self._next_sweep = time.monotonic() + SWEEP_SECONDS
        # in a thread of its own, so that a click does not wait for it
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()

    def _sweep(self) -> None:
        """Delete jobs that ended long ago, and parked ones that were never resumed.

        Those that a job replaces are kept until that has ended.
        """
        oldest = time.time() - self._limits.job_hours * 3600
        with self._lock:
            lost = [job for job in self._parked if job.card.created < oldest]
            going = {*self._queue, *self._running, *self._parked}.difference(lost)
            needed = {each for job in going for each in self._replaced_by(job)}
            ended = (job for job in self._jobs.values() if job.ended and job.ended < oldest)
            old = [job for job in (*ended, *lost) if job not in needed]
            self._parked.difference_update(old)
            for job in old:
                del self._jobs[job.id]
                self._by_key.pop((job.card.owner, job.card.key), None)
        for job in old:
            shutil.rmtree(job.directory, ignore_errors=True)

    # Scheduling; called with the lock held

    def _in_turn(self) -> list[Job]:
        """Return the waiting jobs in the order in which they start: by lane, then by turns.

        The next turn goes to the owner with the fewest running jobs or, among equals, whose last
        turn is longest ago.
        """
        ahead = Counter(job.card.owner for job in self._running)
        last_turn = Counter(self._last_turn)
        now = itertools.count(max(last_turn.values(), default=0) + 1)
        order: list[Job] = []
        for lane in Lane:
            waiting: defaultdict[str, deque[tuple[int, Job]]] = defaultdict(deque)
            for place, job in enumerate(self._queue):
                if job.card.lane == lane:
                    waiting[job.card.owner].append((place, job))
            # only the first job of each owner, since long queues are evaluated often
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
            limit = self._limits.urgent_jobs if job.card.lane.urgent else self._limits.running_jobs
            same = sum(each.card.lane == job.card.lane for each in self._running)
            if same < limit and not self._closing.is_set():
                self._queue.remove(job)
                self._run_in_thread(job)

    def _retry_after(self) -> int:
        """Return an estimate of the seconds until a place in the queue is free."""
        left = [job.progress.seconds_left for job in self._running]
        return max(1, min(300, round(min((each for each in left if each), default=5.0))))

    # Running

    def _run_in_thread(self, job: Job) -> None:
        self._running.add(job)
        self._last_turn[job.card.owner] = next(self._turns)
        threading.Thread(target=self._run, args=(job,), name=f"job-{job.id}", daemon=True).start()

    def _run(self, job: Job) -> None:
        job.began, job.state = time.time(), State.RUNNING
        earlier = NOTHING
        try:
            earlier = self._shown_before(job)
            batches = job.batches(self._prepare, self._engine, self._assembling, earlier)
            for batch in batches:
                parked = self._closing.is_set() and job.card.lasting and not job.cancelled
                if parked and isinstance(batch.events[-1], Cancelled):
                    break
                job.record(batch)
        except Exception as error:
            log.exception("job %s failed", job.id)
            job.fail(error, earlier)
        finally:
            job.close()
            with self._lock:
                self._running.discard(job)
                self._start_waiting()

    def _shown_before(self, job: Job) -> Shown:
        """Return what viewers show of the runs that `job` replaces, once these have ended.

        A run whose journal has expired or is damaged shows nothing: its results stay in the viewer.
        """
        shown = NOTHING
        for each in reversed(self._replaced_by(job)):
            self.cancel(each)
            while not each.wait(CLOSING_SECONDS) and not self.closing:
                pass
            try:
                shown = each.shown(shown)
            except (OSError, Broken) as error:
                log.warning("job %s cannot be replaced: %s", each.id, error)
        return shown

    def _replaced_by(self, job: Job) -> list[Job]:
        """Return the jobs whose place `job` takes, latest first."""
        replaced: list[Job] = []
        while (before := self._jobs.get(job.card.replaces)) is not None:
            replaced.append(before)
            job = before
        return replaced
