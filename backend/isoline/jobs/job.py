"""One job: its directory, its journal, and as many readers as want to follow.

On disk a job is a directory with three files: `request.json`, the request as it came; `card.json`,
what is known of the job without reading further; and `journal`. That is enough to go on after a
restart: a job that ended is listed and replayed, another takes up where the journal ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

import orjson

from isoline.domain.batch import Batch
from isoline.domain.events import Cancelled, Contours, Done, Failed, Progress, Started
from isoline.engines.engine import Agenda, Engine
from isoline.errors import Broken, Unreadable, failure_of
from isoline.geometry.grid import XY
from isoline.geometry.volume_grid import SliceName
from isoline.jobs.journal import JournalReader, JournalWriter
from isoline.pipeline.kinds import Lane, Plan

log = logging.getLogger(__name__)

REQUEST, CARD, JOURNAL = "request.json", "card.json", "journal"
FSYNC_MS = 500
"""How old what a lasting job has said may get before it is forced to the disk."""


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
    lane: Lane
    parks: bool = False
    """Whether a restart loses the rights that it was started with: they are never written."""
    state: State = State.QUEUED
    ended: float | None = None
    tiles_done: int = 0
    objects: int = 0
    key: str = ""
    """The Idempotency-Key that it was submitted with."""
    unsaid: tuple[str, str, str] | None = None
    """Code, message and remedy of the failure that the journal could not take."""

    @classmethod
    def read(cls, path: Path) -> Card:
        """Read a card. Raises OSError, ValueError or TypeError when there is none."""
        said = orjson.loads(path.read_bytes())
        said["state"], said["lane"] = State(said["state"]), Lane(said["lane"])
        said["unsaid"] = said["unsaid"] and tuple(said["unsaid"])
        return cls(**said)

    def write(self, path: Path) -> None:
        """Write the card whole or not at all."""
        temporary = path.with_suffix(".part")
        temporary.write_bytes(orjson.dumps(self))
        temporary.replace(path)


class Job:
    """One request on its way, seen from outside; the runner alone changes it."""

    def __init__(self, directory: Path, card: Card, plan: Plan | None = None) -> None:
        """Know the job in `directory`; it is `prepared` when it comes and not after a restart.

        Raises OSError when the journal of a new job cannot be opened.
        """
        self.id = directory.name
        self.directory = directory
        self.card = card
        self.state = card.state
        if not card.state.ended:
            self.state = State.PARKED if card.parks and plan is None else State.QUEUED
        self.began: float | None = None
        self.ended = card.ended
        self.progress = Progress(card.tiles_done, card.tiles, None)
        self.objects = card.objects
        self._plan = plan
        self._agenda: Agenda | None = None
        self._journal: JournalWriter | None = None
        self._cancelled = threading.Event()
        if plan is not None:
            self._make_agenda(plan)
            self._journal = self._writer()

    @property
    def request(self) -> bytes:
        """The request as it came. Raises OSError."""
        return (self.directory / REQUEST).read_bytes()

    @property
    def started(self) -> Started:
        """The first event of the job. Raises Broken when it ended before it could start."""
        plan = self._plan
        if plan is not None:
            return plan.started
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
    def waits_for(self) -> Literal["a token", "a place", "tiles"] | None:
        """What keeps it from going on: "a token", "a place" among those that run, "tiles"."""
        if self.state is State.PARKED:
            return "a token"
        if self.state is State.QUEUED:
            return "a place"
        return None if self.state.ended else "tiles"

    def focus(self, at: XY | SliceName | int) -> None:
        """Look at a point, in image coordinates, or at a slice from now on.

        A job that has ended cannot. Raises NotSupported or BadRegion for what it has not.
        """
        plan, agenda = self._plan, self._agenda
        if plan is None or agenda is None:
            return
        plan.look(agenda, at)

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
            yield Batch(heard + 1, None, (Failed(*failure_of(error)),))
        except FileNotFoundError:
            yield Batch(heard + 1, None, (Failed("UnknownJob", "the job has been deleted"),))

    @property
    def _says_no_more(self) -> bool:
        """Whether nothing will be written to a journal that has no end."""
        return self.card.unsaid is not None or (self.state.ended and self._journal is None)

    # The runner's side

    def prepare(self, plan: Plan) -> None:
        """Know again what the job is about, after a restart."""
        self._plan = plan.named(self.id)
        self._make_agenda(self._plan)

    def batches(
        self,
        prepare: Callable[[bytes], Plan],
        engine: Engine,
        turn: AbstractContextManager[object],
    ) -> Iterable[Batch]:
        """Yield what is still to be told; `turn` is as `Plan.events` takes it.

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
                started = [self.started] if journal.last_seq < 0 and self._plan else []
                yield Batch(journal.last_seq + 1, None, (*started, cancelled))
            return
        if self._plan is None:
            self.prepare(prepare(self.request))
        assert self._plan is not None
        assert self._agenda is not None
        past: Iterable[Batch] = ()
        if journal.last_seq >= 0:
            log.info("job %s goes on after event %d", self.id, journal.last_seq)
            past = self._past(self._plan)
        turn = nullcontext() if self.card.lane.urgent else turn
        yield from self._plan.events(engine, self._agenda, past, turn)

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

    def _past(self, plan: Plan) -> Iterator[Batch]:
        """Yield what an earlier run gave and take note of it.

        Raises Unreadable when the image or the model is no longer what it was.
        """
        for batch in JournalReader(self._path).batches():
            for event in batch.events[:1]:
                if isinstance(event, Started) and event.scope != plan.started.scope:
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
        failed = Failed(*failure_of(error))
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
        # the tiles of a slide, and what prompts correct, may be large and are done with
        self._plan = self._agenda = None
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

    def _make_agenda(self, plan: Plan) -> None:
        self._agenda = plan.agenda(self.card.owner)
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
