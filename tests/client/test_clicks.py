"""Clicks on one object after another: the last prompts count, and each answer is drawn once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from isoline.client import Answer, Change, ClickSession, Client, Json, Policy, point
from tests.client.stub import BEATS, Handler, Server, answer, stream
from tests.client.test_client import FULL, LINES
from tests.conftest import SharedServer

UNTIL = 10.0
STARTED = LINES[0]
QUICK = Policy(request_seconds=0.0)


def said(seq: int, event: str, **more: object) -> bytes:
    return json.dumps({"event": event, "seq": seq, **more}).encode() + b"\n"


DONE = said(9, "done", objects=1, tiles=1, tiles_failed=0, tiles_skipped=0, seconds=0.1)


def outline(*names: str) -> Callable[[Handler], None]:
    features = [{"id": name} for name in names]
    found = said(1, "contours", features=features, replaces=[], provisional=False)
    return stream(STARTED + found + DONE)


def drawn(*slices: int, label: int = 1) -> Callable[[Handler], None]:
    told = [{"k": k, "layers": [layer(k, label)]} for k in slices]
    found = said(1, "mask", slices=told, provisional=False, whole=True)
    return stream(STARTED + found + DONE)


def layer(k: int, label: int = 1) -> Json:
    return {"label": label, "box": [k, 0, k + 1, 1], "runs": "AAE="}


@pytest.fixture
def session(server: Server) -> ClickSession:
    client = Client(server.url, policy=QUICK)
    return ClickSession(client, "a.svs", "click", parameters={"x": 1})


def next_answer(session: ClickSession) -> Answer:
    limit = time.monotonic() + UNTIL
    while time.monotonic() < limit:
        if found := session.poll():
            return found
        time.sleep(0.01)
    raise AssertionError("no answer")


def ids(features: Sequence[Json]) -> list[str]:
    return [each["id"] for each in features]


def test_each_click_is_asked_with_all_before_it(server: Server, session: ClickSession) -> None:
    server.scripts["/v1/segment"] = [outline("a"), outline("b", "c")]
    assert session.poll() is None
    session.add(point(1, 2))
    assert next_answer(session).change == Change([{"id": "a"}], [], {})
    assert session.poll() is None
    session.add(point(np.int64(3), 4, include=False))
    second = next_answer(session)
    assert (ids(second.object.features), ids(second.change.added)) == (["b", "c"], ["b", "c"])
    assert (second.change.removed, second.error, session.is_asking) == (["a"], None, False)
    prompts = [point(1, 2), point(3, 4, include=False)]
    shared = {"image": "a.svs", "model": "click", "parameters": {"x": 1}}
    assert [call.body for call in server.calls] == [
        {**shared, "prompts": prompts[:1]},
        {**shared, "prompts": prompts},
    ]
    assert session.prompts == prompts


def test_an_answer_that_was_overtaken_is_dropped_and_its_question_cancelled(
    server: Server, session: ClickSession
) -> None:
    asked = threading.Event()

    def slow(handler: Handler) -> None:
        asked.set()
        stream(STARTED, *BEATS)(handler)

    server.scripts["/v1/segment"] = [slow, outline("b")]
    session.add(point(1, 2))
    assert asked.wait(UNTIL)
    session.add(point(3, 4))
    assert ids(next_answer(session).object.features) == ["b"]
    assert server.hung_up.wait(UNTIL)
    assert session.poll() is None


def test_taking_back_shows_the_answer_before_without_asking(
    server: Server, session: ClickSession
) -> None:
    server.scripts["/v1/segment"] = [outline("a"), outline("b"), outline("c")]
    session.add(point(1, 2))
    next_answer(session)
    session.add(point(3, 4))
    next_answer(session)
    session.undo()
    assert next_answer(session).change == Change([{"id": "a"}], ["b"], {})
    session.undo()
    assert next_answer(session).change == Change([], ["a"], {})
    session.undo()
    assert (session.poll(), session.prompts, len(server.calls)) == (None, [], 2)
    session.add(point(5, 6))
    assert ids(next_answer(session).change.added) == ["c"]


def test_taking_back_asks_where_the_answer_before_was_overtaken(
    server: Server, session: ClickSession
) -> None:
    asked = threading.Event()

    def slow(handler: Handler) -> None:
        asked.set()
        time.sleep(0.2)
        outline("a")(handler)

    server.scripts["/v1/segment"] = [slow, outline("b"), outline("a")]
    session.add(point(1, 2))
    assert asked.wait(UNTIL)
    session.add(point(3, 4))
    next_answer(session)
    session.undo()
    assert next_answer(session).change == Change([{"id": "a"}], ["b"], {})
    assert server.calls[-1].body["prompts"] == [point(1, 2)]


def test_all_prompts_may_change_at_once(server: Server, session: ClickSession) -> None:
    server.scripts["/v1/segment"] = [outline("a"), outline("b"), outline("c")]
    session.ask([point(1, 2)])
    next_answer(session)
    session.ask([point(1, 2), point(3, 4)])
    next_answer(session)
    session.ask([point(1, 2), point(3, 5)])
    assert next_answer(session).change == Change([{"id": "c"}], ["b"], {})
    session.ask([point(1, 2)])
    assert next_answer(session).change == Change([{"id": "a"}], ["c"], {})
    session.ask([])
    assert next_answer(session).change == Change([], ["a"], {})
    asked = [point(1, 2), point(3, 4), point(3, 5)]
    bodies = [call.body["prompts"] for call in server.calls]
    assert bodies == [asked[:1], asked[:2], [asked[0], asked[2]]]


def test_what_is_being_asked_is_not_asked_twice(server: Server, session: ClickSession) -> None:
    def slow(handler: Handler) -> None:
        time.sleep(0.3)
        outline("a")(handler)

    server.scripts["/v1/segment"] = [slow]
    for _ in range(3):
        session.ask([point(1, 2)])
    assert ids(next_answer(session).change.added) == ["a"]
    assert len(server.calls) == 1


def test_an_accepted_object_stays_and_the_next_begins(
    server: Server, session: ClickSession
) -> None:
    server.scripts["/v1/segment"] = [outline("a"), outline("b"), outline("a")]
    assert session.accept() is None
    session.add(point(1, 2))
    next_answer(session)
    accepted = session.accept()
    assert accepted is not None
    assert ids(accepted.features) == ["a"]
    assert (session.prompts, session.poll()) == ([], None)
    session.add(point(3, 4))
    assert next_answer(session).change == Change([{"id": "b"}], [], {})
    session.clear()
    assert next_answer(session).change == Change([], ["b"], {})
    session.add(point(1, 2))
    assert not next_answer(session).change, "the same object again"
    assert session.accepted == [accepted]
    assert [len(call.body["prompts"]) for call in server.calls] == [1, 1, 1]


def test_what_is_accepted_before_it_was_drawn_is_drawn(
    server: Server, session: ClickSession
) -> None:
    server.scripts["/v1/segment"] = [outline("a")]
    session.add(point(1, 2))
    limit = time.monotonic() + UNTIL
    while session.accept() is None and time.monotonic() < limit:
        time.sleep(0.01)
    assert ids(next_answer(session).change.added) == ["a"]


def test_why_nothing_was_found_is_said(server: Server, session: ClickSession) -> None:
    warned = said(1, "warned", code="NothingFound", message="plain background", area=None)
    server.scripts["/v1/segment"] = [outline("a"), stream(STARTED + warned + DONE)]
    session.add(point(1, 2))
    next_answer(session)
    session.add(point(3, 4, include=False))
    found = next_answer(session)
    assert (found.object.message, ids(found.object.features)) == ("plain background", [])
    assert found.change.removed == ["a"]
    assert session.accept() is None


def test_a_click_that_is_refused_leaves_the_object_as_it_was(
    server: Server, session: ClickSession
) -> None:
    bad = answer({**FULL, "code": "BadPrompt"}, 422)
    failed = said(1, "failed", code="Broken", message="no memory", remedy="get some")
    server.scripts["/v1/segment"] = [outline("a"), bad, stream(STARTED + failed)]
    session.add(point(1, 2))
    next_answer(session)
    session.add(point(-1, 2))
    refused = next_answer(session)
    assert refused.error is not None
    assert (refused.error.code, ids(refused.object.features)) == ("BadPrompt", ["a"])
    assert not refused.change
    session.undo()
    assert next_answer(session).error is None
    session.add(point(3, 4))
    broken = next_answer(session)
    assert str(broken.error) == "no memory; get some"
    session.undo()
    assert next_answer(session).error is None


def test_objects_of_a_volume_are_numbered_and_slices_are_painted_whole(
    server: Server, session: ClickSession
) -> None:
    server.scripts["/v1/segment"] = [drawn(3, 4), drawn(4, 5), drawn(5)]
    session.add(point(1, 2, 3))
    assert next_answer(session).change.slices == {3: [layer(3)], 4: [layer(4)]}
    accepted = session.accept()
    assert accepted is not None
    assert accepted.slices == {3: [layer(3)], 4: [layer(4)]}
    session.add(point(1, 2, 4))
    second = next_answer(session).change.slices
    assert second == {4: [layer(4), layer(4, 2)], 5: [layer(5, 2)]}
    session.add(point(1, 2, 5))
    assert next_answer(session).change.slices == {4: [layer(4)]}
    session.clear()
    assert next_answer(session).change.slices == {5: []}


def test_answers_are_delivered_one_at_a_time(server: Server) -> None:
    server.scripts["/v1/segment"] = [outline("a")]
    told: list[Answer] = []
    here = threading.Event()

    def take(found: Answer) -> None:
        told.append(found)
        here.set()

    session = ClickSession(Client(server.url), "a.svs", "click", on_answer=take)
    session.add(point(1, 2))
    assert here.wait(UNTIL)
    session.undo()
    assert [each.change for each in told] == [
        Change([{"id": "a"}], [], {}),
        Change([], ["a"], {}),
    ]
    assert session.poll() is None


def test_nothing_comes_after_it_was_closed(server: Server, session: ClickSession) -> None:
    server.scripts["/v1/segment"] = [stream(STARTED, *BEATS)]
    session.add(point(1, 2))
    session.close()
    assert not session.is_asking
    assert session.poll() is None


@pytest.mark.slow
def test_clicks_on_a_real_server(shared_server: SharedServer) -> None:
    pixels = np.full((200, 300, 3), 235, np.uint8)
    pixels[40:70, 50:90] = pixels[100:120, 200:230] = 60
    Image.fromarray(pixels).save(shared_server.images / "clicks.png")
    session = ClickSession(Client(shared_server.url), "slides/clicks.png", "flood")
    session.add(point(60, 50))
    first = next_answer(session)
    assert first.error is None
    assert len(first.object.features) == 1
    session.accept()
    session.add(point(210, 110))
    second = next_answer(session)
    assert (len(second.change.added), second.change.removed) == (1, [])
