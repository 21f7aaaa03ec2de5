"""The panel in HistomicsUI, in a real browser, on a real slide."""

from __future__ import annotations

import json
import re
from typing import Any

import shapely
from playwright.sync_api import Browser, Locator, Page, expect

from tests import browser
from tests.dsa.conftest import OURS, Archive, wait_for
from tests.dsa.pages import (
    BOUNDS,
    SLOW,
    choose,
    drag,
    log_in,
    orange_pixels,
    save_and_test_settings,
    show,
)
from tests.dsa.test_rest import server_result, shape, stored


def only_run(archive: Archive) -> Any:
    """Return what Girder says of the one run that waits for its end or a verdict."""
    (run,) = archive.admin.call("GET", f"isoline/item/{archive.item}")["runs"]
    return run


def check_stored(archive: Archive, run: Any, row: Locator) -> None:
    """Check that a run that has ended is stored as the server tells it, and counted everywhere."""
    found, kept = server_result(archive, run), stored(archive, run)
    assert found
    assert {each: shape(found[each]) for each in found} == {k: shape(v) for k, v in kept.items()}
    (annotation,) = archive.state(run)["annotations"]
    head = archive.admin.call("GET", f"annotation/{annotation}", limit=1)
    assert head["_elementCount"] == archive.state(run)["elements"] == len(kept)
    expect(row).to_contain_text(f", {len(kept)} contours")


def test_contours_grow_are_stopped_accepted_and_stay(archive: Archive, page: Page) -> None:
    choose(page, "slow", seconds=2)
    assert orange_pixels(page) == 0
    expect(page.locator("text=Segment what I see")).to_be_in_viewport()
    page.click("text=Segment what I see")
    row = page.locator(".isoline-run")
    # drawn in the frame after it has come
    wait_for(lambda: orange_pixels(page), lambda count: count > 100)
    # outlines, not fills alone, of those that came after the first
    wait_for(lambda: orange_pixels(page), lambda count: count > 4000)
    assert row.get_attribute("data-state") == "running"
    run = only_run(archive)
    assert archive.state(run)["state"] == "running"
    expect(row).to_contain_text("tiles")

    row.get_by_text("Stop").click()
    expect(row).to_have_attribute("data-state", "cancelled")
    expect(row).to_contain_text("Stopped")
    check_stored(archive, run, row)
    row.get_by_text("Accept").click()
    expect(row).to_have_count(0)
    expect(page.locator(".isoline-status")).to_contain_text("accepted")
    page.locator(".h-annotation-group-name", has_text="half").click()
    expect(page.locator(".h-annotation .h-annotation-name")).to_have_text("Slow")
    assert orange_pixels(page) > 4000

    page.reload()
    page.wait_for_selector("#isoline-panel")
    wait_for(lambda: orange_pixels(page), lambda count: count > 100)
    group = page.locator(".h-annotation-group-name", has_text="half")
    group.click()
    expect(page.locator(".h-annotation", has_text="Slow")).to_have_count(1)


def test_an_edit_in_the_browser_outlives_the_next_run(archive: Archive, empty_page: Page) -> None:
    page = empty_page
    region = (5600.0, 6600.0, 6300.0, 7200.0)
    first = archive.accepted(archive.start("slow", region))
    (annotation,) = first["annotations"]
    show(page, archive.stack)
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


def test_who_may_not_write_is_told(archive: Archive, chromium: Browser) -> None:
    with browser.page_of(chromium, errors_of=OURS) as page:
        page.set_default_timeout(SLOW)
        log_in(page, f"{archive.stack.url}/histomics", "guest")
        show(page, archive.stack)
        expect(page.locator(".isoline-status")).to_contain_text("you need write access")
        buttons = page.locator(".isoline-tools button").all()
        assert len(buttons) >= 3
        for each in buttons:
            assert each.is_disabled()


