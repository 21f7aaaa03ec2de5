"""The cases: where the server fails, how, and how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Place: TypeAlias = Literal["submit", "events", "focus"]

RETRY_AFTER = 3


@dataclass(frozen=True)
class RefusedAnswer:
    """A response with an error status."""

    status: int
    retry_after: int | None = None
    """Seconds, sent as `Retry-After`."""
    is_date: bool = False
    """Whether `Retry-After` is sent as a date."""
    stands: bool = False
    """Whether all requests until `retry_after` has passed are refused as well."""

    def __str__(self) -> str:
        form = ", as a date" if self.is_date else ""
        wait = "" if self.retry_after is None else f" with Retry-After: {self.retry_after}{form}"
        return f"{self.status}{wait}"


@dataclass(frozen=True)
class Break:
    """A connection that fails before the end of the response."""

    how: Literal["closed", "cut", "ended", "half a line", "not JSON", "silent"]
    """`closed`: without a response. `cut`: in the middle of a line or, if the response is not a
    stream, of its body. `ended`: properly, but too early; `half a line`: the same, after half a
    line. `not JSON`: with a line that is not JSON, after which the stream continues. `silent`: it
    stays open, but nothing is sent."""
    events: int | None = None
    """The number of events that a stream sends before; None if it fails before the status line."""

    def __str__(self) -> str:
        where = "" if self.events is None else f" after {self.events} events"
        return f"{self.how}{where}"


Fault: TypeAlias = RefusedAnswer | Break


@dataclass(frozen=True)
class FocusMove:
    """The focus, in image pixels, to send once event number `after` has been received."""

    after: int
    focus: tuple[float, float]


@dataclass(frozen=True)
class ReconnectingCase:
    """One test case. The n-th request of a kind meets the n-th fault of that kind."""

    name: str
    why: str
    """The rule that is tested."""
    submit: Sequence[Fault] = ()
    events: Sequence[Fault] = ()
    focus: Sequence[Fault] = ()
    looks: Sequence[FocusMove] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    """Limits for the client to use instead of the protocol's."""
    forever: Place | None = None
    """The kind of request whose last fault is repeated forever."""
    repeats: int = 0
    """The number of events that a resumed stream sends again."""
    piece_bytes: int | None = None
    """The size of the pieces in which the stream is sent; None sends whole lines."""
    heartbeats_seconds: float = 0.0
    """How long only heartbeats are sent before the last event."""
    token: str = ""
    """The token that the client is given, and that the server then requires; empty for none."""

    def faults(self, place: Place) -> Sequence[Fault]:
        return {"submit": self.submit, "events": self.events, "focus": self.focus}[place]


_BUSY = RefusedAnswer(429, RETRY_AFTER)
_FULL = RefusedAnswer(503, RETRY_AFTER)
_FULL_UNTIL = RefusedAnswer(503, RETRY_AFTER, is_date=True)
_QUICK = {"silence_seconds": 2.0}
_LOOK = (FocusMove(1, (5100, 6040.5)),)

