"""The viewer at `/`, in a headless Chromium, against a real server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from playwright.sync_api import ElementHandle, Page

from tests import browser
from tests.serving import serving
from tests.slides import Shapes, disks

pytestmark = pytest.mark.slow

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
"""To look at; nothing compares them."""
IDLE = "!document.querySelector('#segment').disabled"


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Shapes:
    return disks(tmp_path_factory.mktemp("images") / "disks.tif", (3001, 2003))


@pytest.fixture(scope="module")
def url(slide: Shapes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    flat = np.full((300, 400, 3), 230, np.uint8)
    flat[100:120, 50:90] = 40
    Image.fromarray(flat).save(slide.path.with_name("flat #1.png"))
    with serving(slide.path.parent, tmp_path_factory.mktemp("data")) as address:
        yield address


@pytest.fixture(scope="module")
def opened() -> Iterator[Page]:
    with browser.page() as page:
        yield page


@pytest.fixture
def page(opened: Page, url: str) -> Page:
    """The viewer, freshly loaded, the slide of shapes chosen."""
    opened.goto(url)
    opened.wait_for_function("document.querySelector('#picture').href.baseVal")
    return opened


def choose(page: Page, model: str, image: str = "slides/disks.tif", **parameters: Any) -> None:
    if image != "slides/disks.tif":
        page.select_option("#image", image)
        page.wait_for_function("document.querySelector('#picture').href.baseVal")
    page.select_option("#model", model)
    for name, value in parameters.items():
        field = page.locator("#parameters label", has_text=name)
        if field.locator("select").count():
            field.locator("select").select_option(value)
        else:
            field.locator("input").fill(str(value))


def segment(page: Page) -> None:
    """Segment what is seen and wait for the end."""
    page.evaluate("document.querySelector('#status').value = ''")
    page.click("#segment")
    page.wait_for_function("document.querySelector('#status').value.includes('found in')")
    page.wait_for_function(IDLE)


def zoom_to(page: Page, x: float, y: float, notches: int) -> None:
    """Turn the wheel over a point of the screen, and wait for the sharper picture."""
    before = page.evaluate("document.querySelector('#picture').href.baseVal")
    page.mouse.move(x, y)
    for _ in range(notches):
        page.mouse.wheel(0, -100)
    page.wait_for_function(
        "(before) => document.querySelector('#picture').href.baseVal !== before", arg=before
    )


def shown(page: Page) -> int:
    return int(page.evaluate("document.querySelectorAll('#contours path').length"))


def last_job(url: str) -> dict[str, Any]:
    jobs: list[dict[str, Any]] = requests.get(f"{url}/v1/jobs", timeout=20).json()["jobs"]
    return jobs[-1]


def test_contours_appear_while_the_rest_is_computed(page: Page, url: str, slide: Shapes) -> None:
    choose(page, "threshold", below=180)
    page.evaluate(WATCH)
    segment(page)
    watched = page.evaluate("window.watched")
    assert shown(page) == last_job(url)["objects"] == slide.count
    assert page.inner_text("#count") == str(slide.count)
    assert watched[0]["progress"] < 0.5
    assert len({each["count"] for each in watched}) > 3
    assert page.inner_text("#first").startswith("the first after ")
    assert page.inner_text("#status").startswith(f"{slide.count} found in ")
    assert page.evaluate("document.querySelector('#progress').value") == 1
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "viewer.png")


WATCH = """() => {
  window.watched = [];
  new MutationObserver(() => window.watched.push({
    progress: document.querySelector("#progress").value,
    count: document.querySelectorAll("#contours path").length,
    provisional: document.querySelectorAll("#contours .provisional").length,
  })).observe(document.querySelector("#contours"), { childList: true });
}"""


def test_a_second_run_of_the_same_scope_adds_what_is_new(page: Page, slide: Shapes) -> None:
    choose(page, "threshold", below=180)
    zoom_to(page, 400, 400, notches=6)
    segment(page)
    some = shown(page)
    assert 0 < some < slide.count
    segment(page)
    assert shown(page) == some
    choose(page, "threshold", below=60)  # nothing is so dark: what was there is of another scope
    segment(page)
    assert shown(page) == 0


def test_pieces_are_shown_and_then_replaced(page: Page, url: str) -> None:
    choose(page, "threshold", below=180, output="mask")
    page.evaluate(WATCH)
    segment(page)
    watched = page.evaluate("window.watched")
    assert max(each["provisional"] for each in watched) > 0
    assert watched[-1]["provisional"] == 0
    assert shown(page) == last_job(url)["objects"] > 0


def test_stop(page: Page, url: str) -> None:
    choose(page, "slow", seconds=1)
    page.click("#segment")
    page.wait_for_function("document.querySelectorAll('#contours path').length > 0")
    page.click("#stop")
    page.wait_for_function(IDLE)
    assert last_job(url)["state"] == "cancelled"
    assert shown(page) == last_job(url)["objects"]


def test_contours_lie_on_what_they_outline(page: Page) -> None:
    """At 5 screen pixels and more to an image pixel, half a pixel would be seen."""
    choose(page, "threshold", below=180)
    zoom_to(page, 640, 450, notches=14)
    segment(page)
    outlines = [_box(path) for path in page.query_selector_all("#contours path")]
    (stage,) = (_box(view) for view in page.query_selector_all("#view"))
    page.add_style_tag(content="path { display: none }")
    dark = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L")) < 150
    whole = [box for box in outlines if _inside(box, stage)]
    assert whole
    for x0, y0, x1, y1 in whole:
        seen = dark[int(y0) - 8 : int(y1) + 9, int(x0) - 8 : int(x1) + 9]
        columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
        edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) - 8
        edges += np.array([int(x0), int(y0)] * 2)
        assert np.abs(edges - [x0, y0, x1, y1]).max() < 2


def _box(element: ElementHandle) -> list[float]:
    """Return left, top, right, bottom on the screen."""
    box: list[float] = element.evaluate(
        "(it) => { const r = it.getBoundingClientRect();"
        " return [r.left, r.top, r.right, r.bottom]; }"
    )
    return box


def _inside(box: list[float], stage: list[float]) -> bool:
    """Return whether `box` lies in `stage` with room around it."""
    inwards = np.subtract(box, stage) * [1, 1, -1, -1]
    return bool((inwards > 9).all())


def test_dragging_moves_the_image(page: Page) -> None:
    zoom_to(page, 640, 450, notches=8)
    before = page.evaluate("document.querySelector('#view').viewBox.baseVal.x")
    scale = page.evaluate("document.querySelector('#view').viewBox.baseVal.width") / 1280
    page.mouse.move(640, 450)
    page.mouse.down()
    page.mouse.move(540, 450, steps=4)
    page.mouse.up()
    after = page.evaluate("document.querySelector('#view').viewBox.baseVal.x")
    assert after - before == pytest.approx(100 * scale, rel=0.02)


def test_a_problem_is_shown_with_its_remedy(page: Page) -> None:
    choose(page, "nuclei", image="slides/flat #1.png")
    page.click("#segment")
    page.wait_for_function("document.querySelector('#problem').value.includes('spacing_um')")
    page.fill("#spacing", "0.25")
    segment(page)
    assert page.inner_text("#problem").startswith("there is too little tissue")  # a warning
    assert page.inner_text("#status").startswith("1 found in ")


def test_a_problem_that_is_solved_is_no_longer_shown(page: Page) -> None:
    choose(page, "threshold", below=999)
    page.click("#segment")
    page.wait_for_function("document.querySelector('#problem').value.includes('0 to 255')")
    page.locator("#parameters label", has_text="below").locator("input").fill("180")
    segment(page)
    assert page.inner_text("#problem") == ""


def test_what_cannot_run_says_why(page: Page) -> None:
    choose(page, "epithelium")
    assert "isoline models pull epithelium" in page.inner_text("#problem")


def click_at(page: Page, x: float, y: float, **options: Any) -> None:
    """Click on an image point and wait for the answer."""
    page.evaluate("document.querySelector('#status').value = ''")
    at = page.evaluate(
        """([x, y]) => {
            const view = document.querySelector('#view');
            const { x: left, y: top } = new DOMPoint(x, y).matrixTransform(view.getScreenCTM());
            return [left, top];
        }""",
        [x, y],
    )
    if options.get("shift"):
        page.keyboard.down("Shift")
    page.mouse.click(*at)
    page.keyboard.up("Shift")
    page.wait_for_function("document.querySelector('#status').value.includes('found in')")


def bounds(page: Page) -> list[list[float]]:
    """Return x, y, width, height of each contour, in image pixels."""
    boxes: list[list[float]] = page.evaluate(
        """[...document.querySelectorAll('#contours path')].map((path) => {
            const { x, y, width, height } = path.getBBox();
            return [x, y, width, height];
        })"""
    )
    return boxes


def test_clicks_point_at_one_object_after_the_other(page: Page) -> None:
    choose(page, "flood", image="slides/flat #1.png")
    assert page.inner_text("#segment") == "Next object"
    click_at(page, 70, 110)
    assert bounds(page) == [[50, 100, 40, 20]]
    click_at(page, 80, 105)
    assert bounds(page) == [[50, 100, 40, 20]]  # one object, pointed at twice
    page.screenshot(path=SCREENSHOTS / "clicks.png")
    click_at(page, 60, 110, shift=True)
    assert bounds(page) == []
    assert page.inner_text("#problem") == "it is bright there"
    assert page.locator("#marks path").count() == 3
    page.click("#segment")
    assert page.locator("#marks path").count() == 0
    click_at(page, 70, 110)
    page.click("#segment")
    assert bounds(page) == [[50, 100, 40, 20]]
