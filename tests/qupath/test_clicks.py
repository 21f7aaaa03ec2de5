"""Clicks in QuPath: what is drawn as the server reads it, and sessions against a real server."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from isoline.domain import prompts
from isoline.domain.prompts import Prompt
from isoline.protocol import requests
from tests.qupath import building as qupath
from tests.qupath.building import PLUGIN, Build, Proxy, proxied
from tests.slides import Shapes

DRAWN = json.loads((PLUGIN / "test" / "drawn.geojson").read_text())["features"]
"""Written by QuPath 0.5.1's own GsonTools."""
EXPECTED = {
    "point": [Prompt("point", ((10.5, 20.25),))],
    "points": [Prompt("point", ((1, 2),), False), Prompt("point", ((3.5, 4),), False)],
    "empty points": [],
    "rectangle": [Prompt("box", ((10, 20), (40, 60)), False)],
    "line": [Prompt("scribble", ((1, 2), (3, 4)))],
    "polyline": [Prompt("scribble", ((1, 2), (3, 4), (5, 9)), False)],
    "polygon": [Prompt("polygon", ((1, 2), (5, 90), (30, 4)))],
    "brush with a hole": [Prompt("box", ((0, 0), (100, 100)))],
    "two parts": [Prompt("box", ((0, 0), (100, 100))), Prompt("box", ((200, 200), (210, 210)))],
}


@pytest.fixture(scope="module")
def build() -> Build:
    return qupath.built()


class TestPrompts:
    @pytest.fixture(scope="class", params=["java", "script"])
    @classmethod
    def said(cls, build: Build, request: pytest.FixtureRequest) -> dict[str, Any]:
        return build.run(request.param, do="prompts", drawn=DRAWN)

    def test_what_is_drawn_is_what_the_server_reads(self, said: dict[str, Any]) -> None:
        assert [feature["properties"]["name"] for feature in DRAWN] == list(EXPECTED)
        assert list(read(said["prompts"])) == [each for name in EXPECTED for each in EXPECTED[name]]

    def test_one_by_one_each_has_what_is_excluded(self, said: dict[str, Any]) -> None:
        everything = read(said["prompts"])
        requests = [read(sent) for sent in said["one_by_one"]]
        assert [request[0] for request in requests] == [each for each in everything if each.include]
        for request in requests:
            assert request[1:] == tuple(each for each in everything if not each.include)


def read(sent: object) -> tuple[Prompt, ...]:
    """Return `sent` as the server reads it in a request on a slide."""
    body = json.dumps({"image": "a.svs", "model": "click", "prompts": sent}).encode()
    read = requests.parse_request(body).prompts
    prompts.check(read, 2)
    return read


# --- Sessions ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Places:
    """Where to click on the slide of disks, image pixels x, y."""

    one: tuple[float, float]
    other: tuple[float, float]
    bright: tuple[float, float]


@pytest.fixture(scope="module")
def at(disk_slide: Shapes) -> Places:
    """In two small things near each other, and between them where there is nothing."""
    part = disk_slide.labels[1000:1400, 1000:1400]
    inner = np.setdiff1d(part[60:-60, 60:-60], [0, *part[0], *part[-1], *part[:, 0], *part[:, -1]])

    def inside(label: int) -> tuple[float, float]:
        y, x = np.argwhere(part == label)[0]
        return 1000.5 + float(x), 1000.5 + float(y)

    return Places(inside(inner[0]), inside(inner[-1]), inside(0))


def click(at: tuple[float, float], name: str | None = None) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": "annotation"}
    if name:
        properties["classification"] = {"name": name, "color": [1, 2, 3]}
    geometry = {"type": "Point", "coordinates": list(at)}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def draw(*places: tuple[float, float], name: str | None = None) -> dict[str, Any]:
    return {"draw": [click(at, name) for at in places]}


NEXT, UNDO = {"do": "next"}, {"do": "undo"}


def session(
    build: Build, kind: str, url: str, *steps: dict[str, Any], **more: Any
) -> dict[str, Any]:
    options = {"model": "flood", "parameters": {"below": 200, "seconds": more.pop("seconds", 0)}}
    asked = {"uri": "file:/S:/scans/disks.tif", "size": [6007, 5003], "um": 0.25, **more}
    return build.run(kind, do="click", url=url, options=options, steps=list(steps), **asked)


