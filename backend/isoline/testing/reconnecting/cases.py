"""The cases: where the server fails, how, and how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Place: TypeAlias = Literal["submit", "events", "focus"]

RETRY_AFTER = 3


@dataclass(frozen=True)
class Refusal:
    """Another status than the one that was hoped for."""

    status: int
    retry_after: int | None = None
    """Seconds, sent as `Retry-After`."""
    is_date: bool = False
    """Whether it is sent as the date of that moment."""
    stands: bool = False
    """Whether whatever comes before `retry_after` has passed is refused as well."""

    def __str__(self) -> str:
        form = ", as a date" if self.is_date else ""
        wait = "" if self.retry_after is None else f" with Retry-After: {self.retry_after}{form}"
        return f"{self.status}{wait}"


@dataclass(frozen=True)
class Break:
    """A connection that fails before its answer has ended."""

    how: Literal["closed", "cut", "ended", "half a line", "not JSON", "silent"]
    """`closed`: without an answer. `cut`: in the middle of a line, of an answer that is no stream
    in the middle of its body. `ended`: properly, but too early; `half a line`: with one. `not
    JSON`: a line of something else, with the stream going on. `silent`: open without a byte."""
    events: int | None = None
    """Of a stream: how many events it sends before; None: it fails before its status."""

    def __str__(self) -> str:
        where = "" if self.events is None else f" after {self.events} events"
        return f"{self.how}{where}"


Fault: TypeAlias = Refusal | Break


@dataclass(frozen=True)
class Look:
    """Where the user looks once event number `after` has been taken up."""

    after: int
    focus: tuple[float, float]


@dataclass(frozen=True)
class Case:
    """One thing to get right. The n-th attempt at a place meets its n-th fault."""

    name: str
    why: str
    submit: Sequence[Fault] = ()
    events: Sequence[Fault] = ()
    focus: Sequence[Fault] = ()
    looks: Sequence[Look] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    """What the client is told in place of the protocol's limits."""
    forever: Place | None = None
    """Where the last fault stays."""
    repeats: int = 0
    """How many events a stream that is resumed sends again."""
    piece_bytes: int | None = None
    """The stream comes in pieces of this size."""
    heartbeats_seconds: float = 0.0
    """For how long nothing but heartbeats come before the last event."""

    def faults(self, place: Place) -> Sequence[Fault]:
        return {"submit": self.submit, "events": self.events, "focus": self.focus}[place]


_BUSY = Refusal(429, RETRY_AFTER)
_FULL = Refusal(503, RETRY_AFTER)
_FULL_UNTIL = Refusal(503, RETRY_AFTER, is_date=True)
_QUICK = {"silence_seconds": 2.0}
_LOOK = (Look(1, (5100, 6040.5)),)

CASES: tuple[Case, ...] = (
    # the slowest first: cases run side by side
    Case(
        "silence for 15 seconds",
        "a stream without a sign of life for 15 s is resumed",
        events=[Break("silent", 2)],
    ),
    # submitting
    Case("submit: 429", "it is left alone as long as it asks", submit=[_BUSY]),
    Case("submit: 503", "it is left alone as long as it asks", submit=[_FULL]),
    Case("submit: 503 until a date", "Retry-After may be an HTTP date", submit=[_FULL_UNTIL]),
    Case(
        "submit: cut answer",
        "the job was created: the same key finds it again",
        submit=[Break("cut")],
    ),
    Case(
        "submit: no answer",
        "the job was created: the same key finds it again",
        submit=[Break("closed")],
    ),
    Case(
        "submit: silence",
        "the job was created: the same key finds it again",
        submit=[Break("silent")],
        limits=_QUICK,
    ),
    Case(
        "submit: growing pauses",
        "pauses double from 0.25 s",
        submit=[Refusal(502), Refusal(503), Refusal(504), Break("closed")],
    ),
    Case("submit: refused", "another status is final", submit=[Refusal(422)]),
    Case(
        "submit: given up",
        "a short request is given up after its time",
        submit=[Refusal(503)],
        forever="submit",
        limits={"request_seconds": 2.0},
    ),
    Case(
        "submit: come back in a minute",
        "a pause that would reach beyond 30 s is not begun",
        submit=[Refusal(503, 60)],
        forever="submit",
    ),
    # the events
    Case("events: 429", "one 429 does not end a run", events=[_BUSY]),
    Case("events: 503", "it is left alone as long as it asks", events=[Break("ended", 2), _FULL]),
    Case("events: 503 until a date", "Retry-After may be an HTTP date", events=[_FULL_UNTIL]),
    Case("events: cut line", "a line that was cut is no line", events=[Break("cut", 3)]),
    Case(
        "events: half a line at the end",
        "a line without its end is no line, even where the answer ends properly",
        events=[Break("half a line", 2)],
    ),
    Case(
        "events: not JSON",
        "a line that is no JSON, as of a proxy, ends the stream",
        events=[Break("not JSON", 2)],
    ),
    Case(
        "events: early end",
        "a stream without the job's last event has not ended",
        events=[Break("ended", 1), Break("ended", 4)],
    ),
    Case("events: no answer", "it is asked again", events=[Break("closed"), Break("closed", 2)]),
    Case(
        "events: silence",
        "a stream without a sign of life is resumed",
        events=[Break("silent", 3)],
        limits=_QUICK,
    ),
    Case(
        "events: silence before the answer",
        "silence counts from the request, too",
        events=[Break("silent")],
        limits=_QUICK,
    ),
    Case(
        "events: pauses begin anew",
        "a sign of life starts the count again",
        events=[Refusal(502), Refusal(504), Refusal(502), Break("ended", 2), Refusal(502)],
    ),
    Case(
        "events: some come again",
        "an event that came before is not taken twice",
        events=[Break("ended", 3), Break("cut", 4)],
        repeats=2,
    ),
    Case(
        "events: in small pieces",
        "a line, and a letter, may come in two pieces",
        events=[Break("cut", 2)],
        piece_bytes=7,
    ),
    Case(
        "events: heartbeats alone",
        "a heartbeat is a sign of life",
        limits=_QUICK,
        heartbeats_seconds=5.0,
    ),
    Case("events: gone", "another status is final", events=[Break("ended", 2), Refusal(404)]),
    Case(
        "events: given up",
        "a stream is given up when its last sign of life is too long ago",
        events=[Break("ended", 2), Refusal(503)],
        forever="events",
        limits={"stream_seconds": 3.5},
    ),
    # looking elsewhere
    Case("focus: 429", "it is left alone as long as it asks", focus=[_BUSY], looks=_LOOK),
    Case("focus: 503", "it is left alone as long as it asks", focus=[_FULL], looks=_LOOK),
    Case("focus: cut answer", "it is sent again", focus=[Break("cut")], looks=_LOOK),
    Case("focus: no answer", "it is sent again", focus=[Break("closed")], looks=_LOOK),
    Case("focus: silence", "it is sent again", focus=[Break("silent")], looks=_LOOK, limits=_QUICK),
    Case(
        "focus: only the latest",
        "of several that were refused only the latest is sent again",
        focus=[Refusal(503, RETRY_AFTER, stands=True)],
        looks=(Look(1, (100, 200)), Look(2, (300, 400.5)), Look(3, (5100, 6040.5))),
    ),
)