def test_a_server_that_is_down_is_named_and_asked_again(archive: Archive, empty_page: Page) -> None:
    page = empty_page
    down, up = "http://127.0.0.1:9", archive.isoline_url
    archive.admin.call("PUT", "system/setting", key="isoline.url", value=down)
    try:
        show(page, archive.stack)
        expect(page.locator(".isoline-alert")).to_contain_text("does not respond; trying again")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("text=Try again")).to_be_visible()
    finally:
        archive.admin.call("PUT", "system/setting", key="isoline.url", value=up)
    page.click("text=Try again")
    expect(page.locator(".isoline-alert")).to_be_hidden()
    expect(page.locator("text=Segment what I see")).to_be_enabled()


def test_a_whole_slide_begins_where_one_looks_and_says_how_long(
    archive: Archive, page: Page
) -> None:
    choose(page, "slow", seconds=0.5)
    page.click("text=Whole slide")
    row = page.locator(".isoline-run")
    said = re.compile(r"^\d+ of \d{3,} tiles, \d+ (min|h) left$")
    expect(row.locator(".isoline-text")).to_have_text(said)
    wait_for(lambda: orange_pixels(page), lambda count: count > 100)
    row.get_by_text("Stop").click()
    expect(row).to_have_attribute("data-state", "cancelled")
    run = only_run(archive)
    assert run["tilesDone"] < 0.1 * run["tiles"]
    check_stored(archive, run, row)


def test_a_run_goes_on_while_nobody_looks(archive: Archive, page: Page) -> None:
    choose(page, "slow", seconds=0.5)
    page.click("text=Whole slide")
    row = page.locator(".isoline-run")
    expect(row).to_have_attribute("data-shown", re.compile("[1-9]"))
    page.goto("about:blank")
    run = only_run(archive)
    before = run["elements"]
    wait_for(lambda: archive.state(run)["elements"], lambda count: count > before)

    show(page, archive.stack)
    expect(row).to_have_attribute("data-state", "running")
    expect(row).to_have_attribute("data-shown", re.compile("[1-9]"))
    wait_for(lambda: orange_pixels(page), lambda count: count > 4000)
    row.get_by_text("Stop").click()
    expect(row).to_have_attribute("data-state", "cancelled")
    check_stored(archive, run, row)
    page.reload()
    check_stored(archive, run, row)
    expect(row.get_by_text("Accept")).to_be_visible()


def test_a_drawn_rectangle_is_segmented_and_nothing_beside_it(archive: Archive, page: Page) -> None:
    choose(page, "slow", seconds=0.1)
    page.click("#isoline-panel >> text=Polygon")
    page.mouse.click(500, 500)
    page.keyboard.press("Escape")
    expect(page.locator(".isoline-status")).to_be_empty()
    page.click("#isoline-panel >> text=Rectangle")
    with page.expect_request(lambda request: request.url.endswith("/run")) as asked:
        drag(page, (5500, 6600), (6050, 7000))
    region = shapely.Polygon(json.loads(asked.value.post_data or "")["region"]["coordinates"][0])
    assert abs(region.area - region.envelope.area) < 1
    drawn = shapely.box(5500, 6600, 6050, 7000)
    assert region.hausdorff_distance(drawn) < 3
    expect(page.locator(".isoline-run")).to_have_attribute("data-state", "done")
    kept = stored(archive, only_run(archive)).values()
    found = shapely.union_all([shapely.force_2d(shapely.Polygon(each["points"])) for each in kept])
    assert drawn.buffer(4).contains(found)
    assert found.area > 0.3 * drawn.area


FOCUSED = """() => {
    const {activeElement} = document;
    const {outlineStyle, boxShadow} = getComputedStyle(activeElement);
    const label = activeElement.labels && activeElement.labels[0];
    return {
        name: activeElement.getAttribute('aria-label') || (label || activeElement).innerText.trim(),
        seen: outlineStyle !== 'none' || boxShadow !== 'none'
    };
}"""


def walk_to(page: Page, name: str) -> None:
    """Press Tab until `name` has the keyboard; everything on the way has a name and is seen."""
    for _ in range(12):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        assert focused["name"]
        assert focused["seen"], focused
        if focused["name"] == name:
            return
    raise AssertionError(f"Tab does not lead to {name}")


