"""The panel in HistomicsUI, in a real browser, on a real slide."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests import browser
from tests.dsa.conftest import Archive, wait_for
from tests.dsa.stack import PASSWORD
from tests.dsa.test_rest import server_result, shape, stored

ORANGE = (200, 100, 0)
"""What the model "slow" draws in; no stain looks like it."""
BOUNDS = "5400,6500,6600,7300,0"
SLOW = 120_000
"""Milliseconds: the browser draws without a GPU, on a machine with other work."""


@pytest.fixture
def page() -> Iterator[Page]:
    with browser.page(1400, 1000) as opened:
        opened.set_default_timeout(SLOW)
        expect.set_options(timeout=SLOW)
        yield opened


def log_in(page: Page, login: str) -> None:
    """Log in as Girder's form does, which sometimes loses a click while it fades in."""
    page.wait_for_selector(".g-login")
    page.evaluate("(who) => girder.auth.login(...who)", [login, PASSWORD])
    page.wait_for_function("() => girder.auth.getCurrentUser()")


def open_slide(page: Page, archive: Archive, login: str) -> None:
    """Log in, open the slide and wait for the panel."""
    page.goto(f"{archive.stack.url}/histomics")
    log_in(page, login)
    show(page, archive)


def show(page: Page, archive: Archive) -> None:
    """Open the slide at BOUNDS in a fresh page and wait for the panel.

    A view that still glides after it was dragged writes where it is into the address, over what a
    test puts there.
    """
    page.goto("about:blank")
    page.goto(f"{archive.stack.url}/histomics#?image={archive.item}&bounds={BOUNDS}")
    page.wait_for_selector("#isoline-panel")


def choose(page: Page, model: str, **parameters: object) -> None:
    page.locator("#isoline-model option").first.wait_for(state="attached")
    page.select_option("#isoline-model", model)
    if parameters:
        page.click("#isoline-panel summary")
    for name, value in parameters.items():
        page.fill(f"#isoline-parameter-{name}", str(value))


def orange_pixels(page: Page) -> int:
    """Return how many pixels of the slide are drawn over in the model's colour."""
    shot = page.screenshot(clip={"x": 0, "y": 60, "width": 1080, "height": 900})
    rgb = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
    return int((np.abs(rgb - ORANGE).max(axis=2) < 40).sum())


def test_contours_grow_are_stopped_accepted_and_stay(archive: Archive, page: Page) -> None:
    open_slide(page, archive, "admin")
    choose(page, "slow", seconds=2)
    assert orange_pixels(page) == 0
    page.click("text=Segment what I see")
    row = page.locator(".isoline-run")
    # drawn in the frame after it has come
    wait_for(lambda: orange_pixels(page), lambda count: count > 100)
    # outlines, not fills alone, of those that came after the first
    wait_for(lambda: orange_pixels(page), lambda count: count > 6000)
    assert row.get_attribute("data-state") == "running"
    (run,) = archive.admin.call("GET", f"isoline/item/{archive.item}")["runs"]
    assert archive.state(run)["state"] == "running"
    expect(row).to_contain_text("tiles")

    row.get_by_text("Stop").click()
    expect(row).to_have_attribute("data-state", "cancelled")
    expect(row).to_contain_text("Stopped")
    row.get_by_text("Accept").click()
    expect(row).to_have_count(0)
    expect(page.locator(".isoline-status")).to_contain_text("accepted")
    page.locator(".h-annotation-group-name", has_text="half").click()
    expect(page.locator(".h-annotation .h-annotation-name")).to_have_text("Slow")
    assert orange_pixels(page) > 6000
    found, kept = server_result(archive, run), stored(archive, run)
    assert found
    assert {each: shape(found[each]) for each in found} == {k: shape(v) for k, v in kept.items()}

    page.reload()
    page.wait_for_selector("#isoline-panel")
    wait_for(lambda: orange_pixels(page), lambda count: count > 100)
    group = page.locator(".h-annotation-group-name", has_text="half")
    group.click()
    expect(page.locator(".h-annotation", has_text="Slow")).to_have_count(1)


