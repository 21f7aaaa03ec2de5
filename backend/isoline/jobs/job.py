"""One job: its directory, its journal, and any number of readers.

On disk, a job is a directory with three files: `request.json`, the request as received;
`card.json`, a summary of the job; and `journal`. That is enough to continue after a restart: a job
that has ended is listed and replayed, any other resumes where its journal ends. An empty file,
`cancelled`, says that a job shall not continue.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
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
from isoline.domain.events import Cancelled, Contours, Done, Event, Failed, Progress, Started
from isoline.engines.engine import Agenda, Engine
from isoline.errors import Broken, NotSupported, Unreadable, failure_of
from isoline.geometry.grid import XY
from isoline.geometry.volume_grid import SliceName
from isoline.jobs.journal import JournalReader, JournalWriter
from isoline.pipeline.kinds import Lane, Plan
from isoline.pipeline.looking import check_look
from isoline.pipeline.succession import NOTHING, Provisional, Shown, succeed

log = logging.getLogger(__name__)

REQUEST, CARD, JOURNAL, CANCELLED = "request.json", "card.json", "journal", "cancelled"
FSYNC_MS = 500
"""How old events of a lasting job may get before they are forced to disk."""


class State(str, Enum):
    """The state of a job."""

    QUEUED = "queued"
    PARKED = "parked"
    """Waiting after a restart until a caller proves again that they may read its image."""
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
    """A summary of a job, available without reading its journal."""

    owner: str
    share: str
    """A secret that grants its bearer the owner's rights to the job."""
    created: float
    """In seconds since 1970, like all times here."""
    image: str
    model: str
    format: str
    tiles: int
    lasting: bool
    """Whether it continues without readers, and after a restart."""
    lane: Lane
    parks: bool = False
    """Whether it loses its credentials in a restart, since they are never written to disk."""
    state: State = State.QUEUED
    ended: float | None = None
    tiles_done: int = 0
    objects: int = 0
    key: str = ""
    """The Idempotency-Key of its submission."""
    replaces: str = ""
    """The id of the earlier job whose results it replaces."""
    last_seq: int | None = None
    """The number of its last event, None until it has ended."""
    unsaid: tuple[str, str, str] | None = None
    """Code, message and remedy of a failure that could not be written to the journal."""

    @classmethod
    def of(
        cls, plan: Plan, *, owner: str, lasting: bool, parks: bool, key: str, replaces: str
    ) -> Card:
        """Return the card of a new job for `plan`."""
        return cls(
            owner=owner,
            share=secrets.token_urlsafe(18),
            created=time.time(),
            image=plan.started.image,
            model=plan.started.scope.model,
            format=plan.format,
            tiles=plan.tile_count,
            lasting=lasting,
            lane=plan.lane,
            parks=parks,
            key=key,
            replaces=replaces,
        )

    @classmethod
    def read(cls, path: Path) -> Card:
        """Read a card. Raises OSError, ValueError or TypeError if there is none."""
        fields = orjson.loads(path.read_bytes())
        fields["state"], fields["lane"] = State(fields["state"]), Lane(fields["lane"])
        fields["unsaid"] = fields["unsaid"] and tuple(fields["unsaid"])
        return cls(**fields)

    def write(self, path: Path) -> None:
        """Write the card atomically."""
        temporary = path.with_suffix(".part")
        temporary.write_bytes(orjson.dumps(self))
        temporary.replace(path)


