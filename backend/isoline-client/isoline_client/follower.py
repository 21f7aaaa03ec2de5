"""Following a job in the background, for viewers whose own thread must not block."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

from isoline_client.errors import ClientError
from isoline_client.events import Event
from isoline_client.job import Job
from isoline_client.retry import Listener

ROOM = 64
"""The largest number of waiting events; no more are read until some are handed out."""


class Follower:
    """Reads the events of one job in its own thread. Thread-safe.

        with Follower(job) as follower:
            while not follower.is_over:
                for event in follower.drain(0.1):
                    ...
        if follower.error:
            ...

    A lost connection is restored. Stopping does not cancel the job; see `Job.cancel`.
    """

    def __init__(
        self,
        job: Job,
        after: int = -1,
        format: str | None = None,  # noqa: A002
        *,
        on_lost: Callable[[str, float], object] | None = None,
        on_back: Callable[[], object] | None = None,
        room: int = ROOM,
    ) -> None:
        """Follow `job` after event number `after`, in the dialect `format`.

        `on_lost` is called with the reason and the seconds until the next attempt when the
        connection is lost, and `on_back` when it is restored, both in the thread that reads. The
        defaults are those of the client's listener. At most `room` events are held.
        """
        default = job.server.listener
        self._job = job
        self._format = format
        self._listener = Listener(on_lost or default.on_lost, on_back or default.on_back)
        self._room = room
        self._seq = after
        self._error: ClientError | None = None
        self._waiting: deque[Event] = deque()
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._has_ended = False
        self._thread = threading.Thread(target=self._read, name=f"isoline-{job.id}", daemon=True)

    def start(self) -> Follower:
        """Start reading, and return self. May be called once."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop reading, and discard the events that have not been handed out.

        May be called from any thread, any number of times. Returns at once, and so does a waiting
        `get`.
        """
        self._stopped.set()
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> Event | None:
        """Return the next event, or None after `timeout` seconds without one or at the end."""
        with self._changed:
            self._changed.wait_for(self._has_news, timeout)
            return self._hand_out(1)[0] if self._waiting else None

    def drain(self, seconds: float = 0.0) -> list[Event]:
        """Return all events that have arrived; wait at most `seconds` for the first.

        The default suits the timer of a user interface.
        """
        with self._changed:
            self._changed.wait_for(self._has_news, seconds)
            return self._hand_out(len(self._waiting))

    @property
    def job(self) -> Job:
        """The job that is followed."""
        return self._job

    @property
    def seq(self) -> int:
        """The number of the last event that was handed out, after which to resume."""
        return self._seq

    @property
    def is_over(self) -> bool:
        """Whether no more events will be handed out."""
        with self._changed:
            return self._stopped.is_set() or (self._has_ended and not self._waiting)

    @property
    def error(self) -> ClientError | None:
        """The reason why the events ended before the job did; None otherwise, or after `stop`."""
        return self._error if self.is_over and not self._stopped.is_set() else None

    def __enter__(self) -> Follower:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _has_news(self) -> bool:
        return bool(self._waiting) or self._has_ended or self._stopped.is_set()

    def _hand_out(self, count: int) -> list[Event]:
        events = [self._waiting.popleft() for _ in range(count)]
        if events:
            self._seq = events[-1].seq
            self._changed.notify_all()
        return events

    def _read(self) -> None:
        try:
            for event in self._job.events(
                self._seq, format=self._format, stop=self._stopped, listener=self._listener
            ):
                self._put(event)
        except ClientError as error:
            self._error = error
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _put(self, event: Event) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._waiting) < self._room or self._stopped.is_set()
            )
            if not self._stopped.is_set():
                self._waiting.append(event)
                self._changed.notify_all()
