"""Pointing at objects: through the plugin's route, and with the mouse in HistomicsUI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openslide
import pytest
import shapely
from playwright.sync_api import Page, expect

from tests.dsa.conftest import Archive, wait_for
from tests.dsa.pages import BOUNDS as WHERE
from tests.dsa.pages import choose, drag, on_screen

BOUNDS = (5400, 6500, 6200, 7300)
"""A part of what `page` shows, free of panels."""
LEVEL = {"level": 3}
"""Where the model "flood" works here: it looks at the whole slide."""


@pytest.fixture(scope="module")
def things(real_slide: Path) -> list[tuple[int, int]]:
    """Return a place inside each of the larger dark things in BOUNDS, the largest first."""
    x0, y0, x1, y1 = BOUNDS
    with openslide.OpenSlide(real_slide) as slide:
        pixels = np.asarray(slide.read_region((x0, y0), 0, (x1 - x0, y1 - y0)).convert("RGB"))
    coarse = cv2.resize(pixels.mean(axis=2), None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
    dark = (coarse < 115).astype(np.uint8)
    depth = cv2.distanceTransform(dark, cv2.DIST_L2, 5)
    _, labels = cv2.connectedComponents(dark)
    depths = {int(label): float(depth[labels == label].max()) for label in np.unique(labels)[1:]}
    deepest = sorted(depths, key=depths.__getitem__, reverse=True)
    places = (np.argmax(np.where(labels == label, depth, 0)) for label in deepest)
    rows, columns = np.unravel_index(list(places), depth.shape)
    return [(x0 + 8 * int(x) + 4, y0 + 8 * int(y) + 4) for x, y in zip(columns, rows, strict=True)]


def point(place: tuple[int, int], **more: bool) -> dict[str, object]:
    return {"kind": "point", "points": [[*place]], **more}


def beside(place: tuple[int, int]) -> tuple[int, int]:
    """Return another pixel of the same thing: one pixel cannot be in and out."""
    return place[0] + 3, place[1] + 3


def ask(archive: Archive, *prompts: object) -> list[Any]:
    """Return the events that answer `prompts`."""
    body = {"model": "flood", "parameters": LEVEL, "prompts": prompts}
    answer = archive.admin.open("POST", f"isoline/item/{archive.item}/prompt", json=body)
    assert answer.ok, answer.text
    return [json.loads(line) for line in answer.iter_lines() if line]


def found(events: list[Any]) -> list[Any]:
    assert events[-1]["event"] == "done", events
    return [each for event in events if event["event"] == "contours" for each in event["features"]]


def shape(element: Any) -> tuple[Any, Any]:
    return element["points"], element.get("holes") or []


def surface(elements: list[Any]) -> shapely.Geometry:
    """Return what `elements` cover, in image pixels."""
    rings = [[each["points"], *(each.get("holes") or [])] for each in elements]
    return shapely.union_all([shapely.force_2d(shapely.Polygon(r[0], r[1:])) for r in rings])


def test_one_object_is_told_and_nothing_stored(
    archive: Archive, things: list[tuple[int, int]]
) -> None:
    one, other = things[:2]
    elements = found(ask(archive, point(one)))
    assert surface(elements).contains(shapely.Point(one))
    assert not surface(elements).contains(shapely.Point(other))
    both = surface(found(ask(archive, point(one), point(other))))
    assert both.contains(shapely.MultiPoint([one, other]))
    again = found(ask(archive, point(one), point(other), point(beside(other), include=False)))
    assert again == elements
    assert archive.annotations() == []
    assert archive.admin.call("GET", f"isoline/item/{archive.item}")["runs"] == []


def test_nothing_there_is_said(archive: Archive, things: list[tuple[int, int]]) -> None:
    events = ask(archive, point(things[0]), point(beside(things[0]), include=False))
    assert found(events) == []
    (warning,) = (event for event in events if event["event"] == "warned")
    assert "bright" in warning["message"]


def test_who_may_not_write_may_not_ask(archive: Archive) -> None:
    body = {"model": "flood", "prompts": [point((6000, 7000))]}
    route = f"isoline/item/{archive.item}/prompt"
    assert archive.stack.guest.open("POST", route, json=body).status_code == 403
    answer = archive.admin.open("POST", route, json={**body, "image": "slides/other.svs"})
    assert answer.status_code == 400
    assert "unknown keys: image" in answer.text
    answer = archive.admin.open("POST", route, json={**body, "model": "nuclei"})
    assert answer.status_code == 422, answer.text


@pytest.fixture
def page(page: Page) -> Page:
    """The slide, with the tools of the model "flood"."""
    choose(page, "flood", **LEVEL)
    return page


def click(page: Page, place: tuple[int, int]) -> None:
    """Click on the slide at an image pixel."""
    page.mouse.click(*on_screen(page, place))


def answered(page: Page, shown: int) -> None:
    """Wait until the last answer is on the slide, which shows so many elements."""
    prompting = page.locator(".isoline-prompting")
    expect(prompting).to_have_attribute("data-state", "ready")
    expect(prompting).to_have_attribute("data-shown", str(shown))


def stored(archive: Archive) -> dict[str, list[Any]]:
    """Return the elements of the slide's annotations, by the annotations' names."""
    listed = archive.admin.call("GET", "annotation", itemId=archive.item)
    return {each["annotation"]["name"]: archive.elements(each["_id"]) for each in listed}


def test_objects_are_clicked_corrected_accepted_and_stay(
    archive: Archive, page: Page, things: list[tuple[int, int]]
) -> None:
    one, other, third = things[:3]
    page.click("text=Click to segment")
    click(page, one)
    answered(page, 1)
    expect(page.locator(".isoline-prompting >> text=Accept")).to_be_in_viewport(ratio=1)
    click(page, other)
    answered(page, 2)
    page.keyboard.press("-")
    click(page, beside(other))
    answered(page, 1)
    page.keyboard.press("Control+z")
    answered(page, 2)
    with page.expect_request(lambda request: request.url.endswith("/prompt")) as asked:
        page.keyboard.down("Alt")  # the sign is still minus
        click(page, beside(other))
        page.keyboard.up("Alt")
    assert json.loads(asked.value.post_data or "")["prompts"][-1]["include"] is True
    answered(page, 2)
    page.click(".isoline-prompting >> text=Undo")
    page.click(".isoline-prompting >> text=Undo")
    answered(page, 1)
    page.keyboard.press("Enter")
    page.fill("#isoline-class", "vessel")
    click(page, other)
    answered(page, 2)
    assert archive.annotations() == []
    page.click(".isoline-prompting >> text=Accept")
    expect(page.locator(".isoline-status")).to_contain_text("Accepted")

    (elements,) = stored(archive).values()
    first, second = found(ask(archive, point(one))), found(ask(archive, point(other)))
    assert [shape(each) for each in elements] == [shape(each) for each in first + second]
    assert [each["group"] for each in elements] == ["thing", "vessel"]

    page.fill("#isoline-class", "")
    click(page, third)
    answered(page, 1)
    page.click(".isoline-prompting >> text=Accept")
    wait_for(lambda: sum(map(len, stored(archive).values())), lambda count: count == 3)
    assert list(stored(archive)) == ["Flood"]
    assert {each["group"] for each in stored(archive)["Flood"]} == {"vessel", "thing"}
    page.reload()
    page.wait_for_selector("#isoline-panel")
    expect(page.locator(".h-annotation-group-name", has_text="vessel")).to_be_visible()


def test_a_box_is_dragged_around_an_object(
    archive: Archive, page: Page, things: list[tuple[int, int]]
) -> None:
    choose(page, "click")
    (x, y) = things[0]
    low, high = (x - 60, y - 60), (x + 60, y + 60)
    page.click(".isoline-prompting >> text=Box")
    with page.expect_request(lambda request: request.url.endswith("/prompt")) as asked:
        drag(page, low, high)  # at once: the page takes the moves of a mouse a few at a time
    (drawn,) = json.loads(asked.value.post_data or "")["prompts"]
    assert (drawn["kind"], drawn["include"]) == ("box", True)
    assert np.allclose(drawn["points"], (low, high), atol=2)
    expect(page.locator(".isoline-prompting")).to_have_attribute("data-state", "ready")


def test_another_slide_has_tools_of_its_own(
    archive: Archive, page: Page, things: list[tuple[int, int]]
) -> None:
    page.click("text=Click to segment")
    click(page, things[0])
    answered(page, 1)
    other = archive.admin.call("POST", f"item/{archive.item}/copy", name="other.svs")["_id"]
    try:
        old = page.locator(".isoline-prompting").element_handle()
        page.evaluate(f"location.hash = '?image={other}&bounds={WHERE}'")
        page.wait_for_function("(old) => !old.isConnected", arg=old)
        choose(page, "flood", **LEVEL)
        page.click("text=Click to segment")
        click(page, things[1])
        answered(page, 1)
        page.click(".isoline-prompting >> text=Accept")
        expect(page.locator(".isoline-status")).to_contain_text("Accepted")
        (annotation,) = archive.admin.call("GET", "annotation", itemId=other)
        assert [shape(each) for each in archive.elements(annotation["_id"])] == [
            shape(each) for each in found(ask(archive, point(things[1])))
        ]
        assert archive.annotations() == []
    finally:
        archive.admin.call("DELETE", f"item/{other}")


def test_a_scribble_and_a_lasso_go_through_what_they_cross(
    archive: Archive, page: Page, things: list[tuple[int, int]]
) -> None:
    one, other = things[:2]
    expect(page.locator(".isoline-prompting button[data-tool]")).to_have_count(3)  # no box
    for tool in ("Scribble", "Lasso"):
        page.click(f".isoline-prompting >> text={tool}")
        with page.expect_request(lambda request: request.url.endswith("/prompt")) as asked:
            page.mouse.move(*on_screen(page, one))
            page.mouse.down()
            page.mouse.move(*on_screen(page, (one[0], other[1])), steps=9)
            page.mouse.move(*on_screen(page, other), steps=9)
            page.mouse.up()
        drawn = json.loads(asked.value.post_data or "")["prompts"][-1]
        assert drawn["kind"] == {"Scribble": "scribble", "Lasso": "polygon"}[tool]
        line = shapely.LineString(drawn["points"])
        assert line.distance(shapely.Point(one)) < 2
        assert line.distance(shapely.Point(one[0], other[1])) < 10
        assert line.distance(shapely.Point(other)) < 10
    page.click(".isoline-prompting >> text=Discard")
    answered(page, 0)
    page.keyboard.press("Escape")
    with page.expect_request(lambda request: "/tiles/" in request.url):  # the slide moves again
        page.mouse.move(500, 500)
        page.mouse.down()
        page.mouse.move(200, 300, steps=4)
        page.mouse.up()


def test_a_refusal_is_shown_and_taken_back(
    archive: Archive, page: Page, things: list[tuple[int, int]]
) -> None:
    page.click("text=Click to segment")
    click(page, things[0])
    answered(page, 1)
    setting = {"key": "isoline.url"}
    archive.admin.call("PUT", "system/setting", **setting, value="http://127.0.0.1:9")
    try:
        click(page, things[1])
        expect(page.locator(".isoline-alert")).to_contain_text("does not respond; trying again")
        page.get_by_role("button", name="Stop").click()
        answered(page, 1)
    finally:
        archive.admin.call("PUT", "system/setting", **setting, value=archive.isoline_url)
    page.select_option("#isoline-model", "slow")
    expect(page.locator(".isoline-status")).to_contain_text("Accept or discard")
    assert page.input_value("#isoline-model") == "flood"
    page.keyboard.press("Control+z")
    click(page, things[1])
    answered(page, 2)
    expect(page.locator(".isoline-alert")).to_be_hidden()