def test_everything_can_be_done_with_the_keyboard(archive: Archive, page: Page) -> None:
    options = page.locator("#isoline-model option")
    options.first.wait_for(state="attached")
    models = options.evaluate_all("(all) => all.map(({value}) => value)")
    page.focus("#isoline-panel .s-panel-title-container")
    walk_to(page, "Model")
    page.keyboard.press("Home")
    for _ in range(models.index("slow")):
        page.keyboard.press("ArrowDown")
    assert page.input_value("#isoline-model") == "slow"
    walk_to(page, "Parameters")
    page.keyboard.press("Enter")
    walk_to(page, "seconds")
    page.keyboard.press("Control+a")
    page.keyboard.type("2")
    walk_to(page, "Segment what I see")
    page.keyboard.press("Enter")
    row = page.locator(".isoline-run")
    expect(row).to_have_attribute("data-shown", re.compile("[1-9]"))
    assert page.evaluate(FOCUSED)["name"] == "Segment what I see"
    walk_to(page, "Stop")
    page.keyboard.press("Space")
    expect(row).to_have_attribute("data-state", "cancelled")
    assert page.evaluate(FOCUSED)["name"] == "Accept"
    page.keyboard.press("Enter")
    expect(page.locator(".isoline-status")).to_contain_text("accepted")
    assert page.evaluate(FOCUSED)["name"] == "Segment what I see"
    (annotation,) = archive.annotations()
    assert archive.elements(annotation)


def test_a_drawn_polygon_is_segmented(archive: Archive, page: Page) -> None:
    choose(page, "slow", seconds=0.1)
    page.click("#isoline-panel >> text=Polygon")
    expect(page.locator(".isoline-status")).to_contain_text("Escape cancels")
    for x, y in ((300, 300), (700, 320), (500, 700)):
        page.mouse.move(x, y)
        page.mouse.click(x, y)
    page.mouse.dblclick(320, 500)
    row = page.locator(".isoline-run")
    expect(row).to_have_attribute("data-state", "done")
    run = only_run(archive)
    assert run["elements"] > 0
    assert orange_pixels(page) > 100
    row.get_by_text("Discard").click()
    expect(page.locator(".isoline-status")).to_contain_text("discarded")
    assert archive.annotations() == []
    expect(page.locator(".h-annotation-group-name", has_text="half")).to_have_count(0)
    wait_for(lambda: orange_pixels(page), lambda count: count == 0)


def test_the_focus_follows_the_view(archive: Archive, page: Page) -> None:
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


def test_without_the_plugin_its_annotations_are_ordinary_ones(
    archive: Archive, empty_page: Page
) -> None:
    page = empty_page
    run = archive.accepted(archive.start("slow", (5600.0, 6600.0, 6300.0, 7200.0)))
    (annotation,) = run["annotations"]
    with archive.stack.without_plugin():
        page.goto("about:blank")  # or only the fragment of the address may change
        page.goto(f"{archive.stack.url}/histomics#?image={archive.item}&bounds={BOUNDS}")
        # HistomicsUI by itself shows an annotation only if it hears of it after it has the image
        page.click(".h-show-all-annotations", timeout=SLOW)
        wait_for(lambda: orange_pixels(page), lambda count: count > 100)
        assert "isoline" not in page.inner_html("html").lower()
        assert archive.admin.open("GET", "isoline/models").status_code == 404
        document = archive.admin.call("GET", f"annotation/{annotation}", limit=0)["annotation"]
        fewer = {**document, "elements": document["elements"][1:]}
        archive.admin.call("PUT", f"annotation/{annotation}", json=fewer)
    assert archive.elements(annotation) == document["elements"][1:]


def test_settings_are_saved_and_tried(archive: Archive, empty_page: Page) -> None:
    save_and_test_settings(empty_page, archive.stack.url, archive.isoline_url)
