"""Every job of a server: who waits, who runs and whose turn it is.

After a restart those that ended are known again and the others go on.
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

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
"""How often old jobs are looked for, at most."""
PARK_SECONDS = 5.0
"""How long a server that ends waits for its jobs to put down what they hold."""


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


class Jobs:
    """Every job of this server."""

    def __init__(
        self,
        directory: Path,
        engine: Engine,
        limits: Limits,
        prepare: Callable[[bytes], Plan],
    ) -> None:
        """Keep jobs below `directory` and go on with those that are there; `engine` runs tiles.

        `prepare` checks a request that was accepted before a restart. Raises Conflict when another
        server keeps its jobs there.
        """
        self._directory = directory
        self._engine = engine
        self._limits = limits
        self._prepare = prepare
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._submitting = threading.Lock()
        """Held while a request with a key is stored: what comes twice at once is stored once."""
        self._by_key: dict[tuple[str, str], Job] = {}
        self._queue: list[Job] = []
        self._running: set[Job] = set()
        self._parked: set[Job] = set()
        self._turns = itertools.count(1)
        self._last_turn: Counter[str] = Counter()
        """When each owner's latest job began: the larger, the later."""
        self._assembling = threading.Lock()
        """Held by the one job that puts a tile together. They would have to share the interpreter,
        and a short request would wait for each of them in turn."""
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
    ) -> Job:
        """Queue `plan`, which came as `request` from `owner`.

        A job that is not `lasting` ends with this server; one that `parks` waits after a restart
        for `resume`. What came before with the same `key` is not queued again: its job is returned.
        Raises KeyReused where the key came with another request, Busy when the queue or the owner's
        share of it is full, and Broken when the disk is.
        """
        self._sweep_if_due()
        with self._submitting if key else nullcontext():
            earlier = self.submitted(owner, key, request)
            if earlier is not None:
                return earlier
            return self._queue_up(request, plan, owner, lasting, parks, key)

    def _queue_up(
        self, request: bytes, plan: Plan, owner: str, lasting: bool, parks: bool, key: str
    ) -> Job:
        started = plan.started
        card = Card(
            owner=owner,
            share=secrets.token_urlsafe(18),
            created=time.time(),
            image=started.image,
            model=started.scope.model,
            format=plan.format,
            tiles=plan.tile_count,
            lasting=lasting,
            lane=plan.lane,
            parks=parks,
            key=key,
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
        """Answer a transient plan from memory. Raises Busy while the server ends."""
        if self._closing.is_set():
            raise Busy("the server is shutting down", "try again in a minute")
        return Answer(plan, self._engine, owner)

    def submitted(self, owner: str, key: str, request: bytes) -> Job | None:
        """Return the job that `owner` submitted with `key` before, None where there is none.

        Raises KeyReused where the key came with another request.
        """
        if not key:
            return None
        with self._lock:
            job = self._by_key.get((owner, key))
        if job is None or job.id not in self._jobs:
            return None
        if job.request != request:
            raise KeyReused(
                f"the Idempotency-Key {key!r} came with another request before",
                "draw a new key for each request",
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
        """Return what to raise for a job that is not there, or not for the caller."""
        return UnknownJob(f"no job {job_id!r}", "it never was, or has outlived its time to live")

    def all(self) -> list[Job]:
        """Return every job, the oldest first."""
        return list(self._jobs.values())

    def latest(self, owns: Callable[[Job], bool], ended: int) -> list[Job]:
        """Return the jobs that have not ended and the last `ended` of those that have.

        Only those that `owns` accepts count, and the oldest comes first. A busy server keeps many
        thousands of jobs for a day.
        """
        with self._lock:
            going = [*self._queue, *self._running, *self._parked]
        found = {job for job in going if not job.state.ended and owns(job)}
        past = (job for job in reversed(self.all()) if job.state.ended and owns(job))
        found.update(itertools.islice(past, ended))
        return sorted(found, key=lambda job: job.card.created)

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

    def resume(self, job: Job, plan: Plan) -> None:
        """Go on with a parked `job`; `plan` is its request with the rights of who asks."""
        with self._lock:
            if job not in self._parked:
                return  # somebody else was faster
            self._parked.remove(job)
            job.prepare(plan)
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
                self._know(job)
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

    def _sweep_if_due(self) -> None:
        with self._lock:
            if time.monotonic() < self._next_sweep:
                return
            self._next_sweep = time.monotonic() + SWEEP_SECONDS
        # not in the way of who has just clicked
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()

    def _sweep(self) -> None:
        """Forget jobs that ended long ago, and those that nobody came back for."""
        oldest = time.time() - self._limits.job_hours * 3600
        with self._lock:
            old = [job for job in self._jobs.values() if job.ended and job.ended < oldest]
            old += [job for job in self._parked if job.card.created < oldest]
            self._parked.difference_update(old)
            for job in old:
                del self._jobs[job.id]
                self._by_key.pop((job.card.owner, job.card.key), None)
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
        for lane in Lane:
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
            limit = self._limits.urgent_jobs if job.card.lane.urgent else self._limits.running_jobs
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
            batches = job.batches(self._prepare, self._engine, self._assembling)
            for batch in batches:
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
