"""The cases: where the server fails, how, and how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Place: TypeAlias = Literal["submit", "events", "focus"]

RETRY_AFTER = 3


@dataclass(frozen=True)
class RefusedAnswer:
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


Fault: TypeAlias = RefusedAnswer | Break


@dataclass(frozen=True)
class FocusMove:
    """Where the user looks once event number `after` has been taken up."""

    after: int
    focus: tuple[float, float]


@dataclass(frozen=True)
class ReconnectingCase:
    """One thing to get right. The n-th attempt at a place meets its n-th fault."""

    name: str
    why: str
    submit: Sequence[Fault] = ()
    events: Sequence[Fault] = ()
    focus: Sequence[Fault] = ()
    looks: Sequence[FocusMove] = ()
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
    token: str = ""
    """What the client is told to sign in with; the server asks for it where there is one."""

    def faults(self, place: Place) -> Sequence[Fault]:
        return {"submit": self.submit, "events": self.events, "focus": self.focus}[place]


_BUSY = RefusedAnswer(429, RETRY_AFTER)
_FULL = RefusedAnswer(503, RETRY_AFTER)
_FULL_UNTIL = RefusedAnswer(503, RETRY_AFTER, is_date=True)
_QUICK = {"silence_seconds": 2.0}
_LOOK = (FocusMove(1, (5100, 6040.5)),)

CASES: tuple[ReconnectingCase, ...] = (
    # the slowest first: cases run side by side
    ReconnectingCase(
        "silence for 15 seconds",
        "a stream without a sign of life for 15 s is resumed",
        events=[Break("silent", 2)],
    ),
    # submitting
    ReconnectingCase("submit: 429", "it is left alone as long as it asks", submit=[_BUSY]),
    ReconnectingCase("submit: 503", "it is left alone as long as it asks", submit=[_FULL]),
    ReconnectingCase(
        "submit: 503 until a date", "Retry-After may be an HTTP date", submit=[_FULL_UNTIL]
    ),
    ReconnectingCase(
        "submit: cut answer",
        "the job was created: the same key finds it again",
        submit=[Break("cut")],
    ),
    ReconnectingCase(
        "submit: no answer",
        "the job was created: the same key finds it again",
        submit=[Break("closed")],
    ),
    ReconnectingCase(
        "submit: silence",
        "the job was created: the same key finds it again",
        submit=[Break("silent")],
        limits=_QUICK,
    ),
    ReconnectingCase(
        "submit: growing pauses",
        "pauses double from 0.25 s",
        submit=[RefusedAnswer(502), RefusedAnswer(503), RefusedAnswer(504), Break("closed")],
    ),
    ReconnectingCase("submit: refused", "another status is final", submit=[RefusedAnswer(422)]),
    ReconnectingCase(
        "submit: given up",
        "a short request is given up after its time",
        submit=[RefusedAnswer(503)],
        forever="submit",
        limits={"request_seconds": 2.0},
    ),
    ReconnectingCase(
        "submit: come back in a minute",
        "a pause that would reach beyond 30 s is not begun",
        submit=[RefusedAnswer(503, 60)],
        forever="submit",
    ),
    # the events
    ReconnectingCase("events: 429", "one 429 does not end a run", events=[_BUSY]),
    ReconnectingCase(
        "events: 503", "it is left alone as long as it asks", events=[Break("ended", 2), _FULL]
    ),
    ReconnectingCase(
        "events: 503 until a date", "Retry-After may be an HTTP date", events=[_FULL_UNTIL]
    ),
    ReconnectingCase(
        "events: cut line", "a line that was cut is no line", events=[Break("cut", 3)]
    ),
    ReconnectingCase(
        "events: half a line at the end",
        "a line without its end is no line, even where the answer ends properly",
        events=[Break("half a line", 2)],
    ),
    ReconnectingCase(
        "events: not JSON",
        "a line that is no JSON, as of a proxy, ends the stream",
        events=[Break("not JSON", 2)],
    ),
    ReconnectingCase(
        "events: early end",
        "a stream without the job's last event has not ended",
        events=[Break("ended", 1), Break("ended", 4)],
    ),
    ReconnectingCase(
        "events: no answer", "it is asked again", events=[Break("closed"), Break("closed", 2)]
    ),
    ReconnectingCase(
        "events: silence",
        "a stream without a sign of life is resumed",
        events=[Break("silent", 3)],
        limits=_QUICK,
    ),
    ReconnectingCase(
        "events: silence before the answer",
        "silence counts from the request, too",
        events=[Break("silent")],
        limits=_QUICK,
    ),
    ReconnectingCase(
        "events: pauses begin anew",
        "a sign of life starts the count again",
        events=[
            RefusedAnswer(502),
            RefusedAnswer(504),
            RefusedAnswer(502),
            Break("ended", 2),
            RefusedAnswer(502),
        ],
    ),
    ReconnectingCase(
        "events: some come again",
        "an event that came before is not taken twice",
        events=[Break("ended", 3), Break("cut", 4)],
        repeats=2,
    ),
    ReconnectingCase(
        "events: in small pieces",
        "a line, and a letter, may come in two pieces",
        events=[Break("cut", 2)],
        piece_bytes=7,
    ),
    ReconnectingCase(
        "events: heartbeats alone",
        "a heartbeat is a sign of life",
        limits=_QUICK,
        heartbeats_seconds=5.0,
    ),
    ReconnectingCase(
        "events: gone", "another status is final", events=[Break("ended", 2), RefusedAnswer(404)]
    ),
    ReconnectingCase(
        "events: given up",
        "a stream is given up when its last sign of life is too long ago",
        events=[Break("ended", 2), RefusedAnswer(503)],
        forever="events",
        limits={"stream_seconds": 3.5},
    ),
    # looking elsewhere
    ReconnectingCase(
        "focus: 429", "it is left alone as long as it asks", focus=[_BUSY], looks=_LOOK
    ),
    ReconnectingCase(
        "focus: 503", "it is left alone as long as it asks", focus=[_FULL], looks=_LOOK
    ),
    ReconnectingCase("focus: cut answer", "it is sent again", focus=[Break("cut")], looks=_LOOK),
    ReconnectingCase("focus: no answer", "it is sent again", focus=[Break("closed")], looks=_LOOK),
    ReconnectingCase(
        "focus: silence", "it is sent again", focus=[Break("silent")], looks=_LOOK, limits=_QUICK
    ),
    ReconnectingCase(
        "focus: only the latest",
        "of several that were refused only the latest is sent again",
        focus=[RefusedAnswer(503, RETRY_AFTER, stands=True)],
        looks=(FocusMove(1, (100, 200)), FocusMove(2, (300, 400.5)), FocusMove(3, (5100, 6040.5))),
    ),
)

_TOKEN = "iso_7QmX-2vK9_token"

TOKENS: tuple[ReconnectingCase, ...] = (
    ReconnectingCase(
        "token",
        "every request has the token in its header Authorization, and none in its address",
        looks=_LOOK,
        token=_TOKEN,
    ),
    ReconnectingCase(
        "token: resumed",
        "a request that is sent again has the token, too",
        submit=[RefusedAnswer(503)],
        events=[Break("cut", 3)],
        focus=[Break("closed")],
        looks=_LOOK,
        token=_TOKEN,
    ),
    ReconnectingCase(
        "token: refused",
        "a 401 is final: it is told to the user, without the token, and not tried again",
        submit=[RefusedAnswer(401)],
        token=_TOKEN,
    ),
    ReconnectingCase(
        "token: refused later",
        "a token may expire while a job runs",
        events=[Break("ended", 2), RefusedAnswer(401)],
        token=_TOKEN,
    ),
)
