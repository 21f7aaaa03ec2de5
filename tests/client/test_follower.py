"""A job that is followed in the background: in order, resumed, stopped, never flooded."""

from __future__ import annotations

import threading
import time

import pytest

from isoline.client import (
    Client,
    ClientError,
    Done,
    Event,
    Follower,
    Listener,
    Policy,
    Started,
)
from tests.client.stub import BEATS, Server, answer, stream
from tests.client.test_client import EVENTS, LINES

QUICK = Policy(silence_seconds=2, draw=lambda: 0.0)
UNTIL = 10.0
"""Seconds after which a test would be wrong: on an idle machine it takes a tenth of one."""


def numbers(events: list[Event]) -> list[int]:
    return [event.seq for event in events]


def collected(follower: Follower) -> list[Event]:
    """Drain a follower as a timer does, until it is over."""
    events: list[Event] = []
    limit = time.monotonic() + UNTIL
    while not follower.is_over and time.monotonic() < limit:
        events += follower.drain(0.05)
    return events


@pytest.fixture
def silent(server: Server) -> Server:
    """A job that says two events and then nothing."""
    server.scripts[EVENTS] = [stream(LINES[0] + LINES[1], *BEATS)]
    return server


def test_a_timer_gets_every_event_once_and_in_order(server: Server) -> None:
    server.scripts[EVENTS] = [stream(LINES[0], cut=True), stream(LINES[0], 0.1, *LINES[1:])]
    with Follower(Client(server.url, policy=QUICK).job("j1")) as follower:
        events = collected(follower)
    assert numbers(events) == [0, 1, 2, 3, 4, 5]
    assert (follower.seq, follower.is_over, follower.error) == (5, True, None)


def test_it_hands_out_one_at_a_time_and_ends_with_none(server: Server) -> None:
    server.scripts[EVENTS] = [stream(*LINES)]
    follower = Follower(Client(server.url).job("j1"), after=3, format="qupath").start()
    first, second, third = (follower.get(UNTIL) for _ in range(3))
    assert [each and each.seq for each in (first, second)] == [4, 5]
    assert isinstance(second, Done)
    assert third is None
    assert follower.is_over
    assert server.calls[0].path == f"{EVENTS}?after=3&format=qupath"


def test_a_get_waits_no_longer_than_it_is_told_to(silent: Server) -> None:
    with Follower(Client(silent.url).job("j1"), after=0) as follower:
        assert follower.get(UNTIL) is not None
        began = time.monotonic()
        assert follower.get(0.1) is None
        assert follower.drain() == []
        assert 0.1 <= time.monotonic() - began < UNTIL / 2
        assert not follower.is_over


def test_any_thread_stops_it_and_whoever_waits_is_woken(silent: Server) -> None:
    follower = Follower(Client(silent.url).job("j1")).start()
    assert follower.get(UNTIL) is not None
    assert follower.get(UNTIL) is not None
    told: list[Event | None] = []
    waiting = threading.Thread(target=lambda: told.append(follower.get()))
    waiting.start()
    follower.stop()
    follower.stop()
    waiting.join(UNTIL)
    assert told == [None]
    assert (follower.is_over, follower.error, follower.seq) == (True, None, 1)
    assert silent.hung_up.wait(UNTIL), "the thread that reads has ended"


def test_what_was_not_handed_out_before_a_stop_comes_when_it_is_resumed(server: Server) -> None:
    server.scripts[EVENTS] = [stream(*LINES)]
    job = Client(server.url).job("j1")
    first = Follower(job).start()
    got = first.get(UNTIL)
    assert isinstance(got, Started)
    first.stop()
    assert first.drain() == []
    with Follower(job, after=first.seq) as second:
        assert numbers([got, *collected(second)]) == [0, 1, 2, 3, 4, 5]


def test_a_viewer_that_takes_its_time_is_not_flooded(server: Server) -> None:
    follower = Follower(Client(server.url).job("j1"), room=2)
    server.scripts[EVENTS] = [stream(*LINES)]
    follower.start()
    assert follower.get(UNTIL) is not None
    time.sleep(0.3)
    assert numbers(follower.drain()) == [1, 2]
    assert numbers(collected(follower)) == [3, 4, 5]


def test_one_that_waits_for_room_can_be_stopped(server: Server) -> None:
    server.scripts[EVENTS] = [stream(*LINES)]
    follower = Follower(Client(server.url).job("j1"), room=1).start()
    time.sleep(0.2)
    follower.stop()
    follower._thread.join(UNTIL)
    assert not follower._thread.is_alive()


def test_why_it_is_over_is_said_after_the_last_event(server: Server) -> None:
    gone = answer({"code": "UnknownJob", "detail": "no such job"}, 404)
    server.scripts[EVENTS] = [stream(LINES[0], cut=True), gone]
    with Follower(Client(server.url, policy=QUICK).job("j1")) as follower:
        follower._thread.join(UNTIL)
        errors = [follower.error]
        assert numbers(follower.drain()) == [0]
        errors.append(follower.error)
    before, after = errors
    assert before is None
    assert isinstance(after, ClientError)
    assert after.code == "UnknownJob"


def test_who_follows_hears_of_a_lost_connection(server: Server) -> None:
    server.scripts[EVENTS] = [stream(LINES[0], cut=True), stream(*LINES[1:])]
    heard = list[object]()
    client = Client(server.url, policy=QUICK, listener=Listener(lambda *_: heard.append("client")))
    with Follower(
        client.job("j1"),
        on_lost=lambda why, seconds: heard.append(seconds),
        on_back=lambda: heard.append("back"),
    ) as follower:
        collected(follower)
    assert heard == [0.1875, "back"]


def test_the_client_hears_of_it_where_nobody_else_wants_to(server: Server) -> None:
    server.scripts[EVENTS] = [stream(LINES[0], cut=True), stream(*LINES[1:])]
    heard = list[object]()
    listener = Listener(on_back=lambda: heard.append("back"))
    with Follower(Client(server.url, policy=QUICK, listener=listener).job("j1")) as follower:
        collected(follower)
    assert heard == ["back"]