class Job:
    """One request being processed, as seen from outside; only its runner changes it."""

    def __init__(self, directory: Path, card: Card, plan: Plan | None = None) -> None:
        """Represent the job in `directory`; a new job has a `plan`, one after a restart does not.

        Raises OSError if the journal of a new job cannot be opened.
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
        self._settled = threading.Event()
        """Set when it has ended and nothing more is written."""
        if card.state.ended:
            self._settled.set()
        elif (directory / CANCELLED).exists():
            self._cancelled.set()
        self._is_down = False
        """Whether it shall take no tile, even if it is not prepared yet."""
        if plan is not None:
            self._make_agenda(plan)
            self._journal = self._writer()

    @property
    def request(self) -> bytes:
        """The request as received. Raises OSError."""
        return (self.directory / REQUEST).read_bytes()

    @property
    def started(self) -> Started:
        """The first event of the job. Raises Broken if the job ended before it could start."""
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
        """Whether its cancellation has been requested."""
        return self._cancelled.is_set()

    @property
    def seconds_waiting(self) -> float:
        """How long it has been waiting, or had to wait, for its turn."""
        return max(0.0, (self.began or self.ended or time.time()) - self.card.created)

    @property
    def waits_for(self) -> Literal["a token", "a place", "tiles"] | None:
        """What it is waiting for: "a token", "a place" among the running jobs, or "tiles"."""
        if self.state is State.PARKED:
            return "a token"
        if self.state is State.QUEUED:
            return "a place"
        return None if self.state.ended else "tiles"

    @property
    def last_seq(self) -> int | None:
        """The number of its latest event, None before the first."""
        if self._journal is None:
            return self.card.last_seq
        return self._journal.last_seq if self._journal.last_seq >= 0 else None

    def is_over_after(self, seq: int) -> bool:
        """Return whether the job has ended and event `seq` was its last."""
        return self.state.ended and self.last_seq is not None and seq >= self.last_seq

    def focus(self, at: XY | SliceName | int) -> None:
        """Move the focus to a point, in image coordinates, or to a slice.

        Has no effect on a job that has ended. Raises NotSupported or BadRegion if the image does
        not have it.
        """
        plan, agenda = self._plan, self._agenda
        if plan is not None and agenda is not None:
            plan.look(agenda, at)
            return
        with contextlib.suppress(Broken, OSError):  # it has not started, so nothing is known yet
            check_look(self.started, at)

    def stop(self) -> None:
        """Make the job end within one tile, even if the server crashes before."""
        if not self.state.ended:
            with contextlib.suppress(OSError):  # a full disk does not keep it from ending now
                (self.directory / CANCELLED).touch()
        self._cancelled.set()
        self.put_down()

    def put_down(self) -> None:
        """Drop its pending tiles, and those that it would get."""
        self._is_down = True
        agenda = self._agenda
        if agenda is not None:
            agenda.cancel()

    def follow(self, after: int, wait: float) -> Iterator[Batch | None]:
        """Yield the batches after event `after` until the end; None whenever `wait` seconds pass.

        If the journal is damaged or its end could not be written, the last event is Failed.
        """
        last_seq = after
        try:
            for batch in JournalReader(self._path, self._journal).follow(after, wait):
                if batch is None and self._is_truncated:
                    unsaid = self.card.unsaid or ("Broken", "the end of the journal is lost", "")
                    yield Batch(last_seq + 1, None, (Failed(*unsaid),))
                    return
                if batch is not None:
                    last_seq = max(last_seq, batch.last_seq)
                yield batch
        except Broken as error:
            yield Batch(last_seq + 1, None, (Failed(*failure_of(error)),))
        except FileNotFoundError:
            yield Batch(last_seq + 1, None, (Failed("UnknownJob", "the job has been deleted"),))

    @property
    def _is_truncated(self) -> bool:
        """Whether the journal is incomplete and nothing more will be written to it."""
        return self.card.unsaid is not None or (self.state.ended and self._journal is None)

    def wait(self, seconds: float) -> bool:
        """Return whether it has ended and its journal is complete, within so many seconds."""
        return self._settled.wait(seconds)

    def check_replaceable(self, plan: Plan) -> None:
        """Check that the results of `plan` can replace those of this job. Raises NotSupported."""
        try:
            started = self.started
        except Broken:
            return  # it has no results
        if started.scope.image != plan.started.scope.image:
            raise NotSupported(
                f"replaces: job {self.id} is on another image, {started.image}",
                "name a job on the same image",
            )
        if (started.kind == "mask") != (plan.started.kind == "mask"):
            raise NotSupported(
                f"replaces: job {self.id} finds {started.kind}, not {plan.started.kind}",
                "leave it out, and remove the earlier results in the viewer",
            )

    def shown(self, earlier: Shown) -> Shown:
        """Return what viewers show of it and of the `earlier` results whose place it took."""
        return Shown.after(JournalReader(self._path).batches(), earlier)

    # Called by the runner

    def prepare(self, plan: Plan) -> None:
        """Restore the plan after a restart."""
        self._plan = plan.named(self.id)
        self._make_agenda(self._plan)

    def batches(
        self,
        prepare: Callable[[bytes], Plan],
        engine: Engine,
        turn: AbstractContextManager[object],
        earlier: Shown = NOTHING,
    ) -> Iterable[Batch]:
        """Yield the remaining batches, in place of `earlier`; `turn` is passed to `Plan.events`.

        Raises Broken if the journal is damaged or cannot be opened, and what `prepare` and the
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
                last = (*started, *self._cleared(earlier), cancelled)
                yield Batch(journal.last_seq + 1, None, last)
            return
        if self._plan is None:
            self.prepare(prepare(self.request))
        assert self._plan is not None
        assert self._agenda is not None
        past: Iterable[Batch] = ()
        if journal.last_seq >= 0:
            log.info("job %s continues after event %d", self.id, journal.last_seq)
            past = self._past(self._plan)
        turn = nullcontext() if self.card.lane.urgent else turn
        yield from succeed(self._plan, earlier, engine, self._agenda, past, turn)

    def _cleared(self, earlier: Shown) -> Iterable[Event]:
        """Return the events that take back what is provisional in the journal."""
        return Provisional(JournalReader(self._path).batches()).cleared(earlier.slices)

    def _open(self) -> JournalWriter:
        if self._journal is None:
            try:
                self._journal = self._writer()
            except OSError as error:
                raise Broken(
                    f"the journal of job {self.id} cannot be written: {error.strerror}",
                    "make sure that the jobs directory is writable",
                ) from error
        return self._journal

    def _writer(self) -> JournalWriter:
        # a job that a restart would end need not survive a power failure
        return JournalWriter(self._path, fsync_ms=FSYNC_MS if self.card.lasting else None)

    def _past(self, plan: Plan) -> Iterator[Batch]:
        """Yield the batches of an earlier run and restore the state from them.

        Raises Unreadable if the image or the model has changed.
        """
        for batch in JournalReader(self._path).batches():
            for event in batch.events[:1]:
                if isinstance(event, Started) and event.scope != plan.started.scope:
                    raise Unreadable(
                        f"{event.image} or the model has changed since the job started",
                        "submit the job again",
                    )
            self._note(batch)
            yield batch

    def record(self, batch: Batch) -> None:
        """Update the state from `batch` and write it to the journal. Raises Broken."""
        # the state first: a reader of the last event must not find the job still running
        self._note(batch)
        self._open().append(batch)

    def fail(self, error: Exception, earlier: Shown = NOTHING) -> None:
        """End the job with an error, even if the journal can no longer be read or written."""
        failed = Failed(*failure_of(error))
        try:
            last_seq = self._open().last_seq
            self.record(Batch(last_seq + 1, None, (*self._cleared(earlier), failed)))
        except (ValueError, OSError, Broken):
            self.state, self.ended = State.FAILED, time.time()
            unsaid = (failed.code, failed.message, failed.remedy)
            self.card = dataclasses.replace(self.card, unsaid=unsaid)

    def close(self) -> None:
        """Force the journal to disk, and write the card of a job that has ended."""
        if self._journal is not None:
            with contextlib.suppress(OSError):  # nothing can be done about a full disk
                self._journal.close()
        if not self.state.ended:
            return
        self._settled.set()
        # the tiles of a slide and initial masks may be large and are no longer needed
        self._plan = self._agenda = None
        self.card = dataclasses.replace(
            self.card,
            state=self.state,
            ended=self.ended,
            tiles=self.progress.tiles,
            tiles_done=self.progress.tiles_done,
            objects=self.objects,
            last_seq=self.last_seq,
        )
        try:
            self.card.write(self.directory / CARD)
        except OSError as error:
            log.error("the card of job %s cannot be written: %s", self.id, error)

    @property
    def _path(self) -> Path:
        return self.directory / JOURNAL

    def _make_agenda(self, plan: Plan) -> None:
        self._agenda = agenda = plan.agenda(self.card.owner)
        if self._is_down:  # asked after the agenda is there: `put_down` may run at the same time
            agenda.cancel()

    def _note(self, batch: Batch) -> None:
        for event in batch.events:
            if isinstance(event, Progress):
                self.progress = event
            elif isinstance(event, Contours) and not event.provisional:
                self.objects += len(event.objects)
            elif type(event) in _END:
                self.state, self.ended = _END[type(event)], time.time()
