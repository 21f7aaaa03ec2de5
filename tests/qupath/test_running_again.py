"""Runs in place of earlier ones in QuPath: what is in the hierarchy meanwhile and at the end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from isoline.client import Client
from tests.qupath import building as qupath
from tests.qupath.building import Build, Proxy, proxied
from tests.qupath.test_client import OBJECTS, asked


def things(widest: float, seconds: float = 0.0) -> dict[str, Any]:
    """The same outlines for any `widest`, with other ids."""
    return {"model": "greedy", "parameters": {"widest": widest, "seconds": seconds}, "tile": 512}


def areas(seconds: float) -> dict[str, Any]:
    """The same areas for any `seconds`, with other ids; they come in pieces."""
    return {"model": "slow", "parameters": {"seconds": seconds}}


FIRST, SECOND, THIRD = things(4096.0), things(4000.0), things(3999.0)


@pytest.fixture(scope="module")
def build() -> Build:
    return qupath.built()


@pytest.fixture(params=["java", "script"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def series(build: Build, kind: str, server: str, *steps: Any, **more: Any) -> list[dict[str, Any]]:
    """Run with each of `steps`, options and what else happens, and return what is there after."""
    runs = [{"options": step} if "options" not in step else step for step in steps]
    request = asked(server, {}, "series", series=runs, **more)
    said = build.run(kind, **{key: each for key, each in request.items() if each is not None})
    after: list[dict[str, Any]] = said["after"]
    assert len(after) == len(steps)
    return after


@dataclass
class Submissions:
    """Notes which earlier job is named by each submission, and changes the first name."""

    named: list[str | None] = field(default_factory=list)
    name: Callable[[str], str] = lambda job: job

    def __call__(self, body: bytes) -> bytes:
        if b'"model"' not in body:
            return body
        named = json.loads(body).get("replaces")
        is_first = named and not any(self.named)
        self.named.append(named)
        return body.replace(named.encode(), self.name(named).encode()) if is_first else body


def test_each_object_gives_way_to_the_one_in_its_place(
    build: Build, kind: str, server: str
) -> None:
    first, second = series(build, kind, server, FIRST, things(4000.0, 0.2))
    assert (first["state"], second["state"]) == ("done", "done")
    assert not set(first["ids"]) & set(second["ids"])
    assert len(second["shown"]) > 1, "all came at once"
    assert {first["outlines"], *second["shown"]} == {first["outlines"]}


def test_the_same_run_again_adds_and_loses_nothing(build: Build, server: str) -> None:
    first, second = series(build, "java", server, OBJECTS, OBJECTS)
    assert second["ids"] == first["ids"]
    assert second["children"] == len(first["ids"]) == second["objects"] > 100


def test_cancelled_it_leaves_each_object_once(build: Build, kind: str, server: str) -> None:
    cancelled = {"options": things(4000.0, 0.2), "cancel": True}
    first, second, third = series(build, kind, server, FIRST, cancelled, THIRD)
    assert second["state"] == "cancelled"
    assert 0 < len(set(first["ids"]) & set(second["ids"])) < len(first["ids"])
    assert second["outlines"] == first["outlines"]
    assert third["outlines"] == first["outlines"]
    assert not set(third["ids"]) & set(second["ids"])


def test_failed_it_leaves_each_object_once(build: Build, server: str) -> None:
    replacing = 0

    def fail(line: bytes) -> bytes:
        nonlocal replacing
        replacing += b'"replaces":["' in line
        if replacing < 3:
            return line
        failed = {"code": "Broken", "message": "the disk is full", "remedy": ""}
        return json.dumps({"event": "failed", "seq": 1000, **failed}).encode() + b"\n"

    with proxied(Proxy(server, rewrite=fail)) as url:
        first, second = series(build, "java", url, FIRST, SECOND)
    assert second["state"] == "failed"
    assert 0 < len(set(first["ids"]) & set(second["ids"])) < len(first["ids"])
    assert second["outlines"] == first["outlines"]


def test_areas_stay_until_the_new_ones_are_complete(build: Build, server: str) -> None:
    cancelled = {"options": areas(0.3), "cancel": True}
    first, second, third = series(build, "java", server, areas(0.0), cancelled, areas(0.01))
    assert second["state"] == "cancelled"
    assert set(first["ids"]) <= set(second["ids"])
    assert second["provisional"] == 0
    assert third["state"] == "done"
    assert third["ids"]
    assert not set(third["ids"]) & set(second["ids"])


@pytest.mark.parametrize("old", [{}, {"old": True}], ids=["now", "as QuPath 0.5"])
def test_what_was_edited_stays_and_is_not_doubled(
    build: Build, kind: str, server: str, old: dict[str, Any]
) -> None:
    """QuPath 0.5 would also refuse or bemoan the metadata of every detection."""
    nothing = {**OBJECTS, "parameters": {"below": 0, "above": 255}}
    again = {"options": OBJECTS, "edit": True}
    first, second, third = series(build, kind, server, OBJECTS, again, nothing, **old)
    assert [each["refused"] for each in (first, second, third)] == [0, 0, 0]
    assert second["ids"] == first["ids"]
    assert second["children"] == len(first["ids"])
    locked, named, drawn_in, reshaped = second["edited"]
    # in QuPath 0.5, nothing tells that a detection was reshaped
    assert set(third["ids"]) == {locked, named, drawn_in, *([] if old else [reshaped])}


def test_quitting_qupath_between_two_runs_changes_nothing(
    build: Build, kind: str, server: str
) -> None:
    asked = Submissions()
    cancelled = {"options": things(4000.0, 0.2), "cancel": True, "restart": True}
    with proxied(Proxy(server, reword=asked)) as url:
        first, second = series(build, kind, url, FIRST, cancelled)
    assert asked.named[0] is None
    assert re.fullmatch(r"\w+", asked.named[1] or "")
    assert 0 < len(set(first["ids"]) & set(second["ids"])) < len(first["ids"])
    assert second["outlines"] == first["outlines"]


def test_a_run_on_the_whole_slide_is_known_again_too(build: Build, server: str) -> None:
    """Its objects are below the root, which is another one after a restart."""
    asked = Submissions()
    with proxied(Proxy(server, reword=asked)) as url:
        again = {"options": OBJECTS, "restart": True}
        first, second = series(build, "java", url, OBJECTS, again, region=None)
    assert asked.named[1]
    assert second["ids"] == first["ids"]


@pytest.fixture(params=["forgotten", "on another image"])
def unusable(request: pytest.FixtureRequest, server: str, crops: Path) -> Callable[[str], str]:
    """Gives the id of a job that cannot be replaced, for that of the one that could."""
    if request.param == "forgotten":
        return lambda job: "0" * len(job)
    Image.fromarray(np.full((64, 64, 3), 255, np.uint8)).save(crops / "white.png")
    other = Client(server).submit("crops/white.png", "threshold", parameters={"below": 200})
    return lambda job: other.id


def test_without_the_earlier_job_objects_stay_until_it_is_done(
    build: Build, server: str, unusable: Callable[[str], str]
) -> None:
    asked = Submissions(name=unusable)
    with proxied(Proxy(server, reword=asked)) as url:
        first, second = series(build, "java", url, FIRST, things(4000.0, 0.2))
    assert [bool(name) for name in asked.named] == [False, True, False]
    assert second["state"] == "done"
    assert second["shown"][0] != first["outlines"], "both are there meanwhile"
    assert second["outlines"] == first["outlines"]
    assert not set(first["ids"]) & set(second["ids"])


def test_without_the_earlier_job_objects_stay_if_it_is_cancelled(build: Build, server: str) -> None:
    asked = Submissions(name=lambda job: "0" * len(job))
    cancelled = {"options": things(4000.0, 0.2), "cancel": True}
    with proxied(Proxy(server, reword=asked)) as url:
        first, second, third = series(build, "java", url, FIRST, cancelled, THIRD)
    assert [bool(name) for name in asked.named] == [False, True, False, True]
    assert second["state"] == "cancelled"
    assert set(first["ids"]) < set(second["ids"])
    assert third["outlines"] == first["outlines"], "it replaces what the server does not know, too"
    assert not set(third["ids"]) & set(second["ids"])


def test_earlier_objects_stay_where_tiles_fail(build: Build, server: str) -> None:
    first, second = series(build, "java", server, FIRST, {**things(10.0), "tile": 256})
    assert second["state"] == "done"
    assert "tiles failed" in second["message"]
    assert second["ids"] == first["ids"]


def test_a_run_that_was_lost_is_replaced_with_what_it_replaced_unseen(
    build: Build, server: str
) -> None:
    proxy = Proxy(server)
    seen = 0

    def lose(line: bytes) -> bytes:
        nonlocal seen
        is_second = len(proxy.keys) == 2
        seen += is_second and b'"replaces":["' in line
        return b"{\n" if is_second and seen > 1 else line

    proxy.rewrite = lose
    with proxied(proxy) as url:
        first, lost, third = series(build, "java", url, FIRST, SECOND, THIRD, seconds=1)
    assert lost["state"] == "lost"
    assert set(first["ids"]) & set(lost["ids"])
    assert third["state"] == "done"
    assert third["outlines"] == first["outlines"]
    assert not set(third["ids"]) & set(lost["ids"])
