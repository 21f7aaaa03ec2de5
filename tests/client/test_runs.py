"""A run that is started, started again, stopped, and taken up after the viewer was closed."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from isoline.client import ONCE, Cancelled, Client, ClientError, Done, Run
from tests.client.stub import Server, answer, stream
from tests.client.test_client import FULL, LINES
from tests.conftest import SharedServer

UNTIL = 60.0
IMAGE = "slides/runs.png"


def said(seq: int, event: str, **more: object) -> bytes:
    return json.dumps({"event": event, "seq": seq, **more}).encode() + b"\n"


def found(seq: int, *names: str, replaces: Sequence[str] = (), provisional: bool = False) -> bytes:
    features = [{"id": name} for name in names]
    return said(seq, "contours", features=features, replaces=[*replaces], provisional=provisional)


STARTED = LINES[0]
DONE = said(9, "done", objects=2, tiles=1, tiles_failed=0, tiles_skipped=0, seconds=1.0)


def script(server: Server, *jobs: bytes) -> None:
    """Answer the submissions with the jobs j1, j2, ... which tell these events."""
    names = [f"j{k + 1}" for k in range(len(jobs))]
    server.scripts["/v1/jobs"] = [answer({"job": name, "position": 0}, 201) for name in names]
    for name, lines in zip(names, jobs, strict=True):
        server.scripts[f"/v1/jobs/{name}/events"] = [stream(lines)]


class Drawn(NamedTuple):
    """The ids of what was added and removed."""

    added: list[str]
    removed: list[str]


def to_the_end(run: Run) -> Drawn:
    drawn = Drawn([], [])
    limit = time.monotonic() + UNTIL
    while not run.is_over and time.monotonic() < limit:
        change = run.update(0.2)
        drawn.removed.extend(change.removed)
        drawn.added.extend(each["id"] for each in change.added)
    assert run.error is None
    return drawn


def test_a_run_is_drawn_by_its_changes(server: Server) -> None:
    pieces = found(1, "p", "q", provisional=True)
    script(server, STARTED + pieces + found(2, "a", replaces=["p", "q"]) + DONE)
    run = Run(Client(server.url), "a.svs", "nuclei", region=[0, 0, 9, 9], z=2).start()
    added, removed = to_the_end(run)
    assert [each for each in added if each not in removed] == ["a"]
    assert run.store.objects == {"a": {"id": "a"}}
    assert isinstance(run.store.end, Done)
    body = {"image": "a.svs", "model": "nuclei", "region": [0, 0, 9, 9], "z": 2}
    assert server.calls[0].body == body


def test_a_run_again_names_the_earlier_job_and_goes_on_from_its_results(server: Server) -> None:
    first = STARTED + found(1, "a", "b") + DONE
    second = STARTED + found(1, "a", "c", replaces=["b"]) + DONE
    script(server, first, second, first)
    run = Run(Client(server.url), "a.svs", "nuclei", at_um=1.0, parameters={"x": 1}).start()
    to_the_end(run)
    run.again(parameters={"x": 2})
    assert {*run.store.objects} == {"a", "b"}
    assert run.store.end is None
    assert to_the_end(run) == Drawn(added=["c"], removed=["b"])
    run.again()
    bodies = [call.body for call in server.calls if call.path == "/v1/jobs"]
    shared = {"image": "a.svs", "model": "nuclei", "at_um": 1.0}
    assert bodies == [
        {**shared, "parameters": {"x": 1}},
        {**shared, "parameters": {"x": 2}, "replaces": "j1"},
        {**shared, "parameters": {"x": 2}, "replaces": "j2"},
    ]


@pytest.mark.parametrize(("code", "status"), [("UnknownJob", 404), ("NotSupported", 422)])
def test_a_run_that_the_server_cannot_replace_gives_way_when_the_new_one_is_done(
    server: Server, code: str, status: int
) -> None:
    second = STARTED + found(1, "b", "c")
    script(server, STARTED + found(1, "a", "b") + DONE, second + DONE)
    refused = {"code": code, "detail": "job 'j1' cannot be replaced", "remedy": ""}
    submissions = server.scripts["/v1/jobs"]
    server.scripts["/v1/jobs"] = [submissions[0], answer(refused, status), submissions[1]]
    run = Run(Client(server.url), IMAGE, "nuclei").start()
    to_the_end(run)
    assert to_the_end(run.again(parameters={"x": 2})) == (["c"], ["a"])
    assert [each["id"] for each in run.store.final()] == ["b", "c"]


def test_a_run_that_is_refused_again_stays_as_it_was(server: Server) -> None:
    script(server, STARTED + found(1, "a") + DONE)
    run = Run(Client(server.url), "a.svs", "nuclei", at_um=1.0).start()
    to_the_end(run)
    before = (run.job, run.store, run.follower, run.options)
    server.scripts["/v1/jobs"] = [answer({**FULL, "code": "BadParameter"}, 422)]
    with pytest.raises(ClientError, match="full"):
        run.again(at_um=0.0)
    assert (run.job, run.store, run.follower, run.options) == before


def test_a_run_takes_the_last_events_of_the_one_that_it_replaces(server: Server) -> None:
    first, second = found(1, "a", "b"), found(1, "c", replaces=["a", "b"])
    third = found(1, "d", replaces=["c"])
    script(server, *(STARTED + results + DONE for results in (first, second, third)))
    run = Run(Client(server.url), "a.svs", "nuclei").start()
    to_the_end(run)
    run.again()
    run.again()  # none of the events of the second run have been read
    shown, bookmark = run.store.final(), run.bookmark
    to_the_end(run)
    assert run.store.objects.keys() == {"d"}
    later = Run.resume(run.client, bookmark, objects=shown)
    to_the_end(later)
    assert later.store.objects.keys() == {"d"}


def test_what_a_cancelled_run_leaves_of_a_forgotten_one_goes_with_the_next(server: Server) -> None:
    second = STARTED + said(2, "cancelled", tiles_done=0, tiles=1)
    script(server, STARTED + found(1, "a") + DONE, second, STARTED + found(1, "b") + DONE)
    first, *others = server.scripts["/v1/jobs"]
    server.scripts["/v1/jobs"] = [first, answer({**FULL, "code": "UnknownJob"}, 404), *others]
    run = Run(Client(server.url), IMAGE, "nuclei").start()
    to_the_end(run)
    to_the_end(run.again())
    assert run.store.objects.keys() == {"a"}
    to_the_end(run.again())
    assert run.store.objects.keys() == {"b"}


@pytest.mark.parametrize("text", ["", "{}", "null", "[]", '{"job": "x"}'])
def test_a_text_that_is_no_bookmark_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a bookmark"):
        Run.resume(Client("http://127.0.0.1:9"), text)


def test_a_run_goes_on_after_the_viewer_was_closed(server: Server) -> None:
    first = STARTED + found(1, "a", "b", "c") + found(2, "p", provisional=True)
    script(server, first)
    client = Client(server.url)
    run = Run(client, "a.svs", "nuclei", format="qupath", parameters={"x": 1}).start()
    while run.store.last_seq < 2:
        run.update(UNTIL)
    run.store.keep("b")
    stored, bookmark = run.store.final(), run.bookmark
    run.follower.stop()

    script(server, found(3, "d", replaces=["p"]) + DONE)
    later = Run.resume(client, bookmark, objects=stored)
    assert to_the_end(later).added == ["d"]
    assert {*later.store.objects} == {"a", "b", "c", "d"}
    assert later.store.started == run.store.started
    assert server.calls[-1].path == "/v1/jobs/j1/events?after=2"

    script(server, STARTED + found(1, "d", replaces=["a", "b"]) + DONE)
    later.again()
    assert to_the_end(later).removed == ["a"]
    (submitted,) = (call.body for call in server.calls[2:] if call.method == "POST")
    assert submitted == {
        "image": "a.svs",
        "model": "nuclei",
        "format": "qupath",
        "parameters": {"x": 1},
        "replaces": "j1",
    }


def test_a_job_is_followed_on_after_the_connection_was_given_up(server: Server) -> None:
    script(server, STARTED + found(1, "a"))
    run = Run(Client(server.url, policy=ONCE), "a.svs", "nuclei").start()
    while not run.is_over:
        run.update(0.2)
    assert run.error is not None
    script(server, STARTED + found(1, "a") + found(2, "b") + DONE)
    assert to_the_end(run.follow()).added == ["b"]
    assert server.calls[-1].path == "/v1/jobs/j1/events?after=1"


def test_a_run_that_was_refused_can_be_started_with_other_options(server: Server) -> None:
    server.scripts["/v1/jobs"] = [answer({**FULL, "code": "BadRegion"}, 422)]
    run = Run(Client(server.url), "a.svs", "nuclei", region=[9, 9, 0, 0])
    with pytest.raises(ClientError, match="full"):
        run.start()
    script(server, STARTED + found(1, "a") + DONE)
    assert to_the_end(run.again(region=[0, 0, 9, 9])).added == ["a"]
    (_, body, *_) = (call.body for call in server.calls)
    assert body == {"image": "a.svs", "model": "nuclei", "region": [0, 0, 9, 9]}


def test_a_viewer_that_stored_nothing_is_told_everything_again(server: Server) -> None:
    script(server, STARTED + found(1, "a") + DONE)
    run = Run(Client(server.url), "a.svs", "nuclei").start()
    to_the_end(run)
    later = Run.resume(run.client, run.bookmark)
    assert to_the_end(later).added == ["a"]
    assert server.calls[-1].path == "/v1/jobs/j1/events?after=-1"


def test_a_run_without_a_job_says_what_to_do(server: Server) -> None:
    run = Run(Client(server.url), "a.svs", "nuclei")
    with pytest.raises(RuntimeError, match=r"call start\(\)"):
        run.update()
    with pytest.raises(RuntimeError, match=r"call start\(\)"):
        run.follow()
    script(server, STARTED + DONE)
    with pytest.raises(RuntimeError, match=r"call again\(\)"):
        run.start().start()
    assert len([call for call in server.calls if call.method == "POST"]) == 1


@pytest.mark.slow
def test_a_run_on_a_real_server_is_stopped_and_resumed(shared_server: SharedServer) -> None:
    pixels = np.full((2560, 2560, 3), 230, np.uint8)
    pixels[20:40, 50:90] = pixels[1500:1503, 1300:1310] = 40
    Image.fromarray(pixels).save(shared_server.images / "runs.png")
    client = Client(shared_server.url)
    run = Run(client, IMAGE, "threshold", parameters={"below": 128}).start()
    to_the_end(run)
    assert len(run.store.final()) == 2
    assert {*to_the_end(Run.resume(client, run.bookmark)).added} == {*run.store.objects}

    slow = Run(client, IMAGE, "slow", parameters={"seconds": 0.5}).start()
    while not slow.store.objects:
        slow.update(UNTIL)
    slow.cancel()
    to_the_end(slow)
    assert isinstance(slow.store.end, Cancelled)
    assert not slow.store.provisional
