"""The client against a server that hangs up, stalls and refuses."""

from __future__ import annotations

import json
import threading

import pytest

from isoline.client import (
    ONCE,
    Client,
    ClientError,
    Contours,
    Done,
    Event,
    Listener,
    Policy,
    Progress,
    Started,
    Warned,
    point,
)
from isoline.domain.events import Contours as ServerContours
from isoline.domain.events import Done as ServerDone
from isoline.domain.events import Event as ServerEvent
from isoline.domain.events import Progress as ServerProgress
from isoline.domain.events import Warned as ServerWarned
from isoline.errors import UnknownModel
from isoline.exports.geojson import GeoJSON
from isoline.protocol.events import encode_event
from isoline.protocol.problems import problem
from isoline.testing.contracts import results
from tests.client.stub import Handler, Server, answer, stream

SAID: list[ServerEvent] = [
    results.STARTED,
    ServerContours(results.objects_of([[[results.rectangle(0, 0, 3, 3)]]])),
    ServerWarned("Unreadable", "a tile is damaged"),
    ServerProgress(1, 2, 0.5),
    ServerProgress(2, 2, 0.0),
    ServerDone(1, 2, 0, 0, 0.1),
]
LINES = [encode_event(k, event, results.STARTED, GeoJSON()) + b"\n" for k, event in enumerate(SAID)]


EVENTS = "/v1/jobs/j1/events"


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


ALL = [Started, Contours, Warned, Progress, Progress, Done]


def test_a_request_goes_out_and_its_events_come_in(server: Server) -> None:
    server.scripts[EVENTS] = [stream(LINES[0], b"\n", b"".join(LINES[1:]))]
    job = Client(server.url, "secret").submit(
        "a.svs", "nuclei", region=[0, 0, 9, 9], parameters={"x": 1}, tile=None, format="geojson"
    )
    assert (job.id, job.position) == ("j1", 2)
    events = list(job.events())
    assert kinds(events) == ALL
    assert isinstance(events[1], Contours)
    assert events[1].features[0]["geometry"]["type"] == "Polygon"
    assert server.calls[0].body == {
        "image": "a.svs",
        "model": "nuclei",
        "region": [0, 0, 9, 9],
        "parameters": {"x": 1},
        "format": "geojson",
    }
    assert {call.headers["Authorization"] for call in server.calls} == {"Bearer secret"}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_lines_may_be_cut_anywhere(server: Server, size: int) -> None:
    text = b"\n".join(LINES)
    server.scripts[EVENTS] = [stream(*[text[k : k + size] for k in range(0, len(text), size)])]
    assert kinds(list(Client(server.url).job("j1").events())) == ALL


def test_a_lost_stream_goes_on_where_it_broke_off(server: Server) -> None:
    server.scripts[EVENTS] = [
        stream(LINES[0], LINES[1], LINES[2][:10], cut=True),
        answer({}, 503),
        stream(*LINES[1:4]),  # tells number 1 again, and ends without an end
        stream(cut=True),
        stream(*LINES[4:]),
    ]
    events = list(Client(server.url).job("j1").events())
    assert [event.seq for event in events] == list(range(6))
    assert kinds(events) == ALL
    asked = [call.path.split("after=")[1] for call in server.calls]
    assert asked == ["-1", "1", "1", "3", "3"]


def test_a_silent_stream_is_taken_for_dead(server: Server) -> None:
    beats: list[bytes | float] = [
        b"\n",
        0.06,
    ] * 4  # a sign of life keeps it open well beyond the limit
    server.scripts[EVENTS] = [
        stream(LINES[0], *beats, LINES[1], 0.5, *LINES[2:]),
        stream(*LINES[2:]),
    ]
    impatient = Client(server.url, policy=Policy(silence_seconds=0.1))
    events = list(impatient.job("j1").events())
    assert [event.seq for event in events] == list(range(6))
    assert len(server.calls) == 2


def test_a_server_that_stays_away_is_given_up(server: Server) -> None:
    server.scripts[EVENTS] = [stream(*LINES[:2]), stream(cut=True)]
    events = (
        Client(server.url, policy=Policy(stream_seconds=0.9, draw=lambda: 0.5)).job("j1").events()
    )
    assert [next(events).seq, next(events).seq] == [0, 1]
    with pytest.raises(ClientError, match="after number 1") as caught:
        next(events)
    assert (caught.value.code, caught.value.remedy) == ("Lost", "call events(after=1) later")
    assert len(server.calls) == 3  # again after 0.25 s and after 0.5 s, but not after 1 s


