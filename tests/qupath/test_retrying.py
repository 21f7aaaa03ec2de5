"""QuPath's client tries again as the protocol says, by a clock that only its pauses move on."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.qupath import building
from tests.qupath.building import PLUGIN, Build

NO_ANSWER: dict[str, Any] = {}
BUSY = {"status": 503}
KINDS = ("java", "script")


@pytest.fixture(scope="module")
def build() -> Build:
    return building.built()


def scene(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"steps": list(steps), **more}


SCENES: dict[str, dict[str, Any]] = {
    "doubling": scene(*[BUSY] * 5, stream=True),
    "lowest": scene(*[BUSY] * 3, chance=0),
    "highest": scene(*[BUSY] * 3, chance=1),
    "longest": scene(*[NO_ANSWER] * 8, stream=True),
    "final": scene({"status": 409}),
    "asked": scene(
        {"status": 429, "retry_after": "3"}, {"status": 503, "retry_after": "3"}, chance=0
    ),
    "asked, at most": scene({"status": 429, "retry_after": "3"}, chance=1),
    "a date": scene(
        {"status": 503, "retry_after": "Sun, 01 Mar 2026 12:00:20 GMT", "seconds": 5}, chance=0
    ),
    "a date that has passed": scene(
        {"status": 503, "retry_after": "Sun, 01 Mar 2026 11:00:00 GMT"}
    ),
    "no date": scene({"status": 503, "retry_after": "soon"}),
    "at the limit": scene({"status": 503, "retry_after": "25", "seconds": 5}, chance=0),
    "beyond the limit": scene({"status": 503, "retry_after": "26", "seconds": 5}, chance=0),
    "a stream at its limit": scene({**BUSY, "seconds": 299.75}, stream=True),
    "a stream beyond its limit": scene({**BUSY, "seconds": 299.76}, stream=True),
    "alive": scene(
        BUSY, BUSY, {"alive": True, "seconds": 200}, {**BUSY, "seconds": 200}, BUSY, stream=True
    ),
    "cancelled": scene(BUSY, BUSY, BUSY, cancels_in=2),
    **{f"status {status}": scene({"status": status}) for status in (400, 404, 429, 500, 502, 504)},
}


@pytest.fixture(scope="module", params=KINDS)
def played(build: Build, request: pytest.FixtureRequest) -> dict[str, Any]:
    said = build.main(request.param, "Retrying", json.dumps(list(SCENES.values())))
    *ends, waking = json.loads(said)
    return {**dict(zip(SCENES, ends, strict=True)), "waking": waking}


@pytest.mark.parametrize(
    ("name", "pauses"),
    [
        ("doubling", [0.25, 0.5, 1, 2, 4]),
        ("lowest", [0.1875, 0.375, 0.75]),
        ("highest", [0.3125, 0.625, 1.25]),
        ("longest", [0.25, 0.5, 1, 2, 4, 8, 8, 8]),
        ("asked", [3, 3]),
        ("asked, at most", [3.3]),
        ("a date", [15]),
        ("a date that has passed", [0.25]),
        ("no date", [0.25]),
        ("at the limit", [25]),
        ("a stream at its limit", [0.25]),
        ("alive", [0.25, 0.5, 0.25, 0.5]),
    ],
)
def test_the_pauses(played: dict[str, Any], name: str, pauses: list[float]) -> None:
    assert played[name]["pauses"] == pytest.approx(pauses)
    assert played[name]["end"] == "answered"
    assert played[name]["heard"][-1] == "back"


@pytest.mark.parametrize("name", ["beyond the limit", "a stream beyond its limit"])
def test_an_attempt_that_would_come_too_late_is_not_made(played: dict[str, Any], name: str) -> None:
    assert played[name] == {"end": "gave up: status 503", "heard": [], "pauses": []}


def test_what_is_final(played: dict[str, Any]) -> None:
    ends = {status: played[f"status {status}"]["end"] for status in (400, 404, 429, 500, 502, 504)}
    assert ends == {
        400: "final: status 400",
        404: "final: status 404",
        429: "answered",
        500: "final: status 500",
        502: "answered",
        504: "answered",
    }
    assert played["final"]["pauses"] == []


def test_the_listener_hears_why_and_how_long_there_is_still(played: dict[str, Any]) -> None:
    assert played["at the limit"]["heard"] == ["status 503, 25000 ms left", "back"]


def test_stopping_ends_a_pause_at_once(played: dict[str, Any]) -> None:
    assert played["cancelled"]["end"] == "cancelled"
    assert len(played["cancelled"]["pauses"]) == 2
    assert 0 <= played["waking"]["cancelled_after_ms"] < 1000
    assert 0 <= played["waking"]["interrupted_after_ms"] < 1000


def test_the_keys_of_a_request_have_one_place() -> None:
    """Else what is compared with the server's schema would not be what is sent."""
    keys = building.request_keys()
    assert {"image", "image_size", "model", "prompts", "focus"} <= keys
    written = re.compile(
        r"\b(?:request|options|purpose)\.(?:add|addProperty|get|has|remove)\(\"(\w+)\""
    )
    sources = [*(PLUGIN / "src").rglob("*.java"), PLUGIN / "script" / "main.groovy"]
    texts = {path.name: path.read_text("utf-8").replace("'", '"') for path in sources}
    assert {
        name: written.findall(text) for name, text in texts.items() if written.search(text)
    } == {}
    assert any("request.add(RequestKeys." in text for text in texts.values())