@pytest.fixture(params=["java", "script"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_one_object_after_another(build: Build, kind: str, server: str, at: Places) -> None:
    steps = {
        "click": draw(at.one, name="Tumor"),
        "click on another": draw(at.other),
        "undo": UNDO,
        "exclude": {"exclude": True},
        "click off": draw(at.other),
        "next": NEXT,
        "include": {"exclude": False},
        "the other": draw(at.other, name="Positive"),
        "the other is kept": NEXT,
        "the first again": draw(at.one),
        "and kept": NEXT,
        "beside": draw(at.bright),
        "close": {"do": "close"},
    }
    said = session(build, kind, server, *steps.values())
    after = dict(zip(steps, said["after"], strict=True))
    ids = {name: [result[0] for result in after[name]["results"]] for name in after}

    assert len(ids["click"]) == 1
    assert after["click"]["results"][0][1:] == ["thing", "annotation"]
    assert "next object" in after["click"]["words"]
    assert len(ids["click on another"]) == 1
    assert ids["click on another"] != ids["click"] == ids["undo"] == ids["click off"]
    assert after["undo"]["drawn"] == ["Tumor"]
    assert after["click off"]["drawn"] == ["Tumor", "Ignore*"]
    assert after["next"]["drawn"] == []
    assert [each[1] for each in after["next"]["results"]] == ["Tumor"]
    assert [each[1] for each in after["the other is kept"]["results"]] == ["Tumor", "thing"]
    assert ids["and kept"] == ids["the other is kept"]  # it is there already
    assert "it is bright there" in after["beside"]["words"]
    assert after["close"]["results"] == after["and kept"]["results"]
    assert after["close"]["drawn"] == []
    included = [[each["include"] for each in kept["prompts"]] for kept in said["recorded"]]
    assert included == [[True, False], [True]]


def test_a_click_is_no_job(build: Build, kind: str, server: str, at: Places) -> None:
    proxy = Proxy(server)
    with proxied(proxy) as url:
        (said,) = session(build, kind, url, draw(at.one))["after"]
    assert len(said["results"]) == 1
    assert proxy.calls == ["POST /v1/segment"]


def test_an_answer_that_breaks_off_is_asked_for_again(
    build: Build, kind: str, server: str, at: Places
) -> None:
    undisturbed = session(build, kind, server, draw(at.one))["after"]
    proxy = Proxy(server, cuts=[0, 1, 2], refusals=[("POST", 503, "1")])
    with proxied(proxy) as url:
        said = session(build, kind, url, draw(at.one))
    assert said["after"][0]["results"] == undisturbed[0]["results"] != []
    assert proxy.calls == ["POST /v1/segment"] * 5
    assert not proxy.cuts
    waited = [words for words in said["words"] if "Trying again" in words]
    assert re.match(r"HTTP 503 .* Trying again in 2 s, for another (30|2\d) s at most", waited[0])
    assert len(waited) == 4


def test_the_next_prompt_hangs_up_on_the_one_before(build: Build, server: str, at: Places) -> None:
    proxy = Proxy(server)
    steps = [{**draw(at.one), "hurry": 1.5}, UNDO, draw(at.other)]
    with proxied(proxy) as url:
        said = session(build, "java", url, *steps, seconds=4)
    hurried, undone, other = said["after"]
    assert hurried["results"] == undone["results"] == []
    assert undone["seconds"] < 2
    assert len(other["results"]) == 1
    assert proxy.ends == ["POST /v1/segment, hung up", "POST /v1/segment"]
    assert any(
        re.match(r"Waiting for http\S+ to answer: [1-9] s so far", each) for each in said["words"]
    )


def test_who_clicks_fast_gets_the_answer_to_all_clicks(
    build: Build, server: str, at: Places
) -> None:
    one, other = draw(at.one), draw(at.other)
    both, _ = session(build, "java", server, draw(at.one, at.other), UNDO, seconds=0.3)["after"]
    steps = [{**one, "hurry": 0}, other]
    _, hurried = session(build, "java", server, *steps, seconds=0.3)["after"]
    assert hurried["results"] == both["results"] != []


def test_what_was_drawn_before_is_kept(build: Build, server: str, at: Places) -> None:
    """What is selected when the session starts points at its first object."""
    said = session(build, "java", server, NEXT, drawn=[click(at.one, "Stroma")])["after"][-1]
    assert said["drawn"] == ["Stroma"]
    assert [each[1] for each in said["results"]] == ["Stroma"]


def test_a_refusal_is_said_and_the_answer_stays(build: Build, server: str, at: Places) -> None:
    steps = draw(at.one), {"exclude": True}, draw(at.one)
    first, _, second = session(build, "java", server, *steps)["after"]
    assert "excludes the same pixel" in second["words"]
    assert second["results"] == first["results"]


def test_pixels_are_uploaded_once_for_clicks_near_each_other(
    build: Build, server: str, at: Places, disk_slide: Shapes, tmp_path: Any
) -> None:
    import tifffile

    Image.fromarray(tifffile.imread(disk_slide.path)).save(tmp_path / "a.png", compress_level=1)
    proxy = Proxy(server)
    steps = [draw(at.one), draw(at.other), UNDO, NEXT, draw((5200, 4200))]
    more = {"uri": "file:/elsewhere.tif", "pixels": str(tmp_path / "a.png")}
    with proxied(proxy) as url:
        here = session(build, "java", url, *steps[:3])["after"]
        calls = len(proxy.calls)
        away = session(build, "java", url, *steps, **more)["after"]
    uploads = [call for call in proxy.calls[calls:] if call == "POST /v1/uploads"]
    assert [len(step["results"]) for step in away[:3]] == [len(step["results"]) for step in here]
    assert away[0]["results"] == away[2]["results"] != away[1]["results"]
    assert len(uploads) == 2  # the second for the one far away
    assert proxy.sent < 2.5 * (2048 + 512) ** 2
