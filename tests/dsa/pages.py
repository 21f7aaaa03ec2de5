"""HistomicsUI in a browser: what every test of the panel does there."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from tests.dsa.stack import PASSWORD, Stack

WIDTH, HEIGHT = 1024, 768
"""The smallest screen that the panel is made for; drawing takes a time in proportion to it."""
BOUNDS = "5400,6500,6600,7300,0"
"""The part of the slide that `show` shows: left, top, right, bottom, rotation."""
SLOW = 120_000
"""Milliseconds: the browser draws without a GPU, on a machine with other work."""
ORANGE = (200, 100, 0)
"""What the model "slow" draws in; no stain looks like it."""


def log_in(page: Page, url: str, login: str) -> None:
    """Log in as Girder's form does, which sometimes loses a click while it fades in."""
    page.goto(url)
    page.wait_for_selector(".g-login")
    page.evaluate("(who) => girder.auth.login(...who)", [login, PASSWORD])
    page.wait_for_function("() => girder.auth.getCurrentUser()")


def show(page: Page, stack: Stack) -> None:
    """Open the slide at BOUNDS in a fresh page and wait for the panel.

    A view that still glides after it was dragged writes where it is into the address, over what a
    test puts there.
    """
    page.goto("about:blank")
    page.goto(f"{stack.url}/histomics#?image={stack.item}&bounds={BOUNDS}")
    page.wait_for_selector("#isoline-panel")


def choose(page: Page, model: str, **parameters: object) -> None:
    """Choose a model and fill in its form."""
    page.locator("#isoline-model option").first.wait_for(state="attached")
    page.select_option("#isoline-model", model)
    if parameters:
        page.click("#isoline-panel summary")
    for name, value in parameters.items():
        page.fill(f"#isoline-parameter-{name}", str(value))


def on_screen(page: Page, place: tuple[float, float]) -> tuple[float, float]:
    """Return where an image pixel, which has to be in view, is on the page."""
    box = page.locator(".geojs-map").first.bounding_box()
    assert box is not None
    left, top, right, bottom = map(float, page.url.split("bounds=")[1].split("%2C")[:4])
    assert left < place[0] < right, page.url
    assert top < place[1] < bottom, page.url
    return (
        box["x"] + box["width"] * (place[0] - left) / (right - left),
        box["y"] + box["height"] * (place[1] - top) / (bottom - top),
    )


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag from one image pixel to another, with the left button."""
    page.mouse.move(*on_screen(page, start))
    page.mouse.down()
    page.mouse.move(*on_screen(page, end), steps=3)
    page.mouse.up()


def save_and_test_settings(page: Page, girder: str, isoline: str) -> None:
    """Open Isoline's page among Girder's settings, see the server's address there, and try it."""
    page.goto(f"{girder}/#plugins/isoline/config")
    expect(page.locator("[id='isoline.url']")).to_have_value(isoline)
    page.click("text=Save and test")
    expect(page.locator(".isoline-settings [role=status]")).to_contain_text("is ready")


def orange_pixels(page: Page) -> int:
    """Return how many pixels of the slide are drawn over in the colour of "slow"."""
    shot = page.screenshot(clip={"x": 0, "y": 60, "width": 720, "height": 700})
    rgb = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
    return int((np.abs(rgb - ORANGE).max(axis=2) < 40).sum())
