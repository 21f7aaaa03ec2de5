"""The plugin's routes on a real Girder."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests

from tests.dsa.conftest import REGION, Archive, wait_for


def server_result(archive: Archive, run: Any) -> dict[str, Any]:
    """Return the final features of the run's job as the isoline server tells them, by id."""
    events = archive.admin.open("GET", f"isoline/run/{run['_id']}/events", stream=True)
    lines = [json.loads(line) for line in events.iter_lines() if line]
    assert lines[-1]["event"] in ("done", "cancelled")
    return {
        feature["id"]: feature
        for line in lines
        if line["event"] == "contours" and not line["provisional"]
        for feature in line["features"]
    }


def shape(element: Any) -> tuple[Any, Any, str]:
    return element["points"], element.get("holes") or [], element["group"]


def stored(archive: Archive, run: Any) -> dict[str, Any]:
    return {
        each["id"]: each
        for annotation in archive.state(run)["annotations"]
        for each in archive.elements(annotation)
    }


def test_what_is_stored_is_what_the_server_found(archive: Archive) -> None:
    run = archive.start("nuclei", title="Nuclei")
    ended = archive.ended(run)
    assert ended["state"] == "done", ended
    found, kept = server_result(archive, run), stored(archive, run)
    assert len(found) > 30
    assert found.keys() == kept.keys()
    assert all(shape(found[each]) == shape(kept[each]) for each in found)
    (annotation,) = ended["annotations"]
    head = archive.admin.call("GET", f"annotation/{annotation}", limit=1)
    assert head["_elementCount"] == len(kept)
    assert head["_detailsCount"] == sum(len(each["points"]) for each in kept.values())
    assert head["groups"] == sorted({each["group"] for each in kept.values()})
    archive.accepted(run)
    name = archive.admin.call("GET", f"annotation/{annotation}", limit=1)["annotation"]["name"]
    assert name == "Nuclei"


def test_a_run_that_is_submitted_again_is_the_same(archive: Archive) -> None:
    body = {"model": "slow", "region": [*REGION], "parameters": {"seconds": 0.1}}
    route = f"isoline/item/{archive.item}/run"
    first, again, other = (
        archive.admin.open("POST", route, json=body, idempotency_key=key).json()
        for key in ("the-same-key", "the-same-key", "another-key")
    )
    assert again["_id"] == first["_id"] != other["_id"]
    assert archive.ended(other)["state"] == archive.ended(first)["state"] == "done"
    runs = archive.admin.call("GET", f"isoline/item/{archive.item}")["runs"]
    assert {run["_id"] for run in runs} == {first["_id"], other["_id"]}
    assert server_result(archive, first).keys() == stored(archive, first).keys()


def test_events_are_passed_on_as_they_come(archive: Archive) -> None:
    run = archive.start("slow", (5000, 6200, 7048, 7224), parameters={"seconds": 0.5})
    events = archive.admin.open("GET", f"isoline/run/{run['_id']}/events", stream=True)
    assert any(b'"contours"' in line for line in events.iter_lines())
    assert archive.state(run)["state"] == "running"
    events.close()


def test_an_annotation_is_locked_while_it_grows(archive: Archive) -> None:
    run = archive.start("slow", (5000, 6200, 7048, 7224), parameters={"seconds": 0.5})
    growing = wait_for(lambda: archive.state(run)["annotations"], bool)[0]
    document = archive.admin.call("GET", f"annotation/{growing}")["annotation"]
    assert document["name"].endswith("(growing)")
    emptied = {**document, "elements": []}
    renamed = [{"op": "replace", "path": "/name", "value": "mine"}]
    for method, body in (("PUT", emptied), ("PATCH", renamed), ("DELETE", None)):
        answer = archive.admin.open(method, f"annotation/{growing}", json=body)
        assert answer.status_code == 423, answer.text
        assert "still adding" in answer.text
    early = archive.admin.open("POST", f"isoline/run/{run['_id']}/accept")
    assert early.status_code == 409
    archive.admin.call("POST", f"isoline/run/{run['_id']}/cancel")
    assert archive.ended(run)["state"] == "cancelled"


def test_a_copy_that_was_read_too_early_cannot_be_saved(archive: Archive) -> None:
    run = archive.start("slow", (5000, 6200, 7048, 7224), parameters={"seconds": 0.2})
    growing = wait_for(lambda: archive.state(run)["annotations"], bool)[0]
    partial = archive.admin.call("GET", f"annotation/{growing}", limit=0)["annotation"]
    archive.ended(run)
    whole = archive.admin.call("GET", f"annotation/{growing}", limit=0)["annotation"]
    assert len(partial["elements"]) < len(whole["elements"])
    attributes = [{"op": "replace", "path": "attributes", "value": partial["attributes"]}]
    for method, body in (("PUT", partial), ("PATCH", attributes)):
        answer = archive.admin.open(method, f"annotation/{growing}", json=body)
        assert answer.status_code == 409, answer.text
        assert "Reload the page" in answer.text
    assert archive.elements(growing) == whole["elements"]
    fewer = {**whole, "name": "mine", "elements": whole["elements"][1:]}
    archive.admin.call("PUT", f"annotation/{growing}", json=fewer)
    assert archive.elements(growing) == whole["elements"][1:]


