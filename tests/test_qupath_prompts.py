"""What a user draws in QuPath to point at something, as the server reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from isoline import prompts, wire
from isoline.prompts import Prompt
from tests import qupath
from tests.qupath import PLUGIN, Build

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


@pytest.fixture(scope="module", params=["java", "script"])
def said(build: Build, request: pytest.FixtureRequest) -> dict[str, Any]:
    return build.run(request.param, do="prompts", drawn=DRAWN)


def read(sent: object) -> tuple[Prompt, ...]:
    """Return `sent` as the server reads it in a request on a slide."""
    body = json.dumps({"image": "a.svs", "model": "click", "prompts": sent}).encode()
    read = wire.parse_request(body).prompts
    prompts.check(read, 2)
    return read


def test_what_is_drawn_is_what_the_server_reads(said: dict[str, Any]) -> None:
    assert [feature["properties"]["name"] for feature in DRAWN] == list(EXPECTED)
    assert list(read(said["prompts"])) == [each for name in EXPECTED for each in EXPECTED[name]]


def test_one_by_one_each_has_what_is_excluded(said: dict[str, Any]) -> None:
    everything = read(said["prompts"])
    requests = [read(sent) for sent in said["one_by_one"]]
    assert [request[0] for request in requests] == [each for each in everything if each.include]
    for request in requests:
        assert request[1:] == tuple(each for each in everything if not each.include)