def test_an_edit_in_the_browser_outlives_the_next_run(archive: Archive, page: Page) -> None:
    region = (5600.0, 6600.0, 6300.0, 7200.0)
    first = archive.accepted(archive.start("slow", region))
    (annotation,) = first["annotations"]
    open_slide(page, archive, "admin")
    wait_for(lambda: orange_pixels(page), lambda count: count > 100)
    before = {each["id"]: each for each in archive.elements(annotation)}
    page.locator(".h-annotation-group-name", has_text="half").click()
    page.locator(".h-annotation .h-annotation-name").click()
    page.locator(".h-draw-widget .h-edit-element").first.click()
    page.fill("#h-group-name", "vessel")
    with page.expect_response(lambda answer: answer.request.method == "PATCH") as saved:
        page.click(".modal-footer .h-submit")
    assert saved.value.ok
    (edited,) = (each for each in archive.elements(annotation) if each["group"] == "vessel")
    assert edited["points"] == before[edited["id"]]["points"]

    second = archive.accepted(archive.start("slow", region))
    assert [each["id"] for each in archive.elements(annotation)] == [edited["id"]]
    again = {each["id"] for each in archive.elements(second["annotations"][0])}
    assert again == before.keys() - {edited["id"]}


def test_who_may_not_write_is_told(archive: Archive, page: Page) -> None:
    open_slide(page, archive, "guest")
    expect(page.locator(".isoline-status")).to_contain_text("you need the right to write")
    for each in page.locator(".isoline-tools button").all():
        assert each.is_disabled()


def test_a_server_that_is_down_is_named_and_asked_again(archive: Archive, page: Page) -> None:
    down, up = "http://127.0.0.1:9", archive.isoline_url
    archive.admin.call("PUT", "system/setting", key="isoline.url", value=down)
    try:
        open_slide(page, archive, "admin")
        expect(page.locator(".isoline-alert")).to_contain_text("does not answer")
    finally:
        archive.admin.call("PUT", "system/setting", key="isoline.url", value=up)
    page.click("text=Try again")
    expect(page.locator(".isoline-alert")).to_be_hidden()
    expect(page.locator("text=Segment what I see")).to_be_enabled()


def test_a_drawn_polygon_is_segmented(archive: Archive, page: Page) -> None:
    open_slide(page, archive, "admin")
    choose(page, "slow", seconds=0.1)
    page.click("#isoline-panel >> text=Polygon")
    expect(page.locator(".isoline-status")).to_contain_text("Escape gives up")
    for x, y in ((300, 300), (700, 320), (500, 700)):
        page.mouse.move(x, y)
        page.mouse.click(x, y)
    page.mouse.dblclick(320, 500)
    row = page.locator(".isoline-run")
    expect(row).to_have_attribute("data-state", "done")
    (run,) = archive.admin.call("GET", f"isoline/item/{archive.item}")["runs"]
    assert run["elements"] > 0
    row.get_by_text("Discard").click()
    expect(row).to_have_count(0)
    assert archive.annotations() == []


def test_the_focus_follows_the_view(archive: Archive, page: Page) -> None:
    open_slide(page, archive, "admin")
    choose(page, "slow", seconds=1)
    page.click("text=Segment what I see")
    page.wait_for_selector(".isoline-run[data-state=running]")
    with page.expect_request(lambda request: request.url.endswith("/focus")) as asked:
        page.mouse.move(500, 500)
        page.mouse.down()
        page.mouse.move(300, 400, steps=4)
        page.mouse.up()
    x, y = json.loads(asked.value.post_data or "")
    assert 6000 < x < 7200
    assert 6900 < y < 7700


def test_nothing_is_left_on_window(archive: Archive, page: Page) -> None:
    open_slide(page, archive, "admin")
    leaked = page.evaluate("Object.keys(window).filter((key) => /isoline/i.test(key))")
    assert leaked == []


def test_settings_are_saved_and_tried(archive: Archive, page: Page) -> None:
    page.goto(f"{archive.stack.url}/")
    log_in(page, "admin")
    page.evaluate("location.hash = 'plugins/isoline/config'")
    address = page.locator("[id='isoline.url']")
    expect(address).to_have_value(archive.isoline_url)
    page.click("text=Save and test")
    expect(page.locator(".isoline-settings [role=status]")).to_contain_text("is ready")