CASES: tuple[ReconnectingCase, ...] = (
    # the slowest first, since cases run concurrently
    ReconnectingCase(
        "silence for 15 seconds",
        "a stream without a sign of life for 15 s is resumed",
        events=[Break("silent", 2)],
    ),
    # submitting
    ReconnectingCase("submit: 429", "the pause of Retry-After is observed", submit=[_BUSY]),
    ReconnectingCase("submit: 503", "the pause of Retry-After is observed", submit=[_FULL]),
    ReconnectingCase(
        "submit: 503 until a date", "Retry-After may be an HTTP date", submit=[_FULL_UNTIL]
    ),
    ReconnectingCase(
        "submit: cut answer",
        "the job was created; the same key returns it",
        submit=[Break("cut")],
    ),
    ReconnectingCase(
        "submit: no answer",
        "the job was created; the same key returns it",
        submit=[Break("closed")],
    ),
    ReconnectingCase(
        "submit: silence",
        "the job was created; the same key returns it",
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
        "a short request is given up after its time limit",
        submit=[RefusedAnswer(503)],
        forever="submit",
        limits={"request_seconds": 2.0},
    ),
    ReconnectingCase(
        "submit: come back in a minute",
        "a request is given up at once if the pause would extend beyond 30 s",
        submit=[RefusedAnswer(503, 60)],
        forever="submit",
    ),
    # the events
    ReconnectingCase("events: 429", "a 429 does not end a run", events=[_BUSY]),
    ReconnectingCase(
        "events: 503", "the pause of Retry-After is observed", events=[Break("ended", 2), _FULL]
    ),
    ReconnectingCase(
        "events: 503 until a date", "Retry-After may be an HTTP date", events=[_FULL_UNTIL]
    ),
    ReconnectingCase(
        "events: cut line", "an incomplete line is discarded", events=[Break("cut", 3)]
    ),
    ReconnectingCase(
        "events: half a line at the end",
        "an incomplete line is discarded, even if the response ends properly",
        events=[Break("half a line", 2)],
    ),
    ReconnectingCase(
        "events: not JSON",
        "a line that is not JSON, e.g. from a proxy, ends the stream",
        events=[Break("not JSON", 2)],
    ),
    ReconnectingCase(
        "events: early end",
        "a stream that ends before the job's last event is resumed",
        events=[Break("ended", 1), Break("ended", 4)],
    ),
    ReconnectingCase(
        "events: no answer",
        "the request is sent again",
        events=[Break("closed"), Break("closed", 2)],
    ),
    ReconnectingCase(
        "events: silence",
        "a stream without a sign of life is resumed",
        events=[Break("silent", 3)],
        limits=_QUICK,
    ),
    ReconnectingCase(
        "events: silence before the answer",
        "silence is also measured from the request",
        events=[Break("silent")],
        limits=_QUICK,
    ),
    ReconnectingCase(
        "events: pauses begin anew",
        "a sign of life resets the count of pauses",
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
        "an event that is sent again is ignored",
        events=[Break("ended", 3), Break("cut", 4)],
        repeats=2,
    ),
    ReconnectingCase(
        "events: in small pieces",
        "a line, or a character, may arrive in two pieces",
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
        "a stream is given up if its last sign of life was too long ago",
        events=[Break("ended", 2), RefusedAnswer(503)],
        forever="events",
        limits={"stream_seconds": 3.5},
    ),
    # moving the focus
    ReconnectingCase(
        "focus: 429", "the pause of Retry-After is observed", focus=[_BUSY], looks=_LOOK
    ),
    ReconnectingCase(
        "focus: 503", "the pause of Retry-After is observed", focus=[_FULL], looks=_LOOK
    ),
    ReconnectingCase("focus: cut answer", "it is sent again", focus=[Break("cut")], looks=_LOOK),
    ReconnectingCase("focus: no answer", "it is sent again", focus=[Break("closed")], looks=_LOOK),
    ReconnectingCase(
        "focus: silence", "it is sent again", focus=[Break("silent")], looks=_LOOK, limits=_QUICK
    ),
    ReconnectingCase(
        "focus: only the latest",
        "of several refused focus changes, only the latest is sent again",
        focus=[RefusedAnswer(503, RETRY_AFTER, stands=True)],
        looks=(FocusMove(1, (100, 200)), FocusMove(2, (300, 400.5)), FocusMove(3, (5100, 6040.5))),
    ),
)

_TOKEN = "iso_7QmX-2vK9_token"

TOKENS: tuple[ReconnectingCase, ...] = (
    ReconnectingCase(
        "token",
        "every request has the token in the header Authorization, and never in its URL",
        looks=_LOOK,
        token=_TOKEN,
    ),
    ReconnectingCase(
        "token: resumed",
        "a request that is sent again has the token too",
        submit=[RefusedAnswer(503)],
        events=[Break("cut", 3)],
        focus=[Break("closed")],
        looks=_LOOK,
        token=_TOKEN,
    ),
    ReconnectingCase(
        "token: refused",
        "a 401 is final: it is reported to the user, without the token, and not retried",
        submit=[RefusedAnswer(401)],
        token=_TOKEN,
    ),
    ReconnectingCase(
        "token: refused later",
        "a token may expire while a job is running",
        events=[Break("ended", 2), RefusedAnswer(401)],
        token=_TOKEN,
    ),
)