def test_a_job_that_is_gone_is_not_asked_for_again(server: Server) -> None:
    gone = answer({"code": "UnknownJob", "detail": "gone"}, 404)
    server.scripts[EVENTS] = [stream(LINES[0], cut=True), gone]
    with pytest.raises(ClientError, match="gone") as caught:
        list(Client(server.url).job("j1").events())
    assert (caught.value.status, caught.value.code) == (404, "UnknownJob")
    assert len(server.calls) == 2


def test_one_call_streams_and_hanging_up_is_heard(server: Server) -> None:
    endless: list[bytes | float] = [LINES[3], 0.01] * 500
    server.scripts["/v1/segment"] = [stream(*LINES), stream(*LINES[:2], *endless)]
    client = Client(server.url)
    assert kinds(list(client.segment("a.svs", "nuclei"))) == ALL
    events = client.segment("a.svs", "nuclei", focus=(5, 6))
    assert isinstance(next(events), Started)
    assert server.calls[-1].body["focus"] == [5, 6]
    events.close()  # type: ignore[attr-defined]
    assert server.hung_up.wait(5)


@pytest.mark.parametrize("cut", [True, False])
def test_one_call_that_breaks_off_is_an_error(server: Server, cut: bool) -> None:
    server.scripts["/v1/segment"] = [stream(*LINES[:2], cut=cut)]
    with pytest.raises(ClientError, match="broke off"):
        list(Client(server.url).segment("a.svs", "nuclei"))


def test_focus_and_cancel_reach_the_job(server: Server) -> None:
    server.scripts["/v1/jobs/j1"] = [answer({"state": "running"})]
    job = Client(server.url).job("j1")
    job.focus(10, 20.5)
    job.cancel()
    assert job.state() == {"state": "running"}
    calls = [(call.method, call.body) for call in server.calls]
    assert calls == [("PATCH", {"focus": [10, 20.5]}), ("DELETE", None), ("GET", None)]


def test_what_there_is(server: Server) -> None:
    server.scripts["/v1/models"] = [answer({"models": [{"name": "nuclei"}]})]
    server.scripts["/v1/images"] = [answer({"images": ["a.svs"]})]
    server.scripts["/v1/health"] = [answer({"status": "ready"})]
    client = Client(server.url)
    assert client.models() == [{"name": "nuclei"}]
    assert client.images() == ["a.svs"]
    assert client.health() == {"status": "ready"}


def test_a_refusal_brings_the_remedy(server: Server) -> None:
    refusal = answer(problem(UnknownModel("no model 'x'", "try 'nuclei'")), 404)
    server.scripts["/v1/jobs"] = [refusal]
    with pytest.raises(ClientError) as caught:
        Client(server.url).submit("a.svs", "x")
    error = caught.value
    assert (error.status, error.code) == (404, "UnknownModel")
    assert str(error) == "no model 'x'; try 'nuclei'"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"code":1}', b""])
def test_what_is_not_isoline_is_told_so(server: Server, body: bytes) -> None:
    server.scripts["/v1/health"] = [answer(body, 502)]
    with pytest.raises(ClientError, match="isoline's URL") as caught:
        Client(server.url, policy=ONCE).health()
    assert (caught.value.status, caught.value.code) == (502, "NotIsoline")


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(ClientError, match="isoline serve") as caught:
        Client("http://127.0.0.1:9", policy=ONCE).health()
    assert (caught.value.status, caught.value.code) == (0, "Unreachable")


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.scripts["/v1/health"] = [answer({"status": "ready"})]
    assert Client(server.url).health()["status"] == "ready"


# Trying again: the policy itself is in test_retry.py


FULL = {"code": "Busy", "detail": "the queue is full", "remedy": "wait"}


def test_a_job_is_submitted_once_however_often_it_is_sent(server: Server) -> None:
    server.scripts["/v1/jobs"].insert(0, answer(FULL, 429))
    client = Client(server.url)
    assert [client.submit("a.svs", "nuclei", image_size=[9, 9]).id for _ in range(2)] == ["j1"] * 2
    first, again, _ = server.calls
    assert first.body == again.body == {"image": "a.svs", "model": "nuclei", "image_size": [9, 9]}
    keys = [call.headers["Idempotency-Key"] for call in server.calls]
    assert keys[0] == keys[1] != keys[2]


def test_the_listener_hears_of_it(server: Server) -> None:
    server.scripts["/v1/health"] = [answer(FULL, 503), answer({"status": "ready"})]
    heard = list[object]()
    listener = Listener(lambda *said: heard.append(said), lambda: heard.append("back"))
    policy = Policy(draw=lambda: 0.5)
    assert Client(server.url, policy=policy, listener=listener).health() == {"status": "ready"}
    assert heard == [("the queue is full; wait", 0.25), "back"]


