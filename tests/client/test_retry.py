"""The retry policy on a clock of its own: what "Trying again" in docs/protocol.md says."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import pytest

from isoline_client.errors import ClientError
from isoline_client.retry import (
    Attempts,
    Listener,
    Policy,
    answer,
    ask,
    follow,
    retry_after_seconds,
)

BUSY = ClientError(503, "Busy", "all streams are taken")
ASKED = ClientError(429, "Busy", "the queue is full", retry_after=3.0)
GONE = ClientError(404, "UnknownJob", "no such job")


@dataclass
class Clock:
    """Time that passes only in pauses; it is the `stop` of an attempt, too."""

    now: float = 100.0
    pauses: list[float] = field(default_factory=list)
    stopped: bool = False
    draw: float = 0.5

    def is_set(self) -> bool:
        return self.stopped

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        if not self.stopped:
            self.pauses.append(timeout)
            self.now += timeout
        return self.stopped

    def attempts(self, patience: float = 30.0, listener: Listener | None = None) -> Attempts:
        policy = Policy(now=lambda: self.now, draw=lambda: self.draw)
        return Attempts(policy, patience, self, listener)


def failing(*errors: ClientError, then: str = "answer") -> Callable[[], str]:
    """Return an attempt that fails with each of `errors` in turn and then succeeds."""
    left = list(errors)

    def attempt() -> str:
        if left:
            raise left.pop(0)
        return then

    return attempt


def line(seq: int, event: str = "progress", **more: object) -> bytes:
    return json.dumps({"event": event, "seq": seq, **more}).encode()


class Script:
    """Streams, one after another: lines, and where an error stands, the stream breaks off."""

    def __init__(self, *streams: Sequence[bytes | ClientError | Callable[[], object]]) -> None:
        self.left = list(streams)
        self.asked: list[int] = []

    def read(self, after: int = -1) -> Generator[bytes, None, None]:
        self.asked.append(after)
        for each in self.left.pop(0):
            if isinstance(each, ClientError):
                raise each
            if isinstance(each, bytes):
                yield each
            else:
                each()


# When


@pytest.mark.parametrize("status", [0, 429, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    clock = Clock()
    error = ClientError(status, "X", "not now")
    assert ask(clock.attempts(), failing(error, error)) == "answer"
    assert clock.pauses == [0.25, 0.5]


@pytest.mark.parametrize("status", [200, 400, 401, 404, 408, 409, 413, 422, 500, 501])
def test_every_other_answer_is_final(status: int) -> None:
    clock = Clock()
    with pytest.raises(ClientError, match="never"):
        ask(clock.attempts(), failing(ClientError(status, "X", "never")))
    assert clock.pauses == []


def test_pauses_double_up_to_eight_seconds() -> None:
    clock = Clock()
    ask(clock.attempts(300), failing(*[BUSY] * 8))
    assert clock.pauses == [0.25, 0.5, 1, 2, 4, 8, 8, 8]


@pytest.mark.parametrize(("draw", "first", "longest"), [(0.0, 0.1875, 6.0), (1.0, 0.3125, 10.0)])
def test_pauses_spread_by_a_quarter(draw: float, first: float, longest: float) -> None:
    policy = Policy(draw=lambda: draw)
    assert policy.pause(1) == first
    assert policy.pause(6) == policy.pause(10_000) == longest


@pytest.mark.parametrize(("draw", "pause"), [(0.0, 3.0), (1.0, 3.3)])
def test_the_server_is_left_alone_as_long_as_it_asks(draw: float, pause: float) -> None:
    clock = Clock(draw=draw)
    ask(clock.attempts(), failing(ASKED, *[BUSY] * 3, ASKED))
    assert (clock.pauses[0], clock.pauses[4]) == pytest.approx((pause, pause))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3),
        (" 120 ", 120),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 9),
        ("Friday, 31-Dec-99 23:59:59 GMT", 9),
        ("Fri, 31 Dec 1999 23:59:59 -0000", 9),
        ("Fri, 31 Dec 1999 23:59:40 GMT", 0),
        ("-3", 0),
        ("soon", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float) -> None:
    ten_to_midnight = 946684790.0
    assert retry_after_seconds(header, ten_to_midnight) == seconds


# For how long


@pytest.mark.parametrize(("patience", "attempts"), [(0.74, 2), (0.75, 3), (30.0, 8)])
def test_an_attempt_that_would_begin_too_late_is_not_made(patience: float, attempts: int) -> None:
    clock, made = Clock(), []

    def attempt() -> None:
        made.append(clock.now - 100)
        raise ClientError(502, "X", f"refusal {len(made)}")

    with pytest.raises(ClientError, match=f"refusal {attempts}$"):
        ask(clock.attempts(patience), attempt)
    assert made == [0, 0.25, 0.75, 1.75, 3.75, 7.75, 15.75, 23.75][:attempts]


def test_what_the_attempts_themselves_take_counts() -> None:
    clock = Clock()

    def attempt() -> None:
        clock.now += 15  # silence
        raise ClientError(0, "Unreachable", "silence")

    with pytest.raises(ClientError):
        ask(clock.attempts(), attempt)
    assert clock.pauses == [0.25]


def test_a_pause_that_reaches_beyond_the_limit_is_not_begun() -> None:
    clock = Clock()
    with pytest.raises(ClientError, match="a minute"):
        ask(clock.attempts(), failing(ClientError(503, "X", "a minute", retry_after=60)))
    assert clock.pauses == []


# Streams


def test_a_stream_is_resumed_after_the_last_whole_event() -> None:
    clock = Clock()
    script = Script(
        [line(0), b"", line(1), b'{"event": "progress", "seq": 2, "ti'],  # torn
        [ASKED],
        [line(1), line(2), b"<html>"],
        [line(3), b'{"no": "event"}'],
        [line(4)],
        [line(5, "done"), line(6)],
    )
    events = list(follow(clock.attempts(), script.read))
    assert [event["seq"] for event in events] == [0, 1, 2, 3, 4, 5]
    assert script.asked == [-1, 1, 1, 2, 3, 4]
    assert clock.pauses == pytest.approx([0.25, 3.15, 0.25, 0.25, 0.25])


def test_a_heartbeat_is_a_sign_of_life_too() -> None:
    clock = Clock()
    script = Script([BUSY], [BUSY], [b"", BUSY], [BUSY], [line(0, "done")])
    assert len(list(follow(clock.attempts(), script.read))) == 1
    assert clock.pauses == [0.25, 0.5, 0.25, 0.5]


def test_a_stream_is_given_up_by_its_last_sign_of_life() -> None:
    clock = Clock()

    def an_hour() -> None:
        clock.now += 3600

    script = Script([line(0), an_hour, line(1)], *[[BUSY]] * 99)
    with pytest.raises(ClientError, match="after number 1: all streams are taken") as caught:
        list(follow(clock.attempts(300), script.read))
    assert (caught.value.status, caught.value.code) == (503, "Lost")
    assert 300 - 8 < sum(clock.pauses) <= 300


def test_a_caller_who_takes_an_hour_is_no_silence() -> None:
    clock = Clock()
    script = Script([line(0), BUSY], [line(1, "done")])
    for _ in follow(clock.attempts(300), script.read):
        clock.now += 3600
    assert script.asked == [-1, 0]


def test_a_job_that_is_gone_is_not_asked_for_again() -> None:
    script = Script([line(0), BUSY], [GONE])
    with pytest.raises(ClientError, match="no such job"):
        list(follow(Clock().attempts(), script.read))
    assert script.asked == [-1, 0]


def test_events_that_are_not_known_here_count() -> None:
    script = Script([line(0), line(1, "weather"), BUSY], [line(2, "failed")])
    assert [each["event"] for each in follow(Clock().attempts(), script.read)][1] == "weather"
    assert script.asked == [-1, 1]


def test_leaving_the_loop_hangs_up() -> None:
    hung_up = []

    def read(after: int) -> Generator[bytes, None, None]:
        try:
            while True:
                yield line(after + 1)
        finally:
            hung_up.append(after)

    events = follow(Clock().attempts(), read)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert hung_up == [-1]


# The user


def test_the_user_hears_of_it() -> None:
    clock, heard = Clock(), list[object]()
    listener = Listener(lambda *said: heard.append(said), lambda: heard.append("back"))
    script = Script([line(0), ASKED], [BUSY], [b"", line(1, "done")])
    list(follow(clock.attempts(30, listener), script.read))
    assert heard == [
        ("the queue is full", pytest.approx(3.15)),
        ("all streams are taken", 0.5),
        "back",
    ]


def test_the_user_can_stop_during_a_pause() -> None:
    clock = Clock()

    def stop(reason: str, seconds: float) -> None:
        clock.stopped = True

    script = Script([line(0), BUSY])
    events = list(follow(clock.attempts(30, Listener(stop)), script.read))
    assert [event["seq"] for event in events] == [0]
    assert clock.pauses == []
    clock = Clock()
    with pytest.raises(ClientError, match="taken"):
        ask(clock.attempts(30, Listener(stop)), failing(BUSY))


def test_the_user_can_stop_a_stream_that_is_alive() -> None:
    clock = Clock()
    script = Script([line(0), lambda: setattr(clock, "stopped", True), b"", line(1)])
    assert len(list(follow(clock.attempts(), script.read))) == 1


# A request that is answered at once


def test_a_click_is_asked_again_and_its_answer_comes_once() -> None:
    clock = Clock()
    mask = {"slices": [{"k": 3}]}
    script = Script(
        [BUSY],
        [line(0, "started", job="j1"), line(1, "mask", **mask), b'{"event": "don'],
        [line(0, "started", job="j2"), line(1), line(2, "mask", **mask), line(3, "done")],
    )
    events = list(answer(clock.attempts(), script.read, repeatable=True))
    assert [event["event"] for event in events] == ["started", "mask", "progress", "done"]
    assert clock.pauses == [0.25, 0.5]


def test_another_request_is_asked_again_only_until_it_begins() -> None:
    script = Script([BUSY], [line(0, "started"), BUSY])
    events = answer(Clock().attempts(), script.read, repeatable=False)
    assert next(events)["event"] == "started"
    with pytest.raises(ClientError, match="broke off: all streams") as caught:
        next(events)
    assert (caught.value.code, caught.value.remedy) == ("Lost", "submit() can be resumed")


def test_a_click_is_given_up() -> None:
    clock = Clock()
    with pytest.raises(ClientError, match="closed the stream"):
        list(answer(clock.attempts(), Script(*[[line(0)]] * 99).read, repeatable=True))
    assert 22 < sum(clock.pauses) <= 30


def test_a_click_that_is_refused_is_not_asked_again() -> None:
    script = Script([line(0), BUSY], [GONE])
    with pytest.raises(ClientError, match="no such job"):
        list(answer(Clock().attempts(), script.read, repeatable=True))
