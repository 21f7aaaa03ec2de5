"""When to retry, and for how long: "Trying again" in isoline's protocol.

Independent of the HTTP library: an attempt is a function that raises `ClientError`, and a stream is
a function that takes the number of the last event and yields the lines after it.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Protocol, TypeVar

from isoline_client.errors import ClientError, NothingMore
from isoline_client.events import ENDS, parse_event
from isoline_client.options import Json

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 8.0
SPREAD = 0.25
"""The random fraction of a pause that is added or subtracted, so that clients which lost their
connection together do not reconnect together."""
SPREAD_OF_RETRY_AFTER = 0.1
"""The random fraction that is added to a pause requested by the server."""


@dataclass(frozen=True)
class Policy:
    """The timeouts and pauses of a client; the defaults are the protocol's."""

    silence_seconds: float = 15.0
    """A connection on which nothing arrives for this long is considered lost."""
    request_seconds: float = 30.0
    """A short request is given up if its next attempt would begin this long after the first."""
    stream_seconds: float = 300.0
    """A stream is given up if its next attempt would begin this long after the last sign of life.
    """
    now: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = random.random
    """A random number from 0 to 1."""

    def pause(self, attempt: int, retry_after: float = 0.0) -> float:
        """Return the pause in seconds before retry number `attempt` in a row, from 1."""
        if retry_after > 0:
            return retry_after * (1 + SPREAD_OF_RETRY_AFTER * self.draw())
        doubled = FIRST_PAUSE_SECONDS * 2.0 ** min(attempt - 1, 16)
        return min(doubled, LONGEST_PAUSE_SECONDS) * (1 - SPREAD + 2 * SPREAD * self.draw())


PROTOCOL = Policy()
ONCE = Policy(request_seconds=0, stream_seconds=0)
"""A policy without retries, e.g. to wait for a server to start."""


class Stop(Protocol):
    """A signal that ends a pause early, such as a `threading.Event`."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for at most `timeout` seconds, or until it is set; return whether it is set."""


def _say_nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Listener:
    """Callbacks for a lost and a restored connection."""

    on_lost: Callable[[str, float], object] = _say_nothing
    """Called before each pause, with the reason and the seconds until the next attempt."""
    on_back: Callable[[], object] = _say_nothing
    """Called at the first sign of life after a pause."""


class Attempts:
    """The attempts at one request: how many have failed in a row, and since when."""

    def __init__(
        self,
        policy: Policy,
        patience_seconds: float,
        stop: Stop | None = None,
        listener: Listener | None = None,
    ) -> None:
        """Begin the first attempt; the request is given up `patience_seconds` from now."""
        self._policy = policy
        self._patience = patience_seconds
        self._stop = stop or threading.Event()
        self._listener = listener or Listener()
        self._failed = 0
        self._since = policy.now()

    @property
    def is_stopped(self) -> bool:
        return self._stop.is_set()

    def alive(self) -> None:
        """Record a sign of life, which resets the count and the time limit."""
        if self._failed:
            self._listener.on_back()
        self._failed = 0
        self._since = self._policy.now()

    def again(self, error: ClientError) -> bool:
        """Pause, and return whether to try again after `error`.

        Returns false without a pause if the next attempt would be too late, and false once `stop`
        is set. Raises `error` if it is final.
        """
        if not error.is_passing:
            raise error
        self._failed += 1
        seconds = self._policy.pause(self._failed, error.retry_after)
        if self._policy.now() + seconds - self._since > self._patience or self.is_stopped:
            return False
        self._listener.on_lost(str(error), seconds)
        return not self._stop.wait(seconds)


def ask(attempts: Attempts, attempt: Callable[[], T]) -> T:
    """Call `attempt` until it succeeds, and return its result. Raises the last ClientError."""
    while True:
        try:
            answer = attempt()
        except ClientError as error:
            if not attempts.again(error):
                raise
        else:
            attempts.alive()
            return answer


def follow(
    attempts: Attempts, read: Callable[[int], Generator[bytes, None, None]], after: int = -1
) -> Iterator[Json]:
    """Yield the events after number `after` to the end of the job, each once, in order.

    `read(after)` opens the stream and yields its complete lines, including heartbeats. The iterator
    ends early if `attempts` is stopped. Raises ClientError if the stream is refused or given up.
    """
    while True:
        lost = ClientError(0, "Lost", "the server closed the stream")
        try:
            with closing(read(after)) as lines:
                for line in lines:
                    attempts.alive()
                    if attempts.is_stopped:
                        return
                    event = _event(line)
                    if event is not None and event["seq"] > after:
                        after = event["seq"]
                        yield event
                        if event["event"] in ENDS:
                            return
                        attempts.alive()  # the time that the caller takes is not silence
        except NothingMore:
            return
        except ClientError as error:
            lost = error
        if not attempts.again(lost):
            if attempts.is_stopped:
                return
            what = f"the events broke off after number {after}: {lost.what}"
            raise ClientError(
                lost.status, "Lost", what, f"call events(after={after}) later"
            ) from lost


def answer(
    attempts: Attempts, read: Callable[[], Generator[bytes, None, None]], repeatable: bool
) -> Iterator[Json]:
    """Yield the events of a request whose response is the event stream, to its end.

    `read()` sends the request and yields the lines of the response. If the response breaks off, a
    `repeatable` request is sent again, any other only before its first event; events that were
    already yielded are skipped. Ends early, closing the connection, if `attempts` is stopped.
    Raises ClientError if the request is refused or given up.
    """
    yielded: set[str] = set()
    while True:
        lost = ClientError(0, "Lost", "the server closed the stream")
        try:
            with closing(read()) as lines:
                for line in lines:
                    if attempts.is_stopped:
                        return
                    event = _event(line)
                    if event is None:
                        continue
                    if (content := _content(event)) not in yielded:
                        yielded.add(content)
                        yield event
                    if event["event"] in ENDS:
                        attempts.alive()
                        return
        except ClientError as error:
            lost = error
        if yielded and not repeatable:
            what = f"the events broke off: {lost.what}"
            raise ClientError(lost.status, "Lost", what, "submit() can be resumed") from lost
        if not attempts.again(lost):
            if attempts.is_stopped:
                return
            raise lost


def _content(event: Json) -> str:
    """Return an event without its number and job, to compare events of equal requests."""
    said = {key: value for key, value in event.items() if key not in ("seq", "job")}
    return json.dumps(said, sort_keys=True)


def _event(line: bytes) -> Json | None:
    if not line.strip():
        return None  # a heartbeat
    try:
        return parse_event(line)
    except ValueError as error:
        raise ClientError(0, "Lost", str(error)) from error


def retry_after_seconds(header: str | None, now: float) -> float:
    """Return the seconds in a `Retry-After` header (RFC 9110, 10.2.3); `now` is a Unix time.

    0 if there is no header, if it is invalid, or if its date has passed.
    """
    if header is None:
        return 0.0
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, TypeError):
        return 0.0
    return max(0.0, moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp() - now)