def test_a_second_run_replaces_what_nobody_touched(archive: Archive) -> None:
    first = archive.accepted(archive.start("nuclei"))
    (old,) = first["annotations"]
    before = archive.elements(old)
    edited, deleted, moved = (
        before[3],
        before[5],
        [[x + 2, y, z] for x, y, z in before[3]["points"]],
    )
    document = archive.admin.call("GET", f"annotation/{old}", limit=0)["annotation"]
    document["elements"] = [
        {**each, "points": moved} if each["id"] == edited["id"] else each
        for each in document["elements"]
        if each["id"] != deleted["id"]
    ]
    drawn = {"type": "rectangle", "center": [10, 10, 0], "width": 5, "height": 5, "rotation": 0}
    document["elements"].append(drawn)
    archive.admin.call("PUT", f"annotation/{old}", json=document)

    second = archive.accepted(archive.start("nuclei"))
    kept, new = archive.elements(old), archive.elements(second["annotations"][0])
    assert [each["type"] for each in kept] == ["polyline", "rectangle"]
    assert kept[0]["points"] == moved
    assert {each["id"] for each in new} == {each["id"] for each in before} - {edited["id"]}

    third = archive.accepted(archive.start("nuclei"))
    assert sorted(archive.annotations()) == sorted([old, *third["annotations"]])


def test_a_run_elsewhere_replaces_nothing(archive: Archive) -> None:
    here = archive.accepted(archive.start("nuclei"))
    x0, y0, x1, y1 = REGION
    there = archive.accepted(archive.start("nuclei", (x0 + 1500, y0, x1 + 1500, y1)))
    assert sorted(archive.annotations()) == sorted([*here["annotations"], *there["annotations"]])


def test_discard_leaves_nothing(archive: Archive) -> None:
    run = archive.start("nuclei")
    archive.ended(run)
    assert len(archive.annotations()) == 1
    archive.admin.call("POST", f"isoline/run/{run['_id']}/discard")
    assert archive.annotations() == []
    again = archive.admin.open("POST", f"isoline/run/{run['_id']}/discard")
    assert again.status_code == 409


def test_who_may_not_write_may_only_look(archive: Archive) -> None:
    guest = archive.stack.guest
    assert guest.call("GET", f"isoline/item/{archive.item}")["mayWrite"] is False
    body = {"model": "nuclei", "region": [*REGION]}
    refused = guest.open("POST", f"isoline/item/{archive.item}/run", json=body)
    assert refused.status_code == 403
    run = archive.start("nuclei")
    assert guest.call("GET", f"isoline/run/{run['_id']}")["model"] == "nuclei"
    for verb in ("cancel", "accept", "discard"):
        answer = guest.open("POST", f"isoline/run/{run['_id']}/{verb}")
        assert answer.status_code == 403, verb
    anonymous = requests.post(
        f"{archive.stack.url}/api/v1/isoline/item/{archive.item}/run", json=body, timeout=60
    )
    assert anonymous.status_code == 401
    archive.ended(run)


def test_no_secret_is_told(archive: Archive) -> None:
    run = archive.ended(archive.start("nuclei"))
    assert "process" not in run
    assert "job" not in run
    file = archive.admin.open("GET", f"isoline/item/{archive.item}/file")
    assert file.status_code == 403


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"model": "nuclei", "image": "slides/other.svs"}, "unknown keys: image"),
        ({"model": "nucleus"}, "did you mean 'nuclei'"),
        ({"model": "nuclei", "region": [-9, -9, -1, -1]}, "outside"),
        ({}, "no model"),
    ],
)
def test_mistakes_are_explained(archive: Archive, body: dict[str, Any], says: str) -> None:
    answer = archive.admin.open("POST", f"isoline/item/{archive.item}/run", json=body)
    assert 400 <= answer.status_code < 500
    assert says in answer.json()["message"]


def test_a_server_that_is_down_is_named(archive: Archive) -> None:
    setting = {"key": "isoline.url"}
    archive.admin.call("PUT", "system/setting", **setting, value="http://127.0.0.1:9")
    try:
        answer = archive.admin.open("GET", "isoline/models")
        assert answer.status_code == 502
        assert "http://127.0.0.1:9 does not respond" in answer.json()["message"]
    finally:
        archive.admin.call("PUT", "system/setting", **setting, value=archive.isoline_url)


def test_a_run_survives_girder(archive: Archive) -> None:
    run = archive.start("slow", (5000, 6200, 7048, 7224), parameters={"seconds": 0.5})
    wait_for(lambda: archive.state(run)["elements"], lambda count: count >= 4)
    archive.stack.restart()
    time.sleep(1)
    ended = archive.ended(run)
    assert ended["state"] == "done", ended
    found, kept = server_result(archive, run), stored(archive, run)
    assert found.keys() == kept.keys()
    (annotation,) = ended["annotations"]
    head = archive.admin.call("GET", f"annotation/{annotation}", limit=0)
    assert head["_elementCount"] == len(head["annotation"]["elements"]) == len(kept)
