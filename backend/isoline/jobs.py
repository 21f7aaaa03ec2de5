"""Jobs: a queue, a journal each, and as many readers as want to follow.

On disk a job is a directory with two files: `request.json`, the request as it came, and `journal`.
That is enough to go on after a restart.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from isoline import pipeline
from isoline.config import Limits
from isoline.engines.base import Agenda, Engine
from isoline.errors import Busy, IsolineError, UnknownJob
from isoline.events import Cancelled, Contours, Done, Failed, Progress
from isoline.geometry import XY
from isoline.journal import Batch, JournalReader, JournalWriter
from isoline.pipeline import Prepared
from isoline.surveys import Surveys

log = logging.getLogger(__name__)

REQUEST, JOURNAL = "request.json", "journal"


class State(str, Enum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self not in (State.QUEUED, State.RUNNING)


_END = {Done: State.DONE, Failed: State.FAILED, Cancelled: State.CANCELLED}


class Job:
    """One request on its way, seen from outside; the runner alone changes it."""

    def __init__(self, directory: Path, prepared: Prepared) -> None:
        self.id = directory.name
        self.directory = directory
        self.prepared = prepared
        self.agenda = Agenda(prepared.lattice, prepared.tiles, prepared.focus)
        self.state = State.QUEUED
        self.created = time.time()
        self.ended: float | None = None
        self.progress = Progress(0, len(prepared.tiles), None)
        self.objects = 0
        self.journal = JournalWriter(directory / JOURNAL)

    def focus(self, point: XY) -> None:
        """Look at `point`, in image coordinates, from now on."""
        self.agenda.focus(self.prepared.task.grid.point(point))

    def follow(self, after: int, wait: float) -> Iterator[Batch | None]:
        """Yield the batches after event `after` to the end; None whenever `wait` seconds pass."""
        return JournalReader(self.directory / JOURNAL, self.journal).follow(after, wait)

    def record(self, batch: Batch) -> None:
        """Take note of what `batch` says and write it to the journal."""
        # first the state: who reads the last event must not find the job still running
        for event in batch.events:
            if isinstance(event, Progress):
                self.progress = event
            elif isinstance(event, Contours) and not event.provisional:
                self.objects += len(event.objects)
            elif type(event) in _END:
                self.state, self.ended = _END[type(event)], time.time()
        self.journal.append(batch)


class Jobs:
    """Every job of this server."""

    def __init__(self, directory: Path, engine: Engine, surveys: Surveys, limits: Limits) -> None:
        """Keep jobs below `directory`; `engine` runs their tiles."""
        self._directory = directory
        self._engine = engine
        self._surveys = surveys
        self._limits = limits
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._queue: list[Job] = []
        self._running: set[Job] = set()
        directory.mkdir(parents=True, exist_ok=True)

    def submit(self, request: bytes, prepared: Prepared) -> Job:
        """Queue `prepared`, which came as `request`.

        Raises Busy when the queue is full.
        """
        self._sweep()
        with self._lock:
            if len(self._queue) >= self._limits.queued_jobs:
                raise Busy(f"{len(self._queue)} jobs wait already", "try again in a minute")
        directory = self._directory / secrets.token_hex(12)
        directory.mkdir()
        (directory / REQUEST).write_bytes(request)
        started = dataclasses.replace(prepared.started, job=directory.name)
        job = Job(directory, dataclasses.replace(prepared, started=started))
        with self._lock:
            self._jobs[job.id] = job
            self._queue.append(job)
            self._start_waiting()
        return job

    def get(self, job_id: str) -> Job:
        try:
            return self._jobs[job_id]
        except KeyError:
            raise UnknownJob(
                f"no job {job_id!r}", "it never was, or has outlived its time to live"
            ) from None

    def all(self) -> list[Job]:
        """Return every job, the oldest first."""
        return list(self._jobs.values())

    def position(self, job: Job) -> int:
        """Return how many jobs wait before `job`."""
        with self._lock:
            return self._queue.index(job) if job in self._queue else 0

    def cancel(self, job: Job) -> None:
        """Stop `job`; what it has found stays. A job that has ended stays as it ended."""
        job.agenda.cancel()
        with self._lock:
            if job in self._queue:
                self._queue.remove(job)
                self._run_in_thread(job)  # to say that it was cancelled

    def close(self) -> None:
        """Stop what runs."""
        for job in self.all():
            job.agenda.cancel()
        for thread in threading.enumerate():
            if thread.name.startswith("job-"):
                thread.join(5)

    def _start_waiting(self) -> None:
        while self._queue and len(self._running) < self._limits.running_jobs:
            self._run_in_thread(self._queue.pop(0))

    def _run_in_thread(self, job: Job) -> None:
        self._running.add(job)
        threading.Thread(target=self._run, args=(job,), name=f"job-{job.id}", daemon=True).start()

    def _run(self, job: Job) -> None:
        job.state = State.RUNNING
        last = -1
        try:
            for batch in pipeline.events(job.prepared, self._engine, self._surveys, job.agenda):
                job.record(batch)
                last = batch.last_seq
        except Exception as error:
            log.exception("job %s failed", job.id)
            job.record(Batch(last + 1, None, (_failure(error),)))
        finally:
            job.journal.close()
            with self._lock:
                self._running.discard(job)
                self._start_waiting()

    def _sweep(self) -> None:
        """Forget jobs that ended long ago."""
        oldest = time.time() - self._limits.job_hours * 3600
        with self._lock:
            old = [job for job in self._jobs.values() if job.ended and job.ended < oldest]
            for job in old:
                del self._jobs[job.id]
        for job in old:
            shutil.rmtree(job.directory, ignore_errors=True)


def _failure(error: Exception) -> Failed:
    if isinstance(error, IsolineError):
        return Failed(error.code, error.what, error.remedy)
    return Failed("Broken", f"{type(error).__name__}: {error}", "see the server's log")
