"""One job: its events, where the user looks, and its end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from isoline_client.connection import Connection
from isoline_client.errors import ClientError, NothingMore
from isoline_client.events import Event, typed
from isoline_client.options import Json
from isoline_client.retry import Listener, Stop, follow
from isoline_client.transport import Lines


class Job:
    """One job on the server."""

    def __init__(self, server: Connection, job_id: str, position: int) -> None:
        """Do not call this; use `Client.submit` or `Client.job`."""
        self.server = server
        self.id = job_id
        self.position = position
        """The number of jobs before it in the queue when it was submitted."""
        self._path = f"/v1/jobs/{job_id}"
        self._lock = threading.Lock()
        self._outdated = threading.Event()
        """Set when a later focus or slice replaces the one being sent."""

    def events(
        self,
        after: int = -1,
        *,
        format: str | None = None,  # noqa: A002
        stop: Stop | None = None,
        listener: Listener | None = None,
    ) -> Iterator[Event]:
        """Yield every event after number `after` to the end of the job, each once, in order.

        A lost connection is taken up again where it broke off; `listener` hears of it, or else that
        of the client. Leaving the loop cancels nothing, nor does `stop`, a `threading.Event`: set,
        it ends a pause at once and the loop at the next sign of life. Raises ClientError when the
        server stays away or does not know the job any more.
        """
        return typed(self.events_json(after, format=format, stop=stop, listener=listener))

    def events_json(
        self,
        after: int = -1,
        *,
        format: str | None = None,  # noqa: A002
        stop: Stop | None = None,
        listener: Listener | None = None,
    ) -> Iterator[Json]:
        """Yield the events as the JSON objects of the protocol, those not known here too."""
        patience = self.server.policy.stream_seconds
        attempts = self.server.attempts(patience, stop=stop, listener=listener)
        return follow(attempts, lambda seq: self._lines(seq, format), after)

    def lines(self, after: int = -1, *, format: str | None = None) -> Lines:  # noqa: A002
        """Yield the lines of the events as they arrive, for a server that relays them.

        Nothing is retried. Closing the generator closes the connection. Raises ClientError.
        """
        with contextlib.suppress(NothingMore):
            yield from self._lines(after, format)

    def state(self) -> Json:
        """Return the state and progress of the job, as in the protocol."""
        return self.server.ask("GET", self._path)

    def focus(self, x: float, y: float) -> None:
        """Move the focus to a point in image pixels: the tiles nearest to it are computed first.

        While it is being retried, a later `focus` or `look` replaces it.
        """
        self._look({"focus": [x, y]})

    def look(self, slice: int | Mapping[str, Any]) -> None:  # noqa: A002
        """Move the focus to a slice of the volume: k, or its `instance` and `frame`."""
        self._look({"slice": slice})

    def cancel(self) -> None:
        """Cancel the job; the results so far are kept."""
        self.server.ask("DELETE", self._path)

    def _lines(self, after: int, dialect: str | None) -> Lines:
        form = f"&format={dialect}" if dialect else ""
        return self.server.http.lines("GET", f"{self._path}/events?after={after}{form}")

    def _look(self, place: Json) -> None:
        with self._lock:
            self._outdated.set()
            self._outdated = outdated = threading.Event()
        try:
            self.server.ask("PATCH", self._path, place, stop=outdated)
        except ClientError as error:
            if not (error.is_passing and outdated.is_set()):
                raise