def test_headers_are_made_for_each_request(server: Server) -> None:
    server.scripts[EVENTS] = [stream(LINES[0], cut=True), stream(*LINES[1:])]
    tokens = iter("abc")
    client = Client(server.url, headers=lambda: {"Girder-Token": next(tokens)})
    list(client.job("j1").events(format="dsa"))
    assert [call.headers["Girder-Token"] for call in server.calls] == ["a", "b"]
    assert [call.path for call in server.calls] == [
        f"{EVENTS}?after=-1&format=dsa",
        f"{EVENTS}?after=0&format=dsa",
    ]


def test_events_come_as_they_were_sent_where_that_is_wanted(server: Server) -> None:
    unknown = b'{"event":"weather","seq":1,"sun":true}\n'
    server.scripts[EVENTS] = [stream(LINES[0], unknown, LINES[5])]
    told = list(Client(server.url).job("j1").events_json())
    assert told == [json.loads(line) for line in (LINES[0], unknown, LINES[5])]


def test_a_click_is_asked_again(server: Server) -> None:
    server.scripts["/v1/segment"] = [
        answer(FULL, 503),
        stream(LINES[0], LINES[1], cut=True),
        stream(*LINES),
    ]
    events = list(Client(server.url).segment("a.svs", "click", prompts=[point(5, 6)]))
    assert kinds(events) == ALL
    assert len(server.calls) == 3


def test_a_click_whose_job_is_kept_makes_no_second_job(server: Server) -> None:
    server.scripts["/v1/segment"] = [stream(*LINES[:2], cut=True), stream(*LINES)]
    events = Client(server.url).segment("a.svs", "click", prompts=[point(5, 6)], keep=True)
    with pytest.raises(ClientError, match="broke off"):
        list(events)
    assert len(server.calls) == 1


def test_another_look_takes_the_place_of_one_that_waits(server: Server) -> None:
    refused = threading.Event()

    def busy(handler: Handler) -> None:
        handler.send_response(503)
        handler.send_header("Retry-After", "20")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        refused.set()

    server.scripts["/v1/jobs/j1"] = [busy, answer({"state": "running"})]
    job = Client(server.url).job("j1")
    waiting = threading.Thread(target=job.focus, args=(1, 2))
    waiting.start()
    assert refused.wait(5)
    job.focus(3, 4)
    waiting.join(5)  # at once, and without an error
    assert not waiting.is_alive()
    assert [call.body for call in server.calls] == [{"focus": [1, 2]}, {"focus": [3, 4]}]


def test_the_user_can_stop_the_trying(server: Server) -> None:
    server.scripts["/v1/jobs"] = [answer(FULL, 503)]
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    patient = Policy(request_seconds=600)
    with pytest.raises(ClientError, match="queue is full"):
        Client(server.url, policy=patient).submit("a.svs", "nuclei", stop=stop)
    assert len(server.calls) <= 2


def test_storing_is_not_tried_again(server: Server) -> None:
    server.scripts["/v1/segmentations"] = [answer({**FULL, "code": "NotStored"}, 502)]
    with pytest.raises(ClientError, match="full"):
        Client(server.url).save("dicomweb:a/1/2", [], [])
    assert len(server.calls) == 1


def test_a_submission_may_have_a_key_of_the_callers(server: Server) -> None:
    client = Client(server.url)
    request = {"image": "a.svs", "model": "nuclei"}
    assert client.submit_request(request, key="mine").id == "j1"
    (call,) = server.calls
    assert (call.body, call.headers["Idempotency-Key"]) == (request, "mine")


def test_a_server_between_relays_the_lines_as_they_are(server: Server) -> None:
    server.scripts["/v1/segment"] = [stream(LINES[0], b"\n", LINES[5])]
    server.scripts[EVENTS] = [stream(LINES[2], LINES[3][:9]), answer(b"", 204)]
    client = Client(server.url)
    request = {"image": "a.svs", "model": "click"}
    lines = [LINES[0].rstrip(), b"", LINES[5].rstrip()]
    assert list(client.segment_lines(request)) == lines
    assert server.calls[0].body == request
    assert list(client.job("j1").lines(1, format="dsa")) == [LINES[2].rstrip()]
    assert server.calls[1].path == f"{EVENTS}?after=1&format=dsa"
    assert list(client.job("j1").lines(5)) == []


def test_what_is_relayed_is_not_tried_again(server: Server) -> None:
    server.scripts[EVENTS] = [answer(FULL, 503)]
    with pytest.raises(ClientError, match="full"):
        next(Client(server.url).job("j1").lines())
    assert len(server.calls) == 1
